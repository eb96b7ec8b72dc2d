"""pieces_of(): whatever gives bytes without saying how many, as an async iterator of pieces.

What must not live here: what becomes of the bytes (``streams.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Protocol

from engine.errors import TransferError, UsageError
from engine.threads import ThreadDoor
from engine.types import MiB

Buffer = bytes | bytearray | memoryview

# Bytes of one read from a file: a trip to a thread costs as much as copying 200 KiB.
READ_SIZE = MiB


class BinaryFile(Protocol):
    """A file object that gives bytes: ``open(path, "rb")``, ``Popen.stdout``, ``io.BytesIO``."""

    def read(self, size: int, /) -> bytes: ...


class AsyncBinaryFile(Protocol):
    """The same with ``await``: of anyio, aiofiles, aiohttp, ``asyncio.StreamReader``."""

    async def read(self, size: int, /) -> bytes: ...


StreamSource = AsyncIterable[bytes] | AsyncBinaryFile | BinaryFile


async def pieces_of(source: StreamSource, door: ThreadDoor) -> AsyncGenerator[Buffer, None]:
    """The bytes of ``source`` in pieces; closed with it, where it is a generator.

    A file object's ``read`` runs in a thread. A read that waits, as from a pipe, cannot be
    cancelled: the cancellation comes through when it returns.

    Raises:
        UsageError: ``source`` is none of the kinds above, or gives something else than bytes.
        TransferError: It cannot be read.
    """
    read = getattr(source, "read", None)
    found: AsyncGenerator[object, None]
    # The lines of an async file are pieces too, but small ones.
    if isinstance(source, AsyncIterable) and not (read and hasattr(source, "readline")):
        found = _iterated(source)
    elif callable(read):
        found = _read(read, str(getattr(source, "name", source)), door)
    else:
        raise UsageError(
            f"a {type(source).__name__} is no stream",
            fix="Give an async iterable of bytes, or a file object that gives bytes",
        )
    async with aclosing(found):
        async for piece in found:
            yield _checked(piece)


async def _iterated(source: AsyncIterable[object]) -> AsyncGenerator[object, None]:
    iterator = aiter(source)
    if not inspect.isasyncgen(iterator):
        async for piece in iterator:
            yield piece
        return
    async with aclosing(iterator):
        async for piece in iterator:
            yield piece


async def _read(
    read: Callable[[int], object], name: str, door: ThreadDoor
) -> AsyncGenerator[object, None]:
    waits = inspect.iscoroutinefunction(read)
    while True:
        try:
            got = read(READ_SIZE) if waits else await door.run(read, READ_SIZE)
            piece = await got if isinstance(got, Awaitable) else got
        except OSError as error:
            raise TransferError(f"cannot read {name}: {error.strerror or error}") from None
        if not piece:
            return  # b"": the end. None, of a file that does not block, is no end but a mistake.
        yield piece


def _checked(piece: object) -> Buffer:
    if isinstance(piece, bytes | bytearray | memoryview):
        return piece
    with suppress(TypeError):
        return memoryview(piece)  # type: ignore[arg-type]  # whatever has the buffer protocol
    raise UsageError(
        f"a stream gave {type(piece).__name__}, not bytes", fix="Open it in binary mode"
    )
