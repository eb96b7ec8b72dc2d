"""What this host and this network can move by bare sockets: ``python -m engine.bench.ceiling JOB``.

It sends the requests of a job, signed beforehand, over a fixed number of connections, and does
nothing else: bodies come from one block of memory, answers are thrown away where the kernel or
TLS has put them. No files, no checksums, no retries, no parsing but of lengths. With TLS, bytes
are still encrypted, by the event loop's own TLS; processes share the connections, so that one
core is not the limit. The time is from the first connection to the last answer, without start-up:
a bound for any tool that uses as many connections and requests of this size, not a tool.
Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import cast

import anyio

from engine._wire.endpoint import Origin, locate
from engine._wire.sigv4 import Signer
from engine.bench.runners.job import Job, keys
from engine.config import Endpoints
from engine.types import Credentials, MiB, S3Url

CONNECTIONS = 32
"""More than a first guess of a client has; enough for 12.5 Gbit/s at 50 MB/s a connection."""
REQUEST_BYTES = 8 * MiB
"""The engine's own part size: the most that one request moves."""
MAX_BYTES = 2 * 1024 * MiB
"""A rate needs no more; a job above it is cut."""
MAX_PROCESSES = 4
MAX_SECONDS = 600.0
"""2 GiB at 3.5 MiB/s; slower than that, or silent, it says nothing."""

_PIECE = MiB // 4
_READY = b"r"
_MAX_HEAD = 64 * 1024
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Request:
    """A head that is ready to be sent, and how many bytes follow it."""

    head: bytes
    body: int


class Refused(Exception):
    """An answer that is none of success."""


def pieces(items: Sequence[tuple[str, int]]) -> list[tuple[str, int, int, bool]]:
    """The requests of a job: name, offset, length, and whether that is the whole object."""
    found, total = [], 0
    for name, size in items:
        for offset in range(0, max(size, 1), REQUEST_BYTES):
            length = min(REQUEST_BYTES, size - offset)
            found.append((name, offset, length, length == size))
            total += length
            if total >= MAX_BYTES:
                return found
    return found


def plan(job: Job, connections: int) -> tuple[Origin, list[list[Request]], int]:
    """Where to connect, the requests of each connection, and the bytes of all."""
    endpoints = Endpoints(region=job.region, s3=job.endpoint or None)
    signer, credentials = Signer(job.region), Credentials(*keys())
    now = datetime.now(UTC)
    queues: list[list[Request]] = [[] for _ in range(connections)]
    origin, total = locate(S3Url(job.bucket, job.key), endpoints).origin, 0
    for number, (name, offset, length, whole) in enumerate(pieces(job.items)):
        lane = number % connections
        up = job.verb == "upload"
        # One key a connection, written over and over: nothing that grows.
        target = locate(S3Url(job.bucket, job.key + (str(lane) if up else name)), endpoints)
        method = "PUT" if up else "GET"
        host = {"host": target.origin.host_header}
        headers = signer.sign_head(credentials, method, target.path, host, now=now)
        if up:
            headers["content-length"] = str(length)
        elif not whole:
            headers["range"] = f"bytes={offset}-{offset + length - 1}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {target.path} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
        queues[lane].append(Request(head, length if up else 0))
        total += length
    return origin, [queue for queue in queues if queue], total


class _Connection(asyncio.BufferedProtocol):
    """Its requests one after the other."""

    def __init__(self, requests: Sequence[Request], body: memoryview) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = iter(requests)
        self._body = body
        self._buffer = bytearray(_PIECE)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._left: int | None = None  # of an answer's body; None in a head
        self._at = self._end = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self._transport.set_write_buffer_limits(high=_PIECE)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._left, self._filled = None, 0
        self._at, self._end = 0, request.body
        self._transport.write(request.head)
        self._push()

    def _push(self) -> None:
        while self._at < self._end and not self._paused:
            size = min(_PIECE, self._end - self._at)
            self._transport.write(self._body[self._at : self._at + size])
            self._at += size

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._push()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, size: int) -> None:
        if self._left is None:
            self._filled += size
            end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                if self._filled > _MAX_HEAD:
                    self._fail("its head does not end")
                return
            head = bytes(self._view[: end + 2])
            length = _LENGTH.search(head)
            if head[9:10] != b"2" or length is None:
                self._fail(head.split(b"\r\n", 1)[0].decode("ascii", "replace"))
                return
            self._left = int(length[1])
            size = self._filled - end - 4
            self._filled = 0
        self._left -= size
        if self._left == 0:
            self._next()

    def _fail(self, words: str) -> None:
        if not self.done.done():
            self.done.set_exception(Refused(f"the server's answer is {words}"))
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or Refused("the server closed the connection"))


async def move(
    origin: Origin, queues: Sequence[Sequence[Request]], trust: ssl.SSLContext | None
) -> tuple[float, float]:
    """All requests; the monotonic seconds of begin and end."""
    body = memoryview(os.urandom(min(REQUEST_BYTES, MiB)) * (REQUEST_BYTES // MiB))
    loop = asyncio.get_running_loop()

    async def lane(requests: Sequence[Request]) -> None:
        _, connection = await loop.create_connection(
            lambda: _Connection(requests, body),
            origin.host,
            origin.port,
            ssl=trust,
            server_hostname=origin.host if trust else None,
        )
        await connection.done

    began = time.monotonic()
    with anyio.fail_after(MAX_SECONDS):
        async with anyio.create_task_group() as tasks:
            for queue in queues:
                tasks.start_soon(lane, queue)
    return began, time.monotonic()


def run(job: Job, share: int, processes: int, wait: Callable[[], object]) -> dict[str, float]:
    """One process's share of the connections, begun when ``wait`` returns."""
    origin, queues, _ = plan(job, CONNECTIONS)
    trust = ssl.create_default_context(cafile=job.ca or None) if origin.secure else None
    mine = queues[share::processes]
    uvloop = find_spec("uvloop") is not None
    wait()
    began, ended = anyio.run(move, origin, mine, trust, backend_options={"use_uvloop": uvloop})
    return {"began": began, "ended": ended}


def main() -> None:
    """Without a share: start the others, begin together, and sum up."""
    job = Job.from_argument()
    if len(sys.argv) > 2:
        _say(run(job, int(sys.argv[2]), int(sys.argv[3]), _ready))
        return
    _, queues, total = plan(job, CONNECTIONS)
    processes = max(1, min(MAX_PROCESSES, os.cpu_count() or 1, len(queues)))
    own = [sys.executable, "-P", "-m", "engine.bench.ceiling", sys.argv[1]]
    others = [
        subprocess.Popen(
            [*own, str(share), str(processes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for share in range(1, processes)
    ]
    shares = [run(job, 0, processes, lambda: _start(others))]
    for other in others:
        said, _ = other.communicate()
        if other.returncode != 0:
            sys.exit("a part of the ceiling's connections failed")
        shares.append(json.loads(said))
    wall = max(s["ended"] for s in shares) - min(s["began"] for s in shares)
    _say({"wall": wall, "bytes": total, "connections": len(queues), "processes": processes})


def _ready() -> None:
    """Tell the first process, and wait for its word."""
    os.write(1, _READY)
    os.read(0, 1)


def _start(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let all go once all are ready; one that failed shows it by its end."""
    for other in others:
        assert other.stdout is not None
        other.stdout.read(1)
    for other in others:
        assert other.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            other.stdin.write(b"\n")
            other.stdin.flush()


def _say(values: dict[str, float]) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode())


if __name__ == "__main__":
    main()
