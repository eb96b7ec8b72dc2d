"""Where the bytes of an upload come from. Reads block; planes make them in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from engine.errors import SourceChanged, TransferError, UsageError
from engine.protocols import ByteSource
from engine.threads import ThreadDoor
from engine.types import KiB


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one version of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@final
class FileSource(ByteSource):
    """A regular file, read by position; any number of parts may read it at once.

    Raises:
        UsageError: It does not exist, may not be read, or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        try:
            # O_NONBLOCK: opening a fifo must not hang before it is refused.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.descriptor = self._descriptor
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot read {path}: {reason}") from None
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise UsageError(f"not a regular file: {path}")
        self._fingerprint = Fingerprint.of(status)
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise TransferError(f"cannot read {self.name}: {error.strerror}") from None
            if got == 0:
                raise self._changed("it is shorter than it was")
            done += got

    def check_unchanged(self) -> None:
        """Compare size, time and inode, of the open file and of what its name leads to now."""
        try:
            by_name = Fingerprint.of(os.stat(self._path))
        except OSError:
            raise self._changed("it is gone") from None
        if not Fingerprint.of(os.fstat(self._descriptor)) == by_name == self._fingerprint:
            raise self._changed("its size, time or inode is another")

    def _changed(self, how: str) -> SourceChanged:
        return SourceChanged(
            f"{self.name} changed while it was uploaded: {how}",
            fix="Nothing of it is visible at S3; upload it again when nobody writes to it",
        )

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# A file up to here is read where it is opened: a trip to a thread costs more than its bytes.
# 64 of them under way at once hold 8 MiB.
SMALL_FILE = 128 * KiB


@asynccontextmanager
async def open_file(path: Path, door: ThreadDoor) -> AsyncIterator[ByteSource]:
    """The bytes of a file; a small one is in memory already.

    Raises:
        UsageError: As ``FileSource``.
        SourceChanged: A small file changed while it was read.
    """
    source = await door.run(_open, path, discard=_close)
    try:
        yield source
    finally:
        _close(source)


def _open(path: Path) -> FileSource | BytesSource:
    source = FileSource(path)
    if source.size > SMALL_FILE:
        return source
    with source:
        data = bytearray(source.size)
        source.read_into(0, memoryview(data))
        source.check_unchanged()
        return BytesSource(data, source.name, source.mtime_ns)


def _close(source: ByteSource) -> None:
    if isinstance(source, FileSource):
        source.close()


@final
class BytesSource(ByteSource):
    """Bytes in memory."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        name: str = "<bytes>",
        mtime_ns: int | None = None,
    ) -> None:
        self.mtime_ns = mtime_ns
        self.memory: memoryview = memoryview(data).cast("B")
        self.size = len(self.memory)
        self.name = name

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.memory[offset : offset + len(view)]

    def check_unchanged(self) -> None:
        """Whoever owns the bytes keeps them; nothing to compare."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
