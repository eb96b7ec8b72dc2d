"""stdin and stdout as streams of bytes that never block the event loop.

A pipe or terminal is opened a second time, by its name in /proc, so that it can be made not to
block: the flag belongs to the open file and not to the descriptor, and whoever shares ours would
meet it. Where that is not to be had, and for regular files, a thread reads and writes.

What must not live here: what the bytes are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from engine.errors import UsageError
from engine.threads import ThreadDoor
from engine.types import MiB

STDIN, STDOUT = 0, 1
# Bytes of one read; a pipe holds 64 KiB, or this where the kernel allows it.
READ_SIZE = MiB

Write = Callable[[bytes], Awaitable[None]]


async def read_descriptor(descriptor: int = STDIN) -> AsyncGenerator[bytes, None]:
    """All that comes from a descriptor, until its end.

    Raises:
        UsageError: It is closed, or cannot be read.
    """
    own = _opened_again(descriptor, os.O_RDONLY)
    try:
        if own is None:
            async for data in _read_in_threads(descriptor):
                yield data
            return
        while True:
            try:
                data = os.read(own, READ_SIZE)
            except BlockingIOError:
                await anyio.wait_readable(own)
                continue
            if not data:
                return
            yield data
            await anyio.lowlevel.checkpoint()  # a writer that is always ahead must not be alone
    except OSError as error:
        raise _unusable(descriptor, error) from None
    finally:
        if own is not None:
            os.close(own)


@asynccontextmanager
async def open_descriptor(descriptor: int = STDOUT) -> AsyncIterator[Write]:
    """A function that writes all of its bytes to a descriptor.

    Raises:
        BrokenPipeError: Nobody reads any more.
        UsageError: It is closed.
    """
    own = _opened_again(descriptor, os.O_WRONLY)
    door = ThreadDoor()

    async def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            if own is None:
                view = view[await door.run(os.write, descriptor, view) :]
                continue
            try:
                view = view[os.write(own, view) :]
            except BlockingIOError:
                await anyio.wait_writable(own)
        await anyio.lowlevel.checkpoint()

    try:
        yield write
    finally:
        door.close()
        if own is not None:
            os.close(own)


async def _read_in_threads(descriptor: int) -> AsyncGenerator[bytes, None]:
    door = ThreadDoor()
    try:
        while data := await door.run(os.read, descriptor, READ_SIZE):
            yield data
    finally:
        door.close()


def _opened_again(descriptor: int, flags: int) -> int | None:
    """A descriptor of our own for a pipe or device, which does not block; None for all else.

    A regular file is never opened again: where it is read from and written to goes along with
    the one that we were given.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        raise _unusable(descriptor, error) from None
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return None
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # another system, or a pipe of another user
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(own, fcntl.F_SETPIPE_SZ, READ_SIZE)
    return own


def _unusable(descriptor: int, error: OSError) -> UsageError:
    name = {STDIN: "stdin", STDOUT: "stdout"}.get(descriptor, f"descriptor {descriptor}")
    return UsageError(f"{name} cannot be used: {error.strerror}")
