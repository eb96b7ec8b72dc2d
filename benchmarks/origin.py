"""A lean S3 origin in a process of its own, so that what is measured is the client.

``python -m benchmarks.origin SPEC.json [--rtt-ms 20]`` prints its port, takes commands on
standard input (``rtt MILLISECONDS``, ``stats``) and ends with its CPU time when that is closed.

What lives here: connections, as cheap as Python allows. Bodies that come in are dropped inside the
kernel where it can do that (Linux: MSG_TRUNC), bodies that go out never enter this process
(sendfile). What must not: TLS, faults, checks of signatures; ``engine.testing`` has those.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import mmap
import os
import selectors
import socket
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.s3_answers import Answer, Bucket, Counts, Request, Stored

_HEAD_READ = 8 * 1024
_MAX_HEAD = 64 * 1024
# One read drops all that the kernel has. The pages are never touched where MSG_TRUNC works.
_SCRATCH_SIZE = 16 * 1024 * 1024
_LINUX = sys.platform == "linux"
_DROP = socket.MSG_TRUNC if _LINUX else 0
_MORE = getattr(socket, "MSG_MORE", 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Origin:
    """One thread, one selector, any number of connections.

    Args:
        files: Open files that ``Stored.file`` counts.
        rtt: Seconds before each answer, interim ones included.
    """

    def __init__(self, bucket: Bucket, files: list[int], rtt: float) -> None:
        self.bucket = bucket
        self.files = files
        self.rtt = rtt
        self.selector = selectors.DefaultSelector()
        self.scratch = mmap.mmap(-1, _SCRATCH_SIZE)
        self._later: list[tuple[float, int, _Connection, Answer]] = []
        self._order = count()
        self._cpu = time.process_time()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.selector.register(self._listener, _READ, self)
        self._commands = sys.stdin.fileno()
        self.selector.register(self._commands, _READ, None)

    def serve(self) -> None:
        """Until standard input is closed."""
        while True:
            for key, events in self.selector.select(self._pause()):
                if key.data is None:
                    if not self._command():
                        return
                elif key.data is self:
                    self._accept()
                else:
                    key.data.ready(events)
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, _, connection, answer = heapq.heappop(self._later)
                connection.send(answer)

    def answer(self, connection: _Connection, answer: Answer) -> None:
        """Send it one round trip from now."""
        if self.rtt <= 0:
            connection.send(answer)
            return
        due = time.monotonic() + self.rtt
        heapq.heappush(self._later, (due, next(self._order), connection, answer))

    def _pause(self) -> float | None:
        return max(0.0, self._later[0][0] - time.monotonic()) if self._later else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.bucket.counts.connections += 1
                self.selector.register(accepted, _READ, _Connection(self, accepted))

    def _command(self) -> bool:
        """Act on what stands on standard input; False at its end."""
        data = os.read(self._commands, 4096)
        for line in data.decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "rtt":
                self.rtt = float(value) / 1000
            elif name == "stats":
                print(json.dumps(self._statistics()), flush=True)
        return bool(data)

    def _statistics(self) -> dict[str, Any]:
        counts, self.bucket.counts = self.bucket.counts, Counts()
        cpu, self._cpu = self._cpu, time.process_time()
        return {
            "operations": dict(counts.operations),
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "connections": counts.connections,
            "problems": counts.problems,
            "cpu_seconds": self._cpu - cpu,
        }


class _Connection:
    """One connection: a request at a time; what a client sends ahead of its answer waits."""

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self._origin = origin
        self._socket = sock
        self._buffer = bytearray()
        self._request: Request | None = None
        self._left = 0  # bytes of the request's body that have not come yet
        self._answering = False
        self._closed = False
        self._out = memoryview(b"")
        self._file = (0, 0, 0)  # descriptor, offset, bytes left to send
        self._events = _READ

    def ready(self, events: int) -> None:
        """The selector says that the socket can be read or written."""
        try:
            if events & _WRITE:
                self._write()
            if events & _READ and not self._closed:
                self._read()
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def send(self, answer: Answer) -> None:
        """Start to send; what the kernel does not take now follows when it can."""
        if self._closed:
            return
        self._out = memoryview(answer.data)
        if answer.stored is not None:
            descriptor = self._origin.files[answer.stored.file]
            self._file = (descriptor, answer.offset, answer.length)
        try:
            self._write()
        except BlockingIOError:
            self._listen(_READ | _WRITE)
        except OSError:
            self._close()

    def _read(self) -> None:
        if self._left and not self._answering:
            size = min(self._left, _SCRATCH_SIZE)
            got = self._socket.recv_into(self._origin.scratch, size, _DROP)
            self._left -= got
        else:
            data = self._socket.recv(_HEAD_READ)
            got = len(data)
            self._buffer += data
        if not got:
            if self._request is not None and not self._answering:
                self._origin.bucket.counts.problem(f"closed {self._left} bytes short")
            self._close()
        elif not self._answering:
            self._advance()

    def _advance(self) -> None:
        """Take a head from the buffer, then its body; answer when both are there."""
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD:
                    self._close()
                return
            self._request = Request.parse(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            self._left = self._request.content_length
            if self._left < 0:
                self._origin.bucket.counts.problem("a body without Content-Length")
                self._close()
                return
            if "100-continue" in self._request.headers.get("expect", "").lower():
                self._origin.answer(self, Answer(_CONTINUE))
        taken = min(self._left, len(self._buffer))
        del self._buffer[:taken]
        self._left -= taken
        if self._left == 0:
            self._answering = True
            size = self._request.content_length
            self._origin.answer(self, self._origin.bucket.answer(self._request, size))

    def _write(self) -> None:
        descriptor, offset, left = self._file
        while self._out:
            self._out = self._out[self._socket.send(self._out, _MORE if left else 0) :]
        while left:
            sent = os.sendfile(self._socket.fileno(), descriptor, offset, left)
            if sent == 0:
                raise OSError("the file is shorter than the spec says")
            offset, left = offset + sent, left - sent
            self._file = (descriptor, offset, left)
        self._listen(_READ)
        if self._answering:
            self._answering, self._request = False, None
            if self._buffer:
                self._advance()

    def _listen(self, events: int) -> None:
        if events != self._events and not self._closed:
            self._events = events
            self._origin.selector.modify(self._socket, events, self)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._origin.selector.unregister(self._socket)
            self._socket.close()


def main() -> None:
    """Serve what SPEC.json names (see ``benchmarks.data``)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.origin")
    parser.add_argument("spec", type=Path)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    options = parser.parse_args()
    spec = json.loads(options.spec.read_text())
    files = [os.open(name, os.O_RDONLY) for name in spec["files"]]
    objects = {row[0]: Stored(*row[1:]) for row in spec["objects"]}
    origin = Origin(Bucket(objects), files, options.rtt_ms / 1000)
    print(json.dumps({"port": origin.port}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        origin.serve()
    used = os.times()
    print(json.dumps({"user_seconds": used.user, "system_seconds": used.system}), flush=True)


if __name__ == "__main__":
    main()
