"""Calls of S3 through the AWS SDK: what both planes over it share.

What lives here: the lease's set for each call, and errors as ours. What must not: a verb
(``aws.py``, ``aws_data.py``), a second try (``engine.retry``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import anyio

from engine._aws.client import AnswerError, AwsClient, check_installed
from engine.config import Endpoints
from engine.errors import ConnectionFailed, ProtocolError, S3Error, TransferError
from engine.planes.answers import date_of
from engine.planes.errors import advise_on_checksums, s3_error
from engine.planes.lease_rules import is_near_expiry, judge
from engine.planes.regions import WRONG_REGION, BucketRegions
from engine.protocols import Clock, Lease
from engine.types import Credentials, S3Url


@final
class AwsCalls:
    """Signed calls of one engine to S3, each under the lease's set of that moment.

    The SDK signs by the clock of this machine, which it cannot be told to correct.

    Args:
        regions: What is known of buckets, shared by the planes of one engine.
        streams: For bytes of objects, see ``AwsClient``.

    Raises:
        UsageError: No SDK is installed.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        regions: BucketRegions,
        clock: Clock,
        user_agent: str,
        streams: bool = False,
    ) -> None:
        check_installed()
        self.regions = regions
        self.requests = 0
        self._endpoints = endpoints
        self._lease = lease
        self._clock = clock
        self._user_agent = user_agent
        self._streams = streams
        self._clients: dict[str, AwsClient] = {}

    def _client(self, region: str) -> AwsClient:
        client = self._clients.get(region)
        if client is None:
            client = self._clients[region] = AwsClient(
                "s3",
                self._endpoints,
                self._endpoints.s3,
                self._user_agent,
                region=region,
                streams=self._streams,
            )
        return client

    async def _region(self, bucket: str, credentials: Credentials) -> str:
        """The bucket's; it is asked where nobody gave one. Every answer to HeadBucket names it.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
        """
        if self.regions.should_ask(bucket):
            async with self.regions.asking:
                if self.regions.should_ask(bucket):
                    self.regions.asked(bucket, await self._ask_region(bucket, credentials))
        return self.regions.of(bucket)

    async def _ask_region(self, bucket: str, credentials: Credentials) -> str | None:
        client = self._client(self._endpoints.region)
        try:
            answer = await client.call("head_bucket", credentials, Bucket=bucket)
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
        except AnswerError as error:
            headers = error.headers
        except (ConnectionFailed, ProtocolError):
            return None  # the request that is to come fails by itself
        said = headers.get("x-amz-bucket-region")
        return str(said) if said else None

    async def call(
        self,
        operation: str,
        url: S3Url,
        parameters: Mapping[str, Any],
        *,
        behind_bare: Mapping[str, Any] | None = None,
        patience: anyio.CancelScope | None = None,
    ) -> Any:
        """One call; returns botocore's answer.

        Args:
            operation: botocore's name of it (``put_object``).
            behind_bare: Parameters of the GET that is asked for the code behind an answer
                without a body; None where answers have one.
            patience: The scope to send in; its end is that of the connection.

        Raises:
            TransferError: By class: what S3 or the network said.
        """
        words = operation.replace("_", " ").replace(" v2", "")
        credentials = await self._lease.ready()
        region = await self._region(url.bucket, credentials)
        client = self._client(region)
        sent_at = self._clock.monotonic()
        self.requests += 1
        try:
            with patience or anyio.CancelScope() as sending:
                answer = await client.call(operation, credentials, Bucket=url.bucket, **parameters)
            if sending.cancelled_caught:
                raise ConnectionFailed("nothing was taken for too long")
        except AnswerError as said:
            error = self._error(words, url, said, said.error_code)
            if not self._follows(url, region, error):
                if behind_bare is not None and said.error_code in ("400", "404"):
                    code = await self._code_behind_bare(
                        client, credentials, url, said.error_code, behind_bare
                    )
                    error = self._error(words, url, said, code)
                if isinstance(error, S3Error) and any(n.startswith("Checksum") for n in parameters):
                    advise_on_checksums(error, ("x-amz-checksum-",))
                await self._heard(error, said, credentials)
            raise error from None
        except (ConnectionFailed, ProtocolError) as error:
            raise type(error)(
                f"{words} of {url}: {error.headline}", fix=error.fix, **error.facts
            ) from error
        self._lease.report_worked(credentials, sent_at)
        date = date_of(answer["ResponseMetadata"]["HTTPHeaders"], "date")
        if date is not None:
            self._clock.heard(date)
        return answer

    def _error(self, words: str, url: S3Url, said: AnswerError, code: str) -> TransferError:
        return s3_error(
            words,
            url,
            code=code,
            status=said.status,
            message=said.text,
            request_id=said.request_id,
            headers=said.headers,
            now=self._clock.now(),
        )

    def _follows(self, url: S3Url, region: str, error: TransferError) -> bool:
        """Whether the bucket is elsewhere, and the request is to be made again there."""
        named = error.facts.get("bucket_region")
        if not isinstance(error, S3Error) or error.s3_code not in WRONG_REGION or named is None:
            return False
        if not self.regions.follow(url.bucket, region, str(named)):
            return False
        error.again = "region"
        return True

    async def _heard(
        self, error: TransferError, said: AnswerError, credentials: Credentials
    ) -> None:
        """Tell the clock and the lease what the error says of them."""
        if not isinstance(error, S3Error):
            return
        date = date_of(said.headers, "date")
        if error.s3_code == "RequestTimeTooSkewed" and date is not None:
            self._clock.learn(date)
        await judge(self._lease, credentials, error)

    async def _code_behind_bare(
        self,
        client: AwsClient,
        credentials: Credentials,
        url: S3Url,
        code: str,
        parameters: Mapping[str, Any],
    ) -> str:
        """An answer to HEAD has no body, and so no code: near the end of the lease a 400 means
        "expired"; else the same is asked by GET, whose error has one."""
        if code == "400" and is_near_expiry(self._lease, credentials):
            return "ExpiredToken"
        try:
            answer = await client.call("get_object", credentials, Bucket=url.bucket, **parameters)
        except AnswerError as error:
            return error.error_code
        answer["Body"].close()  # it is there now
        return code

    async def aclose(self) -> None:
        """Close all connections; calls under way fail."""
        for client in self._clients.values():
            await client.aclose()
