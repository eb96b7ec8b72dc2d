"""A disk that fails, and one that forgets what was not made durable. Real files underneath.

What lives here: the calls of ``engine.disk`` with faults, and what is left of the files when power
is lost. What must not: what files mean.

Durable is what POSIX promises and no more: bytes after ``fsync`` of their file, names after
``fsync`` of their folder. Of the rest some is there, some is not, and some is garbage.
https://pubs.opengroup.org/onlinepubs/9699919799/functions/fsync.html
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, final

from engine import disk
from engine.disk import rename_new
from engine.testing.simulation.loop import Death
from engine.testing.simulation.world import World

_FULL = ("open to write", "write", "pwrite", "posix_fallocate")
_BROKEN = (
    "read", "preadv", "write", "pwrite", "fsync", "replace", "rename_new", "posix_fallocate"
)  # fmt: skip
_CALLS = (
    "close",
    "fchmod",
    "fsync",
    "ftruncate",
    "mkdir",
    "open",
    "posix_fallocate",
    "preadv",
    "pwrite",
    "read",
    "rename_new",
    "replace",
    "unlink",
    "utime",
    "write",
)


@dataclass(slots=True)
class _Dirty:
    """Bytes of one file that are not durable yet, and a descriptor to reach them by."""

    descriptor: int
    extents: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rename:
    """A name that is not durable yet; ``backup`` is the file that had it before."""

    source: str
    target: str
    backup: str | None


@final
class FaultyDisk:
    """The disk of one schedule.

    Args:
        attic: A folder on the same file system, for what a loss of power may bring back.
        forgets: Whether power may be lost; else nothing is remembered for it.
        in_memory: What the engine is to take the disk for.
    """

    def __init__(
        self,
        world: World,
        random: Random,
        attic: Path,
        *,
        full: float = 0.0,
        broken: float = 0.0,
        forgets: bool = False,
        in_memory: bool = False,
    ) -> None:
        self._world = world
        self._random = random
        self._attic = attic
        self.full = full
        self.broken = broken
        self._forgets = forgets
        self._in_memory = in_memory
        self.calls = 0
        self.die_at_call = -1
        self._open: dict[int, tuple[str, bool]] = {}
        self._dirty: dict[int, _Dirty] = {}
        self._renames: list[_Rename] = []
        self._kept = 0
        self._faulty: dict[str, Callable[..., Any]] = {
            "open": self._open_file,
            "close": self._close,
            "write": self._write,
            "pwrite": self._pwrite,
            "preadv": self._preadv,
            "fsync": self._fsync,
            "rename_new": self._rename_new,
            "replace": self._replace,
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The engine's calls come here."""
        before = {name: getattr(disk, name) for name in (*_CALLS, "in_memory", "monotonic")}
        for name in _CALLS:
            setattr(disk, name, self._faulty.get(name) or self._plain(name))
        disk.in_memory = lambda device: self._in_memory  # type: ignore[assignment]
        disk.monotonic = self._world.now
        try:
            yield
        finally:
            for name, call in before.items():
                setattr(disk, name, call)

    def calm(self) -> None:
        """Nothing fails any more."""
        self.full = self.broken = 0.0

    def bury(self) -> None:
        """The process is dead: the system closes its files."""
        for descriptor in list(self._open):
            with suppress(OSError):
                os.close(descriptor)
        self._open.clear()

    def open_files(self) -> list[str]:
        """What the engine has open."""
        return sorted(path for path, _ in self._open.values())

    # Each call.

    def _step(self, call: str) -> None:
        """Before a call is made: it may be the last, or fail."""
        if self._world.dead:
            raise Death
        self.calls += 1
        if self.calls == self.die_at_call:
            self._world.coverage.hit("death at", f"disk {call}", f"run {self._world.run}")
            self._world.die()
        number = 0
        if call in _FULL and self._random.random() < self.full:
            number = errno.ENOSPC
        elif call in _BROKEN and self._random.random() < self.broken:
            number = errno.EIO
        if number:
            name = errno.errorcode[number]
            self._world.coverage.hit(name, f"disk {call}", f"run {self._world.run}")
            self._world.tell(f"disk {call} {name}")
            raise OSError(number, os.strerror(number))

    def _plain(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **named: Any) -> Any:
            self._step(name)
            return real(*args, **named)

        return call

    def _open_file(
        self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        self._step("open to write" if flags & (os.O_CREAT | os.O_RDWR) else "open")
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
        self._open[descriptor] = (self._whole(path, dir_fd), bool(flags & os.O_DIRECTORY))
        return descriptor

    def _whole(self, path: str, dir_fd: int | None) -> str:
        """The path, from the name of the folder that it was given with."""
        path = os.fspath(path)
        if dir_fd is not None:
            path = os.path.join(self._open[dir_fd][0], path)
        return os.path.normpath(path)

    def _close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)  # a descriptor that fails to close is closed
        self._step("close")
        os.close(descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        self._step("write")
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        return self._wrote(descriptor, offset, os.write(descriptor, self._some(data)))

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        self._step("pwrite")
        return self._wrote(descriptor, offset, os.pwrite(descriptor, self._some(data), offset))

    def _preadv(self, descriptor: int, buffers: Any, offset: int) -> int:
        self._step("preadv")
        (buffer,) = buffers
        return os.preadv(descriptor, [self._some(memoryview(buffer))], offset)

    def _some(self, data: Any) -> Any:
        """A call may move less than it was asked for."""
        if len(data) > 1 and self._random.random() < 0.05:
            return memoryview(data)[: self._random.randrange(1, len(data))]
        return data

    def _wrote(self, descriptor: int, offset: int, count: int) -> int:
        if self._forgets:
            inode = os.fstat(descriptor).st_ino
            if inode not in self._dirty:
                self._dirty[inode] = _Dirty(os.dup(descriptor))
            self._dirty[inode].extents.append((offset, count))
        return count

    def _fsync(self, descriptor: int) -> None:
        self._step("fsync")
        if not self._forgets:
            return
        path, folder = self._open[descriptor]
        if folder:
            self._renames = [one for one in self._renames if os.path.dirname(one.target) != path]
        else:
            dirty = self._dirty.pop(os.fstat(descriptor).st_ino, None)
            if dirty is not None:
                os.close(dirty.descriptor)

    def _replace(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        self._step("replace")
        source, target = self._whole(source, src_dir_fd), self._whole(target, dst_dir_fd)
        if self._forgets:
            backup = None
            if os.path.exists(target):
                self._kept += 1
                backup = str(self._attic / str(self._kept))
                os.link(target, backup)
            self._renames.append(_Rename(source, target, backup))
        os.replace(source, target)
        self._world.tell("renamed")

    def _rename_new(self, source: str, target: str, *, at: int | None = None) -> None:
        self._step("rename_new")
        rename_new(source, target, at=at)
        if self._forgets:
            self._renames.append(_Rename(self._whole(source, at), self._whole(target, at), None))
        self._world.tell("renamed")

    # Power.

    def lose_power(self) -> None:
        """What was not durable is lost, or not, or garbage."""
        random = self._random
        for rename in reversed(self._renames):
            if random.random() < 0.5 and os.path.exists(rename.target):
                os.replace(rename.target, rename.source)
                if rename.backup is not None:
                    os.replace(rename.backup, rename.target)
        for dirty in self._dirty.values():
            if random.random() < 0.3:
                os.ftruncate(dirty.descriptor, 0)
            for offset, count in dirty.extents:
                pick = random.random()
                if pick < 0.3:
                    os.pwrite(dirty.descriptor, bytes(count), offset)
                elif pick < 0.6:
                    os.pwrite(dirty.descriptor, random.randbytes(count), offset)
        self.keep_power()

    def keep_power(self) -> None:
        """All that was written has come to the disk by now."""
        for dirty in self._dirty.values():
            os.close(dirty.descriptor)
        self._dirty.clear()
        self._renames.clear()
