"""Calls of S3 through the AWS SDK: what both planes over it share.

What lives here: the lease's set for each call, and errors as ours. What must not: a verb
(``aws.py``, ``aws_data.py``), a second try (``engine.retry``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from engine._aws.client import AnswerError, AwsClient
from engine.config import Endpoints
from engine.errors import ConnectionFailed, EngineError, ProtocolError, RedirectRefused, S3Error
from engine.planes.answers import date_of
from engine.planes.errors import advise_on_checksums, s3_error
from engine.planes.lease_rules import is_near_expiry, judge
from engine.protocols import Clock, Lease
from engine.types import Credentials, S3Url


@final
class AwsCalls:
    """Signed calls of one engine to S3, each under the lease's set of that moment.

    The SDK signs by the clock of this machine, which it cannot be told to correct.

    Args:
        streams: For bytes of objects, see ``AwsClient``.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        user_agent: str,
        streams: bool = False,
    ) -> None:
        self.client = AwsClient("s3", endpoints, endpoints.s3, user_agent, streams=streams)
        self.requests = 0
        self._lease = lease
        self._clock = clock

    async def call(
        self,
        operation: str,
        url: S3Url,
        parameters: Mapping[str, Any],
        *,
        behind_bare: Mapping[str, Any] | None = None,
    ) -> Any:
        """One call; returns botocore's answer.

        Args:
            operation: botocore's name of it (``put_object``).
            behind_bare: Parameters of the GET that is asked for the code behind an answer
                without a body; None where answers have one.

        Raises:
            TransferError: By class: what S3 or the network said.
        """
        words = operation.replace("_", " ").replace(" v2", "")
        credentials = await self._lease.ready()
        self.requests += 1
        try:
            answer = await self.client.call(operation, credentials, Bucket=url.bucket, **parameters)
        except AnswerError as error:
            code = error.error_code
            if behind_bare is not None and code in ("400", "404"):
                code = await self._code_behind_bare(credentials, url, code, behind_bare)
            sums = [name for name in parameters if name.startswith("Checksum")]
            raise await self._refused(words, url, code, error, credentials, sums) from None
        except RedirectRefused as error:
            headline = f"{words} of {url} was answered with a redirect"
            raise RedirectRefused(headline, fix=error.fix, **error.facts) from None
        except (ConnectionFailed, ProtocolError) as error:
            raise type(error)(
                f"{words} of {url}: {error.headline}", fix=error.fix, **error.facts
            ) from error
        self._lease.report_worked(credentials)
        return answer

    async def _refused(
        self,
        words: str,
        url: S3Url,
        code: str,
        said: AnswerError,
        credentials: Credentials,
        sums: Sequence[str],
    ) -> EngineError:
        error = s3_error(
            words,
            url,
            code=code,
            status=said.status,
            message=said.text,
            request_id=said.request_id,
            headers=said.headers,
            now=self._clock.now(),
        )
        if isinstance(error, S3Error):
            if sums:
                advise_on_checksums(error, ("x-amz-checksum-",))
            date = date_of(said.headers, "date")
            if error.s3_code == "RequestTimeTooSkewed" and date is not None:
                self._clock.learn(date)
            await judge(self._lease, credentials, error)
        return error

    async def _code_behind_bare(
        self, credentials: Credentials, url: S3Url, code: str, parameters: Mapping[str, Any]
    ) -> str:
        """An answer to HEAD has no body, and so no code: near the end of the lease a 400 means
        "expired"; else the same is asked by GET, whose error has one."""
        if code == "400" and is_near_expiry(self._lease, credentials):
            return "ExpiredToken"
        try:
            answer = await self.client.call(
                "get_object", credentials, Bucket=url.bucket, **parameters
            )
        except AnswerError as error:
            return error.error_code
        answer["Body"].close()  # it is there now
        return code

    async def aclose(self) -> None:
        """Close all connections; calls under way fail."""
        await self.client.aclose()
