"""One AWS client over aioboto3, or over aiobotocore where that is all there is, stripped of what
must not happen behind our back.

- Redirects are off. aiohttp below aiobotocore follows a 307 to any host, and takes the request's
  signature and session token along; ``AIOHTTPSession.send`` has no switch, so a session class
  given through AioConfig adds one.
- Certificates are checked by the bundle that we were given, behind a proxy too.
- Repetition is off (``total_max_attempts=1``): ``engine.retry`` repeats.
- Each request is signed with the frozen set that its caller holds, so that the caller knows
  which generation a server refused.
- A bucket's region is not hunted for: after a 400 to HEAD botocore would ask HeadBucket and send
  the request again.
- The SDK neither sums bodies (``engine.transfer`` does, both ways) nor waits for a "100 Continue".
- The debug log of the SDK is masked while a client is open.

Only client calls are used, never aioboto3's transfers. What must not live here: a verb.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio

from engine._aws.logs import redacted
from engine.config import Endpoints
from engine.errors import (
    ConnectionFailed,
    EngineError,
    ProtocolError,
    RedirectRefused,
    UsageError,
)
from engine.proxies import Proxies
from engine.types import Credentials

# Connections of the control plane. Its verbs are one or two an object; the bytes go elsewhere.
MAX_CONNECTIONS = 64
# Of the data plane: what the controller goes up to.
MAX_STREAMS = 512
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MISSING = "Install it: pip install 's3engine-core[aws]', or s3engine, which brings aioboto3"

_SIGNING: ContextVar[Credentials | None] = ContextVar("engine_signing_credentials")


class AnswerError(EngineError):
    """The service answered with an error code. Callers translate it; it never leaves a plane."""

    def __init__(self, operation: str, code: str, text: str, metadata: Mapping[str, Any]) -> None:
        super().__init__(f"{operation}: {code}")
        self.error_code = code
        self.text = text
        self.status = int(metadata.get("HTTPStatusCode", 0))
        self.request_id = str(metadata.get("RequestId", ""))
        self.headers: Mapping[str, str] = metadata.get("HTTPHeaders", {})


class AwsClient:
    """One service's client, opened at its first call.

    Args:
        service: ``s3``, ``sts`` or another of AWS's names.
        endpoint_url: None for AWS's own of the region.
        user_agent: Sent whole, so that CloudTrail can be read.
        region: Of the signatures, where it is not that of ``endpoints``.
        streams: For bytes of objects: they are not hashed for the signature (a checksum header
            covers them), and there are more connections.

    Raises:
        UsageError: At the first call, where neither aioboto3 nor aiobotocore is installed.
    """

    def __init__(
        self,
        service: str,
        endpoints: Endpoints,
        endpoint_url: str | None,
        user_agent: str,
        region: str | None = None,
        *,
        streams: bool = False,
    ) -> None:
        self._service = service
        self._endpoints = endpoints
        self._endpoint_url = endpoint_url
        self._region = region or endpoints.region
        self._user_agent = user_agent
        self._streams = streams
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = anyio.Lock()

    async def call(self, operation: str, credentials: Credentials | None, **parameters: Any) -> Any:
        """One request, signed with ``credentials``. Returns the parsed answer.

        Args:
            credentials: None for the few operations that are not signed.

        Raises:
            AnswerError: The service answered with an error.
            RedirectRefused: It answered with a redirect. S3's are AnswerErrors: they may name a
                region.
            ConnectionFailed: It did not answer.
        """
        client = self._client or await self._open()
        failures = _failures()
        from botocore.parsers import ResponseParserError

        token = _SIGNING.set(credentials)
        try:
            return await getattr(client, operation)(**parameters)
        except failures.ClientError as error:
            raise self._answer_error(operation, error.response) from None
        except (failures.ConnectionError, failures.HTTPClientError) as error:
            raise ConnectionFailed(
                f"{self._service} gave no answer to {operation} ({type(error).__name__})",
                fix="Check the endpoint URL, the region, and the way to it",
                endpoint=self._endpoint_url or self._endpoints.region,
            ) from None
        except ResponseParserError as error:
            raise ProtocolError(
                f"the answer of {self._service} to {operation} cannot be read",
                reason=type(error).__name__,
            ) from None
        except failures.BotoCoreError as error:
            # What the SDK refuses to send; its texts name fields, not values.
            raise UsageError(
                f"{operation} cannot be sent to {self._service} ({type(error).__name__})"
            ) from None
        finally:
            _SIGNING.reset(token)

    def _answer_error(self, operation: str, response: Mapping[str, Any]) -> EngineError:
        metadata = response.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        error = response.get("Error") or response  # Ceph's STS leaves the envelope out
        code = str(error.get("Code") or status)
        text = str(error.get("Message") or "")
        # S3 says by these that a bucket is in another region, too: its planes tell.
        if status in _REDIRECTS and self._service != "s3":
            return RedirectRefused(
                f"{self._service} answered {operation} with a redirect ({status})",
                fix="Redirects are never followed: they would take the session token along. "
                "Check the endpoint URL and the region",
            )
        headers = metadata.get("HTTPHeaders", {})
        if error.get("Region"):
            headers.setdefault("x-amz-bucket-region", error["Region"])
        return AnswerError(operation, code, text, metadata)

    async def _open(self) -> Any:
        check_installed()
        failures = _failures()
        async with self._opening:
            if self._client is not None:
                return self._client
            try:
                self._client = await self._stack.enter_async_context(
                    _maker()(
                        self._service,
                        region_name=self._region,
                        endpoint_url=self._endpoint_url,
                        verify=self._endpoints.ca_bundle or True,
                        config=self._config(),
                    )
                )
            except failures.BotoCoreError as error:
                raise UsageError(
                    f"no client for {self._service}: {error}",
                    fix="Check the region, AWS_PROFILE and the files below ~/.aws",
                ) from None
            self._stack.enter_context(redacted())
            self._client.meta.events.register_last("before-call.s3", _as_we_said)
        return self._client

    def _config(self) -> Any:
        from aiobotocore.config import AioConfig

        endpoints, timeouts = self._endpoints, self._endpoints.timeouts
        style: str = endpoints.addressing_style
        if style == "auto" and self._endpoint_url:
            style = "path"  # a bucket below an address of the user's own need not resolve
        # Its default for us-east-1 is a host that also answers for buckets elsewhere.
        s3: dict[str, Any] = {
            "addressing_style": style,
            "us_east_1_regional_endpoint": "regional",
        }
        if self._streams:
            s3["payload_signing_enabled"] = False
        # Complete keeps the connection alive with white space for minutes (the S3 API page of
        # CompleteMultipartUpload), so the read time-out of control verbs must outlive it.
        patient = self._service == "s3" and not self._streams
        return AioConfig(
            http_session_cls=_session_class(endpoints),
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=MAX_STREAMS if self._streams else MAX_CONNECTIONS,
            connect_timeout=timeouts.connect,
            read_timeout=timeouts.complete if patient else timeouts.first_byte,
            user_agent=self._user_agent,
            ignore_configured_endpoint_urls=True,  # ``settings`` has read them
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=s3,
            use_dualstack_endpoint=endpoints.dualstack and not self._endpoint_url,
            use_fips_endpoint=endpoints.fips and not self._endpoint_url,
        )

    async def aclose(self) -> None:
        self._client = None
        await self._stack.aclose()


class _Frozen(NamedTuple):
    """What botocore's signers read."""

    access_key: str
    secret_key: str
    token: str | None
    account_id: str | None = None


class _CallersCredentials:
    """Stands where botocore keeps credentials, and hands out the calling task's own set."""

    METHOD = method = "s3engine"
    CANONICAL_NAME = None

    async def load(self) -> _CallersCredentials:
        return self

    async def get_frozen_credentials(self) -> _Frozen | None:
        credentials = _SIGNING.get()
        if credentials is None:
            return None
        return _Frozen(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        )

    async def get_account_id(self) -> None:
        """Only for endpoints that carry the account; none of ours do."""

    def get_deferred_property(self, name: str) -> Any:
        """botocore's newer name for the same question."""
        return self.get_account_id


async def read_body(body: Any, size: int) -> bytes:
    """At most ``size`` bytes of an answer's ``Body``; none at its end.

    Raises:
        ConnectionFailed: The connection broke, or was silent, inside the body.
    """
    import botocore.exceptions as failures
    from aiohttp import ClientError

    try:
        piece: bytes = await body.read(size)
        return piece
    except (ClientError, failures.HTTPClientError, failures.IncompleteReadError) as error:
        raise ConnectionFailed(f"the answer broke off ({type(error).__name__})") from None


def check_installed() -> None:
    """Raises UsageError where there is no SDK for asyncio. Imports nothing."""
    for name in ("aiobotocore", "botocore"):
        if find_spec(name) is None:
            raise UsageError(
                f"this needs an AWS SDK for asyncio, and {name} is not installed", fix=_MISSING
            )


def _failures() -> Any:
    import botocore.exceptions as failures

    return failures


def _maker() -> Any:
    """What makes clients: aioboto3's session, else aiobotocore's own; we only make calls."""
    from aiobotocore.session import get_session

    inner = get_session()
    inner.get_component("credential_provider").providers[:] = [_CallersCredentials()]
    try:
        import aioboto3
    except ImportError:  # not there, or not for this aiobotocore
        return inner.create_client
    return aioboto3.Session(botocore_session=inner).client


def _as_we_said(params: Any, **_: Any) -> None:
    """Takes back what botocore adds to a request of its own accord."""
    # Its region redirector has had its turn.
    params["context"].setdefault("s3_redirect", {})["redirected"] = True
    # ChecksumMode asks S3 for the stored sum; that the bytes have it is checked by the caller.
    params["context"].get("checksum", {}).pop("response_algorithms", None)
    # Not every server answers "Expect: 100-continue", and aiohttp would wait for ever.
    params["headers"].pop("Expect", None)


def _session_class(endpoints: Endpoints) -> type[Any]:
    from aiobotocore.httpsession import AIOHTTPSession

    # Not the SDK's own: aiobotocore before 3 checks no certificate where there is a proxy.
    trust = ssl.create_default_context(cafile=endpoints.ca_bundle)

    class OurWay(AIOHTTPSession):  # type: ignore[misc]
        """Sends each request once, to the host that it was signed for, by the proxy we say."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._proxy_config = _ProxyRules(endpoints.proxies)

        async def _get_session(self, proxy_url: Any) -> Any:
            return _RequestOnly(await super()._get_session(proxy_url), trust)

    return OurWay


class _ProxyRules:
    """Stands where botocore keeps its own reading of the environment."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self.settings: dict[str, Any] = {}

    def proxy_url_for(self, url: str) -> str | None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        proxy = self._proxies.before(parts.hostname or "", port, secure=secure)
        return proxy.url if proxy is not None else None

    def proxy_headers_for(self, proxy_url: str) -> dict[str, str]:
        return {}  # aiohttp takes user and password from the URL


class _RequestOnly:
    """The one method of aiohttp's session that aiobotocore calls, as we want it."""

    def __init__(self, session: Any, trust: ssl.SSLContext) -> None:
        self._session = session
        self._ours = {"allow_redirects": False, "ssl": trust}

    async def request(self, method: str, **arguments: Any) -> Any:
        return await self._session.request(method, **{**arguments, **self._ours})
