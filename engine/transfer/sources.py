"""Where the bytes of an upload come from. Reads block; planes make them in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self, final

from msgspec import Struct

from engine import disk
from engine.errors import SourceChanged, TransferError, UsageError
from engine.protocols import ByteSource, ChecksumAlgorithm
from engine.records import file_version
from engine.threads import ThreadDoor
from engine.transfer.source_tree import READ, SourceTree
from engine.types import KiB


class Fingerprint(Struct, frozen=True):
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

    Args:
        tree: What the file must be in; else its path may have links on its way.

    Raises:
        TransferError: A symbolic link leads out of the tree.
        UsageError: It does not exist, may not be read, or is not a regular file.
    """

    def __init__(self, path: Path, tree: SourceTree | None = None) -> None:
        self.name = str(path)
        self._path = path
        self._descriptor = self.descriptor = open_to_read(path, tree)
        status = disk.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise UsageError(f"not a regular file: {path}")
        self._fingerprint = Fingerprint.of(status)
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.version = file_version(status)

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                got = disk.preadv(self._descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise TransferError(f"cannot read {self.name}: {error.strerror}") from None
            if got == 0:
                raise self._changed("it is shorter than it was")
            done += got

    def check_unchanged(self) -> None:
        """Compare size, time and inode, of the open file and of what its name leads to now."""
        try:
            by_name = Fingerprint.of(disk.stat(self._path))
        except OSError:
            raise self._changed("it is gone") from None
        if not Fingerprint.of(disk.fstat(self._descriptor)) == by_name == self._fingerprint:
            raise self._changed("its size, time or inode is another")

    def _changed(self, how: str) -> SourceChanged:
        return changed(self.name, how)

    def close(self) -> None:
        disk.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# A file up to here is read where it is opened: a trip to a thread costs more than its bytes.
# 64 of them under way at once hold 8 MiB.
SMALL_FILE = 128 * KiB


@asynccontextmanager
async def open_file(
    path: Path, door: ThreadDoor, tree: SourceTree | None = None
) -> AsyncIterator[ByteSource]:
    """The bytes of a file; a small one is in memory already.

    Raises:
        UsageError, TransferError: As ``FileSource``.
        SourceChanged: A small file changed while it was read.
    """
    source = await door.run(_open, path, tree, discard=_close)
    try:
        yield source
    finally:
        _close(source)


def _open(path: Path, tree: SourceTree | None) -> FileSource | BytesSource:
    return read_small(path, tree=tree) or FileSource(path, tree)


def read_small(
    path: Path, algorithm: ChecksumAlgorithm | None = None, tree: SourceTree | None = None
) -> BytesSource | None:
    """In a thread: the bytes of a small file, and their sum; None for one that is not.

    What its name leads to afterwards is not looked at: the bytes are those of one file, which did
    not change while it was read.

    Raises:
        UsageError, TransferError: As ``FileSource``.
        SourceChanged: It changed while it was read.
    """
    descriptor = open_to_read(path, tree)
    try:
        before = disk.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise UsageError(f"not a regular file: {path}")
        if before.st_size > SMALL_FILE:
            return None
        try:
            data = disk.read(descriptor, before.st_size + 1)
        except OSError as error:
            raise TransferError(f"cannot read {path}: {error.strerror}") from None
        after = disk.fstat(descriptor)
    finally:
        disk.close(descriptor)
    if len(data) != before.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise changed(str(path), "its size or time became another")
    source = BytesSource(data, str(path))
    source.mtime_ns = before.st_mtime_ns
    source.version = file_version(before)
    if algorithm is not None:
        source.summed = (algorithm.name, algorithm.update(data))
    return source


def open_to_read(path: Path, tree: SourceTree | None = None) -> int:
    """A descriptor. Raises as ``FileSource``."""
    try:
        return disk.open(path, READ) if tree is None else tree.open(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from None


def changed(name: str, how: str) -> SourceChanged:
    """The error for a file that is not what it was."""
    return SourceChanged(
        f"{name} changed while it was uploaded: {how}",
        fix="Nothing of it is visible at S3; upload it again when nobody writes to it",
    )


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
