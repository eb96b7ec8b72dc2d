"""The gate: AWS's rules in front of a plain moto.

What lives here: the server's life and the way of a request through the gate's files. What must
not: a rule of S3 or STS, or the calls by which a test sets the scene (gate_scene).

Theory of operation: one thread with one event loop serves all connections. A request is named,
its caller authenticated, faults that are due are met, permission is checked, the body is read
and verified, moto does the work, and one function writes the answer and the log entry. Tests
call in from their own thread; what they change is either behind a lock or a single assignment.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

import aiohttp
from aiohttp import web

from engine.errors import EngineError, UsageError
from engine.testing import gate_copy, gate_s3, gate_s3_multipart, gate_sts
from engine.testing.faults import FaultPlan
from engine.testing.gate_answer import Answer, Dropped, drop, send
from engine.testing.gate_direct import MotoClient
from engine.testing.gate_errors import AwsError
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_forward import Forwarder
from engine.testing.gate_iam import Accounts
from engine.testing.gate_link import Link
from engine.testing.gate_log import RequestLog
from engine.testing.gate_scene import Scene

START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
BACKLOG = 512  # connections that wait to be accepted; a burst of a whole engine fits
KEEP_ALIVE_SECONDS = 75.0

_Handler = Callable[[Exchange, gate_s3.Store], Awaitable[Answer]]
_HANDLERS: dict[str, _Handler] = {
    "GetObject": gate_s3.get_or_head,
    "HeadObject": gate_s3.get_or_head,
    "PutObject": gate_s3.put_object,
    "CopyObject": gate_copy.copy_object,
    "CreateMultipartUpload": gate_s3_multipart.create,
    "UploadPart": gate_s3_multipart.upload_part,
    "UploadPartCopy": gate_copy.copy_part,
    "CompleteMultipartUpload": gate_s3_multipart.complete,
    "AbortMultipartUpload": gate_s3_multipart.abort,
    "ListParts": gate_s3_multipart.list_parts,
    "ListMultipartUploads": gate_s3_multipart.list_uploads,
}


class GateFailed(EngineError):
    """The gate did not start or stop."""

    code = "X003"


class Gate(Scene):
    """S3 and STS on one port of 127.0.0.1. A context manager.

    Args:
        moto_port: Where a plain moto listens.
        region: The only Region whose signatures are accepted; None accepts every one.
        ssl_context: A server's context, for TLS.
        log_path: A JSON-lines file for the request log.

    Attributes:
        log: What came in.
        faults: What goes wrong.
        clock_offset: Seconds by which the gate's clock is ahead of this machine's.
    """

    def __init__(
        self,
        moto_port: int,
        *,
        region: str | None = "us-east-1",
        ssl_context: ssl.SSLContext | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.log = RequestLog(log_path)
        self.faults = FaultPlan()
        self.clock_offset = 0.0
        self.accounts = Accounts()
        self.port = 0
        self._ssl = ssl_context
        self._link = Link()
        moto_region = region or "us-east-1"
        self._moto = MotoClient(moto_port, moto_region)
        self._forwarder = Forwarder(moto_port, moto_region)
        self._store = gate_s3.Store(
            self.accounts, self._forwarder, self.faults, self._link, self.now, region
        )
        self._sts = gate_sts.Sts(self.accounts, self.faults, self._link, self.now, region)
        self._server: web.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"Gate({self.endpoint}, {self.open_connections} connections, {self.log!r})"

    def __enter__(self) -> Gate:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread and wait until the port is open.

        Raises:
            GateFailed: It did not open in time.
        """
        if self._thread is not None:
            raise UsageError("this gate was started before", fix="Make a new one")
        self._thread = threading.Thread(target=self._run, name="s3engine-gate", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT) or self._failure is not None:
            raise GateFailed("the gate did not start") from self._failure

    def stop(self) -> None:
        """Close all connections and end the thread. Safe to call twice."""
        loop, stopping, thread = self._loop, self._stopping, self._thread
        if loop is None or stopping is None or thread is None or not thread.is_alive():
            return
        with contextlib.suppress(RuntimeError):  # the loop may have ended by itself just now
            loop.call_soon_threadsafe(stopping.set)
        thread.join(STOP_TIMEOUT)
        if thread.is_alive():
            raise GateFailed("the gate did not stop")

    def reset(self) -> None:
        """As freshly started: no users, buckets, faults, log entries, limits or offsets."""
        self._moto.reset()
        self.faults.clear()
        self.accounts.clear()
        self._store.uploads.clear()
        self._store.checksums.clear()
        self._store.customer_keys.clear()
        self.clock_offset = 0.0
        self.bandwidth = None
        self.expired_as = "ExpiredToken"
        self.part_sums = "composite"
        self.refuses_checksums = ""
        self.sum_habit = "asked"
        self.uploads_of_a_page = 1_000
        self._sts.reset()
        self.log.clear()

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:port``, or https with TLS."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        return len(self._server.connections) if self._server is not None else 0

    # -- the server ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._server = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            auto_decompress=False,  # S3 stores what comes, whatever Content-Encoding says of it
        )
        runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=0.1)
        await self._forwarder.open()
        try:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._ssl, backlog=BACKLOG)
            await site.start()
            self.port = runner.addresses[0][1]
            self._started.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()
            await self._forwarder.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request, self.now(), self.log.open())
        try:
            answer = await self._answer(exchange)
            answer.headers["x-amz-request-id"] = exchange.request_id
            return await send(exchange, answer, self.now(), self._link, self.log)
        except Dropped:
            return web.Response(status=500)  # goes nowhere; the connection is closed
        except (ConnectionError, aiohttp.ClientError, aiohttp.http.HttpProcessingError):
            # The client went away in the middle of its body, or moto did.
            exchange.error_code = exchange.error_code or "ConnectionLost"
            with contextlib.suppress(Dropped):
                drop(request)
            return web.Response(status=500)
        finally:
            self.log.put(exchange.number, exchange.entry(), last=True)

    async def _answer(self, exchange: Exchange) -> Answer:
        request = exchange.request
        form = request.headers.get("Content-Type", "").startswith(
            "application/x-www-form-urlencoded"
        )
        if request.method == "POST" and form and request.raw_path.partition("?")[0] == "/":
            try:
                return await self._sts.answer(exchange)
            except AwsError as error:
                return gate_sts.refusal(exchange, error)
        try:
            await gate_s3.begin(exchange, self._store)
            self._store.customer_keys.check(exchange)
            handler = _HANDLERS.get(exchange.action, gate_s3.plain)
            answer = await handler(exchange, self._store)
            self._store.customer_keys.note(exchange, answer)
            return answer
        except AwsError as error:
            return gate_s3.refusal(exchange, error)
