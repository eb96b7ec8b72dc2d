"""What the local credential services have in common: a small HTTP server and the set it serves.

What lives here: the server's life on 127.0.0.1, its faults, and the rule when a new set of keys
appears. What must not: the paths and documents of a service (imds, container).
"""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

from engine.types import Credentials

SOCKET_TIMEOUT = 30.0
MAX_REQUESTS = 100_000  # that are remembered; beyond it the oldest go
MARGIN = 300.0  # EC2: new credentials are there "at least five minutes prior to the expiration"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent. ``hang`` means that none ever is."""

    status: int = 200
    text: str = field(default="", repr=False)
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    hang: bool = False


class ServedSet:
    """One set of keys, the same for everybody who asks, until it is nearly over.

    Args:
        now: The clock that Expiration is written by.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._current: Credentials | None = None

    def get(
        self, issue: Callable[[], Credentials], *, margin: float | None, frozen: bool
    ) -> Credentials:
        """The set as of now.

        Args:
            issue: Makes a new one.
            margin: A new set appears when the old one has fewer seconds left; None is 5 minutes,
                or half of a set that is shorter than 10.
            frozen: Keep the old set for ever, even after its end.
        """
        with self._lock:
            current = self._current
            if current is None or (not frozen and self._due(current, margin)):
                current = self._current = issue()
            return current

    def clear(self) -> None:
        """The next one who asks gets a new set."""
        with self._lock:
            self._current = None

    def _due(self, current: Credentials, margin: float | None) -> bool:
        if current.expires_at is None:
            return False
        if margin is None:
            margin = min(MARGIN, (current.lifetime or 0.0) / 2)
        return (current.expires_at - self._now()).total_seconds() < margin


class LocalService(ABC):
    """An HTTP service on a free port of 127.0.0.1, in its own threads. A context manager.

    Attributes:
        redirect_to: URL that every request is redirected to with 307, or None.
        delay: Seconds before every answer.
        failures_left: So many of the next requests get ``failure_status``.
        failure_status: What they get.
        rate_limit: Requests in any one second, or None; those beyond it get 429.
    """

    name: ClassVar[str]
    default_failure: ClassVar[int]

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._lock = threading.Lock()
        self._admitted: deque[float] = deque()  # when; of the last second
        self._server: http.server.ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open the port and serve."""
        service = self

        class Handler(_Handler):
            double = service

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name=self.name, daemon=True
        ).start()

    def stop(self) -> None:
        """Close the port. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def reset_faults(self) -> None:
        """No faults."""
        self._admitted.clear()
        self.redirect_to: str | None = None
        self.delay = 0.0
        self.failures_left = 0
        self.failure_status = self.default_failure
        self.rate_limit: int | None = None

    @property
    def port(self) -> int:
        """The port, or 0 while stopped."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """The answer to one request, which is also noted; ``headers`` have lower-case names."""

    def fault(self) -> Reply | None:
        """What a request gets that meets a fault; None for one that meets none."""
        if self.redirect_to is not None:
            return Reply(307, headers={"Location": self.redirect_to})
        with self._lock:
            if self.rate_limit is not None and not self._admit(self.rate_limit):
                return Reply(429)
            if self.failures_left > 0:
                self.failures_left -= 1
                return Reply(self.failure_status)
        return None

    def _admit(self, limit: int) -> bool:
        now = time.monotonic()
        while self._admitted and self._admitted[0] <= now - 1.0:
            self._admitted.popleft()
        if len(self._admitted) >= limit:
            return False
        self._admitted.append(now)
        return True


class _Handler(http.server.BaseHTTPRequestHandler):
    double: ClassVar[LocalService]
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_TIMEOUT

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The Date header is by the same clock as Expiration: their difference is the lifetime."""
        return format_datetime(self.double.now().astimezone(UTC), usegmt=True)

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if length.isdecimal():
            self.rfile.read(int(length))
        if self.double.delay:
            time.sleep(self.double.delay)
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.double.answer(self.command, urlsplit(self.path).path, headers)
        with contextlib.suppress(OSError):  # a client whose patience ended has gone
            if reply.hang:
                self.close_connection = True
                self.rfile.read(1)  # until the client gives up, or SOCKET_TIMEOUT
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.text.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error belongs to the tests."""


def stamp(at: datetime) -> str:
    """As these services write times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
