"""FileWriter: many small files, written in groups.

What lives here: who is written with whom. A trip to a thread costs as much as the system calls of
a small file, and a folder is made durable for all of its files at once; so files that come while
others are being written go together. In memory (tmpfs) no call waits for anything and nothing can
be made durable: there a file is written where it is asked for, since two threads that pass the
interpreter's lock to and fro take half as much again. What must not: what a target may be
(``files.py``).

Rules of this file
- When ``write`` returns, the file is durable: its bytes, its name, and the folder of the name.
- A file that cannot be written is an error of whoever asked for it, and of nobody else.
- There is no task: of those who wait, one leads. Who leads takes along what is there, and at its
  end names the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import final

import anyio

from engine import disk
from engine.errors import UsageError
from engine.records import file_version
from engine.threads import ThreadDoor
from engine.transfer.files import (
    CREATE,
    check_target,
    local_error,
    take_name,
)
from engine.transfer.folders import Folder, OpenTree, enter
from engine.transfer.sinks import HEAD_ROOM, SmallSink
from engine.transfer.temporaries import WITHOUT_RUN, Temporaries
from engine.types import KiB

# Files of one group: with 128 KiB each some 4 MiB, and a few milliseconds of one thread.
MAX_GROUP = 32
# Groups at once. More only help where a disk makes each of them wait.
TRIPS, TRIPS_OF_SLOW_DISKS = 2, 8
# Of one file; what takes longer waits for a disk. Seconds.
SLOW_FILE = 0.001
# Buffers that are kept for the next objects, by sizes in steps.
MAX_BUFFERS, BUFFER_STEP = 64, 16 * KiB
# Folders of which it is remembered where they are.
MAX_FOLDERS = 1024

# Those of one group, by the tree and the path.
_Folders = dict[tuple[OpenTree | None, str], Folder]


class _Write:
    """One file, and who waits for it."""

    __slots__ = (
        "data",
        "descriptor",
        "done",
        "durable",
        "error",
        "folder",
        "mtime_ns",
        "names",
        "new",
        "status",
        "target",
        "temporary",
        "tree",
        "waiter",
    )

    def __init__(
        self,
        target: Path,
        data: bytes | bytearray | memoryview,
        mtime_ns: int | None,
        names: Temporaries,
        tree: OpenTree | None,
        new: bool,
    ) -> None:
        self.target = target
        self.new = new
        self.names = names
        self.tree = tree
        self.folder: Folder | None = None
        self.data = data
        self.mtime_ns = mtime_ns
        self.temporary = ""
        self.descriptor = -1
        self.done = False
        self.durable = True
        self.error: Exception | None = None
        self.status: os.stat_result | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> bool:
        """Whether somebody waits who has not been woken before."""
        if self.waiter is None or self.waiter.done():
            return False
        self.waiter.set_result(None)
        return True


@final
class FileWriter:
    """Writes whole files; for one event loop.

    Args:
        remembers: Whether it is told by ``version_of`` what was written; each file is asked for.
    """

    def __init__(
        self, door: ThreadDoor, names: Temporaries = WITHOUT_RUN, *, remembers: bool = False
    ) -> None:
        self._door = door
        self._names = names
        self._pending: deque[_Write] = deque()
        self._trips = 0
        self._most = TRIPS
        self._in_memory: dict[str, bool] = {}
        self._buffers: dict[int, list[bytearray]] = {}
        self._kept = 0
        self._versions: dict[str, str] | None = {} if remembers else None

    def version_of(self, target: Path) -> str:
        """Of the file that was written last as ``target`` (``file_version``), once; else empty."""
        return self._versions.pop(str(target), "") if self._versions else ""

    def sink(self, size: int) -> SmallSink:
        """For a small object that is to be written."""
        return SmallSink(size, partial(self._buffer, room_of(size)))

    def give_back(self, sink: SmallSink) -> None:
        """Its bytes are not needed any more."""
        if sink.buffer is not None and self._kept < MAX_BUFFERS:
            self._kept += 1
            self._buffers.setdefault(len(sink.buffer), []).append(sink.buffer)

    def _buffer(self, size: int) -> bytearray:
        """Memory that an earlier one is done with: new memory would have to be cleared."""
        kept = self._buffers.get(size)
        if not kept:
            return bytearray(size)
        self._kept -= 1
        return kept.pop()

    async def write(
        self,
        target: Path,
        data: bytes | bytearray | memoryview,
        mtime_ns: int | None = None,
        tree: OpenTree | None = None,
        *,
        new: bool = False,
    ) -> None:
        """A whole file, durably; ``target`` is as before or has all of ``data``.

        Args:
            mtime_ns: When it was last modified, where that is not now.
            tree: What the target must stay in; else its path may have links on its way.
            new: Nothing that has the target's name is replaced.

        Raises:
            ObjectExists: Something has the target's name, and is to keep it.
            UsageError: The target is a folder, a link or a device, or cannot be written.
            UnsafeKey: A symbolic link in the tree is in the way.
            TransferError: The disk is full, or says no.
        """
        write = _Write(target, data, mtime_ns, self._names, tree, new)
        if self._is_in_memory(target):
            _write_all([write])
        else:
            await self._write_in_turn(write)
        if isinstance(write.error, OSError):
            raise local_error(target, write.error) from None
        if isinstance(write.error, ValueError):
            raise UsageError(f"cannot write {str(target)!r}: {write.error}") from None
        if write.error is not None:
            raise write.error
        if self._versions is not None and write.status is not None:
            self._versions[str(target)] = file_version(write.status)

    def _is_in_memory(self, target: Path) -> bool:
        folder = os.path.dirname(target)
        known = self._in_memory.get(folder)
        if known is None:
            known = disk.folder_in_memory(folder or ".")
            if known is None:
                return False  # it is made, or found to be impossible, in a thread
            while len(self._in_memory) >= MAX_FOLDERS:
                del self._in_memory[next(iter(self._in_memory))]
            self._in_memory[folder] = known
        return known

    async def _write_in_turn(self, write: _Write) -> None:
        self._pending.append(write)
        try:
            while not write.done:
                if self._trips < self._most:
                    await self._lead()
                else:
                    await self._wait(write)
        except BaseException:
            self._forget(write)
            raise

    async def _lead(self) -> None:
        """Write what is there in one trip, then wake those it was written for, and who leads."""
        group = [self._pending.popleft() for _ in range(min(MAX_GROUP, len(self._pending)))]
        self._trips += 1
        began = disk.monotonic()
        try:
            await self._door.run(_write_all, group)
        finally:
            self._trips -= 1
            slow = disk.monotonic() - began > SLOW_FILE * len(group)
            self._most = TRIPS_OF_SLOW_DISKS if slow else TRIPS
            for write in reversed(group):
                if write.done:
                    write.wake()
                else:  # whoever led was cancelled before a thread began
                    self._pending.appendleft(write)
            self._next_leader()

    def _next_leader(self) -> None:
        free = self._most - self._trips
        for write in self._pending:
            if free <= 0:
                return
            free -= write.wake()

    def _forget(self, write: _Write) -> None:
        """Nobody wants it any more."""
        if write in self._pending:
            self._pending.remove(write)
            self._next_leader()  # it may have been the one

    async def _wait(self, write: _Write) -> None:
        """Wait until it is written, or to be the one who leads."""
        write.waiter = asyncio.get_running_loop().create_future()
        try:
            await write.waiter
        except asyncio.CancelledError:
            while not write.done and write not in self._pending and self._trips:
                # A thread is at it: the caller is to know that nothing comes behind its back.
                write.waiter = asyncio.get_running_loop().create_future()
                with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([write.waiter])
            raise

    def __repr__(self) -> str:
        return f"<FileWriter trips={self._trips} pending={len(self._pending)}>"


def room_of(size: int) -> int:
    """Bytes of the buffer for a small object of ``size``."""
    return -(-(HEAD_ROOM + size) // BUFFER_STEP) * BUFFER_STEP


def _write_all(group: list[_Write]) -> None:
    """All are written before the first is made durable: the disk then takes them together. In a
    thread, but for what is in memory."""
    folders: _Folders = {}
    try:
        for write in group:
            _try(_begin, write, folders)
        for write in group:
            if write.error is None:
                _try(_finish, write, folders)
        synced: dict[Folder, OSError | None] = {}
        for write in group:
            if write.error is not None or not write.durable or write.folder is None:
                continue
            if write.folder not in synced:
                synced[write.folder] = _sync(write.folder)
            write.error = synced[write.folder]
    finally:
        for folder in folders.values():
            folder.leave()
    for write in group:
        write.done = True


def _try(step: Callable[[_Write, _Folders], None], write: _Write, folders: _Folders) -> None:
    try:
        step(write, folders)
    except Exception as error:
        write.error = error
        if write.descriptor >= 0:
            disk.close(write.descriptor)
        if write.temporary and write.folder is not None:
            with contextlib.suppress(OSError):
                disk.unlink(write.folder.name(write.temporary), dir_fd=write.folder.at)


def _begin(write: _Write, folders: _Folders) -> None:
    place = (write.tree, os.path.dirname(write.target))
    folder = folders.get(place)
    if folder is None:
        folder = folders[place] = enter(write.target, write.tree)
    write.folder = folder
    mode = check_target(write.target, folder)
    temporary = write.names.new(folder)
    write.descriptor = disk.open(folder.name(temporary), CREATE, 0o666, dir_fd=folder.at)
    write.temporary = temporary
    if mode is not None:
        disk.fchmod(write.descriptor, mode)  # a file that is replaced keeps its permissions
    done = disk.write(write.descriptor, write.data)
    while done < len(write.data):
        done += disk.write(write.descriptor, memoryview(write.data)[done:])


def _finish(write: _Write, folders: _Folders) -> None:
    folder = write.folder
    assert folder is not None
    if write.mtime_ns is not None:
        disk.utime(write.descriptor, ns=(time.time_ns(), write.mtime_ns))
    # Asked of the file itself: a folder may have become a disk since it was looked at.
    write.status = disk.fstat(write.descriptor)
    write.durable = not disk.in_memory(write.status.st_dev)
    if write.durable:
        disk.fsync(write.descriptor)
    take_name(folder, write.temporary, write.target, new=write.new)
    descriptor, write.descriptor = write.descriptor, -1
    disk.close(descriptor)


def _sync(folder: Folder) -> OSError | None:
    try:
        folder.sync()
    except OSError as error:
        return error
    return None
