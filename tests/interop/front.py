"""A TCP front before the gateways: passes bytes on, can change the gateway, notes what passed.

What lives here: bytes from one socket to another, and the first lines of requests and answers.
What must not: a change of a byte. Host names the front, which is fine: SigV4 signs what was sent.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_PIECE = 64 * 1024
# Seconds; a connection that is silent for longer belongs to a test that hangs.
_SILENCE = 30.0
_REQUEST = re.compile(rb"(?:^|\n)(GET|HEAD|PUT|POST|DELETE) (/\S*) HTTP/1\.1\r\n")
_ANSWER = re.compile(rb"(?:^|\n)HTTP/1\.1 ([2-5][0-9][0-9]) ")
_KEY = re.compile(rb"Credential=([^/,\s]+)/")


@dataclass
class Passed:
    """One request, by the gateway that it went to, and the status it got (0: none yet)."""

    gateway: str
    method: str
    target: str
    access_key_id: str
    status: int = 0


class Front:
    """A context manager. ``switch`` closes what is open and sends the rest elsewhere."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.log: list[Passed] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        front = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                front._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.switch(self.gateway)

    def switch(self, gateway: str) -> None:
        """From now on to ``gateway``. Requests under way lose their connection."""
        with self._lock:
            self.gateway = gateway
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            gateway = self.gateway
            parts = urlsplit(gateway)
            server = socket.create_connection((parts.hostname or "", parts.port or 0), _SILENCE)
            client.settimeout(_SILENCE)
            self._open |= {client, server}
        waiting: list[Passed] = []
        back = threading.Thread(target=self._answers, args=(server, client, waiting), daemon=True)
        back.start()
        try:
            self._requests(client, server, gateway, waiting)
        finally:
            back.join(_SILENCE)
            with self._lock:
                self._open -= {client, server}
            server.close()

    def _requests(
        self, client: socket.socket, server: socket.socket, gateway: str, waiting: list[Passed]
    ) -> None:
        with _until_closed(server):
            while piece := client.recv(_PIECE):
                if line := _REQUEST.search(piece):
                    key = _KEY.search(piece)
                    passed = Passed(
                        gateway, line[1].decode(), line[2].decode(), key[1].decode() if key else ""
                    )
                    waiting.append(passed)
                    self.log.append(passed)
                server.sendall(piece)

    def _answers(self, server: socket.socket, client: socket.socket, waiting: list[Passed]) -> None:
        with _until_closed(client):
            while piece := server.recv(_PIECE):
                if (line := _ANSWER.search(piece)) and waiting:
                    waiting.pop(0).status = int(line[1])
                client.sendall(piece)


@contextlib.contextmanager
def _until_closed(other: socket.socket) -> Iterator[None]:
    """One side is over: so is the other."""
    try:
        with contextlib.suppress(OSError):
            yield
    finally:
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
