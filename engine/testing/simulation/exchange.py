"""One request of a simulated plane: its way there, what the store does, its way back.

What lives here: time, faults, and the engine's errors for what the store refuses, as the real
planes report them. What must not: verbs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar, final

import anyio

from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    EngineError,
    NotConnected,
    NotFound,
    ObjectChanged,
    ProtocolError,
    S3Error,
)
from engine.protocols import Clock, Lease
from engine.testing.simulation.faults import Fault
from engine.testing.simulation.store import Refused
from engine.testing.simulation.world import Request, World
from engine.types import Credentials, S3Url

T = TypeVar("T")

# Seconds that a client waits for the first byte of an answer, and for the next byte of a body.
FIRST_BYTE, STALL = 30.0, 10.0
# Seconds by which something may be late that nobody waits for any more; a Create less, which then
# is the engine's by its time alone.
_LATE, _LATE_CREATE = (0.3, 3.0, 40.0), 2.0
_EXPIRED = ("ExpiredToken", "InvalidToken")
_NOT_FOUND = ("NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NoSuchVersion")
# S3 refuses what was signed so many seconds before or after its own time.
MAX_SKEW = 900.0
# A denial so near the end of a session is the end.
_AT_EXPIRY = 2.0


def key_of(url: S3Url) -> str:
    """The store's name of an object."""
    return f"{url.bucket}/{url.key}"


@final
class Exchange:
    """Requests of one engine to the simulated store.

    Args:
        clock: Of the engine: signs, and hears the Date of each answer.
    """

    def __init__(self, world: World, lease: Lease, clock: Clock) -> None:
        self.world = world
        self.lease = lease
        self._clock = clock

    async def ask(
        self,
        verb: str,
        url: S3Url,
        act: Callable[[Request], T],
        *,
        what: str = "",
        send: Callable[[Request], Awaitable[None]] | None = None,
    ) -> tuple[T, Request]:
        """One request and its answer.

        Args:
            act: What the store does, at one instant.
            what: Tells requests of one verb and key apart.
            send: Brings the body to the store; before that nothing is carried out.

        Raises:
            TransferError: As the real planes report it.
        """
        credentials = await self.lease.ready()
        sent_at = anyio.current_time()
        request = self.world.begin(verb, key_of(url), what)
        half = request.latency / 2
        if request.fault is Fault.REFUSED:
            await anyio.sleep(half)
            raise NotConnected(f"{verb} of {url}: no connection")
        if send is not None:
            await send(request)
        answer: asyncio.Future[T | Refused] = asyncio.get_running_loop().create_future()
        signed = self._clock.now().timestamp()
        seconds = self._arrival(request)
        due = self.world.now() + (seconds or 0.0)

        def carry_out() -> None:
            # When it came there: what a dead process has sent may be carried out much later here.
            off = due + self.world.server_offset - signed
            outcome = self._outcome(request, credentials, act, off)
            if not (answer.done() or answer.get_loop().is_closed()):
                answer.set_result(outcome)

        if seconds is not None:
            self.world.fly(request, seconds, carry_out)
        try:
            await self._wait(request, url)
            outcome = await answer
            await anyio.sleep(half)
        except asyncio.CancelledError:
            self.world.withdraw(request)
            raise
        date = datetime.fromtimestamp(int(self.world.server_time() - half), UTC)
        if isinstance(outcome, Refused):
            if outcome.code == "RequestTimeTooSkewed":
                self._clock.learn(date)
            raise await self._judged(credentials, self.error(outcome, verb, url))
        self._clock.heard(date)
        self.lease.report_worked(credentials, sent_at)
        self.world.sessions.heard(credentials)
        if request.fault is Fault.NO_ETAG and verb != "complete multipart upload":
            raise ProtocolError(f"an answer without an ETag for {url}")
        if request.fault is Fault.WRONG_ECHO and verb != "complete multipart upload":
            raise ChecksumMismatch(f"{verb} of {url}: the store computed another sum than we sent")
        return outcome, request

    def _arrival(self, request: Request) -> float | None:
        """Seconds until the store acts; None where nothing comes there."""
        fault, random = request.fault, self.world.random
        if fault is Fault.LOST_REQUEST or (fault is Fault.STALL and random.random() < 0.5):
            return None
        if fault is Fault.LATE:
            create = request.verb == "create multipart upload"
            most = _LATE_CREATE if create else random.choice(_LATE)
            return request.latency + random.random() * most
        return request.latency / 2

    async def _wait(self, request: Request, url: S3Url) -> None:
        """As long as there is nothing to be had, where there is not.

        Raises:
            ConnectionFailed: There will not be an answer.
        """
        if request.fault is Fault.STALL:
            await anyio.sleep(FIRST_BYTE)
            raise ConnectionFailed(f"{request.verb} of {url}: no answer within {FIRST_BYTE:.0f} s")
        if request.fault in (Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.LATE):
            await anyio.sleep(request.latency)
            raise ConnectionFailed(f"{request.verb} of {url}: the connection was lost")

    def _outcome(
        self, request: Request, credentials: Credentials, act: Callable[[Request], T], off: float
    ) -> T | Refused:
        """In the store: what comes of the request, which was signed by a clock so far ``off``."""
        if abs(off) > MAX_SKEW:
            return _EARLY[Fault.SKEWED]
        early = _EARLY.get(request.fault)
        if early is not None:
            return early
        if request.fault is Fault.RETRY_AFTER:
            refused = Refused("SlowDown", 503)
            refused.retry_after = float(self.world.random.randint(1, 8))
            self.world.not_before(request, refused.retry_after + request.latency / 2)
            return refused
        try:
            self.world.sessions.check(credentials, request.verb, self.world.server_time())
            outcome = act(request)
        except Refused as refused:
            return refused
        if request.fault is Fault.INTERNAL_DONE:
            return Refused("InternalError", 500)
        return outcome

    def error(self, refused: Refused, verb: str, url: S3Url) -> S3Error:
        """The error for an answer of the store."""
        code, kind = refused.code, S3Error
        if code == "AccessDenied":
            kind = AccessDenied
        elif code in _NOT_FOUND:
            kind = NotFound
        elif refused.status == 412 and verb.startswith(("get", "head")):
            kind = ObjectChanged
        headline = f"{verb} of {url} failed with {code}"
        if kind is ObjectChanged:
            headline = f"{url} was overwritten while it was read"
        return kind(headline, s3_code=code, status=refused.status, retry_after=refused.retry_after)

    async def _judged(self, credentials: Credentials, error: S3Error) -> EngineError:
        """``error``, after the lease has heard what it says of the session."""
        lease = self.lease
        if error.s3_code in _EXPIRED:
            lease.report_expired(credentials)
        elif isinstance(error, AccessDenied):
            if lease.remaining(credentials) < _AT_EXPIRY:
                lease.report_expired(credentials)
                error.again = "renewed"
            elif await lease.renewed_after_denial(credentials):
                error.again = "renewed"
        return error


_EARLY = {
    Fault.INTERNAL: Refused("InternalError", 500),
    Fault.SLOW_DOWN: Refused("SlowDown", 503),
    Fault.TIMEOUT: Refused("RequestTimeout", 400),
    Fault.SKEWED: Refused("RequestTimeTooSkewed", 403),
    Fault.EXPIRED: Refused("ExpiredToken", 400),
    Fault.DENIED: Refused("AccessDenied", 403),
    Fault.CONFLICT: Refused("ConditionalRequestConflict", 409),
}
