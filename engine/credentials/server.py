"""CredentialServer: one lease for other processes of this host, by the container protocol.

Every AWS SDK and tool reads AWS_CONTAINER_CREDENTIALS_FULL_URI and
AWS_CONTAINER_AUTHORIZATION_TOKEN and asks again before the end that it is told:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
What lives here: who may ask, and what is answered. What must not: how a set is renewed, or how
the variables come to a child (``cli/child.py``).

Rules of this file
- An answer is a look at the lease. However often clients ask, no call of STS comes of it.
- Listens on 127.0.0.1 only. Whoever asks needs the token, and has to mean this address: a page in
  a browser that was made to take another name for it (DNS rebinding) sends that name as Host.
- The token is in no log, no repr and no error.

When clients ask again
botocore (AWS CLI, boto3) from 15 min before the end on at every signature, and in the last 10 min
it waits for the answer; SDKs of Go from 5 min on. So sessions of 15 minutes are asked for at
every request, which costs a millisecond on loopback and nothing else. botocore and the SDK of
JavaScript fail without an Expiration (and without a Token), others take its absence for "never
ends" and would not see a rotated key; so a set without an end is told one, 20 minutes ahead:
botocore then asks every 5 minutes, the others every 15.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import anyio
from msgspec import Struct
from msgspec.structs import replace

from engine.errors import CredentialsError, EngineError, SourceUnavailable, UsageError, WrongLoop
from engine.protocols import Lease
from engine.redact import redact
from engine.types import Credentials

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
PATH = "/credentials"
URI_VARIABLE = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN"

# Told of a set that has no end; see the top of this file.
ENDLESS_LIFE = 1200.0
# Clients give up after 2 s (botocore's ContainerMetadataFetcher) and try again; an answer before
# that can say why there is none.
ANSWER_WITHIN = 1.5
# 256 bits, as text that every shell and header takes.
_TOKEN_BYTES = 32
# A request has a few headers of a few bytes; a session token is never in one.
_MAX_LINE = 2048
_MAX_HEADERS = 32
_KEEP_ALIVE = 15.0
_MAX_CONNECTIONS = 64
# An answer takes ANSWER_WITHIN at the most.
_STOP_WITHIN = 2.0


class ServerStatistics(Struct, frozen=True):
    """Counts since the server started.

    Attributes:
        served: Answers with a set.
        refused: Requests without the token, or meant for somebody else.
        failed: Requests that met no usable set.
    """

    served: int = 0
    refused: int = 0
    failed: int = 0


class CredentialServer:
    """Serves a lease on loopback. Use it as ``async with CredentialServer(lease) as server``.

    Args:
        lease: Whose sets are served; it must be of this event loop.
        port: A fixed one, for clients that outlive a restart; 0 takes a free one.
        role_arn: Told to clients that ask whose credentials these are.
        now: The wall clock of this host, by which its processes judge an Expiration.

    Attributes:
        token: What clients must send as Authorization.

    Raises:
        UsageError: The port is taken.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        port: int = 0,
        role_arn: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._lease = lease
        self._port = port
        self._role_arn = role_arn
        self._now = now
        self._counts = ServerStatistics()
        self._runner: web.ServerRunner | None = None

    @property
    def uri(self) -> str:
        """Where the credentials are. Raises WrongLoop before the server has started."""
        if self._runner is None:
            raise WrongLoop("the server is not running", fix="Use it as `async with`")
        return f"http://{HOST}:{self._port}{PATH}"

    def environment(self) -> dict[str, str]:
        """The two variables that a client needs. One of them is a secret."""
        return {URI_VARIABLE: self.uri, TOKEN_VARIABLE: self.token}

    def statistics(self) -> ServerStatistics:
        return self._counts

    def __repr__(self) -> str:
        state = self.uri if self._runner else "not running"
        return f"<CredentialServer {state}, served {self._counts.served}>"

    def __reduce__(self) -> NoReturn:
        raise WrongLoop(
            "a credential server cannot be sent to another process",
            fix="Give that process environment(): that is what the server is for",
        )

    async def __aenter__(self) -> Self:
        from aiohttp import web

        quiet = logging.Logger("s3engine")  # aiohttp's would write what a bad request was made of
        quiet.disabled = True

        class Bounded(web.Server):
            """Of too many connections the oldest goes: whoever opens them needs no token, and
            without a file to spare the set could not be renewed."""

            def connection_made(self, handler: Any, transport: Any) -> None:
                super().connection_made(handler, transport)
                over = len(self.connections) - _MAX_CONNECTIONS
                if over > 0:
                    self.connections[over - 1].force_close()

        server = Bounded(
            self._handle,
            access_log=None,
            logger=quiet,
            keepalive_timeout=_KEEP_ALIVE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            max_headers=_MAX_HEADERS,
            lingering_time=0,
        )
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_STOP_WITHIN)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise UsageError(
                f"port {self._port} of {HOST} cannot be used: {error.strerror}",
                fix="Use another one, or 0 for any that is free",
            ) from None
        self._port = int(runner.addresses[0][1])
        self._runner = runner
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        assert runner is not None
        with anyio.CancelScope(shield=True):
            await runner.cleanup()

    # ---- one request ---------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            self._count(refused=1)
            return refusal
        try:
            with anyio.fail_after(ANSWER_WITHIN):
                credentials = await self._lease.ready()
        except TimeoutError:
            return self._failure(SourceUnavailable("the credentials are being renewed; ask again"))
        except EngineError as error:
            return self._failure(error)
        except Exception as error:  # of a lease that is not ours; its text may hold anything
            return self._failure(CredentialsError(f"no credentials: {type(error).__name__}"))
        self._count(served=1)
        return _answer(200, self._document(credentials))

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        """An answer to who may not ask, or asks for what is not here; else None."""
        if request.headers.getall("Host", []) != [f"{HOST}:{self._port}"]:
            return _error(403, "WrongHost", f"this is {HOST}, and nobody else")
        if request.method != "GET":
            return _error(405, "MethodNotAllowed", "GET only", Allow="GET")
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not _same(given[0], self.token):
            return _error(401, "Unauthorized", f"Authorization is not {TOKEN_VARIABLE}")
        if request.path_qs != PATH:
            return _error(404, "NotFound", "nothing is here")
        return None

    def _failure(self, error: EngineError) -> web.Response:
        self._count(failed=1)
        return _error(503, type(error).__name__, redact(error.headline))

    def _document(self, credentials: Credentials) -> dict[str, str]:
        document = {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token or "",
            "Expiration": self._end(credentials).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if self._role_arn is not None:
            document["RoleArn"] = self._role_arn
        return document

    def _end(self, credentials: Credentials) -> datetime:
        """The end by this host's wall clock, which its clients compare with; AWS's own instant
        would end a set early or late for them where that clock is wrong."""
        left = self._lease.remaining(credentials)
        if math.isinf(left):
            left = ENDLESS_LIFE
        # Up to a whole second: the lease counts a second less than AWS does, so this is not late.
        end = self._now() + timedelta(seconds=left)
        return end + timedelta(microseconds=-end.microsecond % 1_000_000)

    def _count(self, **more: int) -> None:
        self._counts = replace(
            self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()}
        )


def _same(given: str, token: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    return _answer(status, {"code": code, "message": message}, **headers)


def _answer(status: int, document: Any, **headers: str) -> web.Response:
    from aiohttp import web

    return web.Response(
        status=status,
        body=json.dumps(document).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Server": "s3engine", **headers},
    )
