"""The one door to local files: every call that transfers make of the disk, bound once.

Whoever moves bytes calls these by the module (``disk.fsync``), which costs what ``os.fsync`` costs.
A simulation binds other ones for a while: a full disk, an error, a death in between, power that is
lost before the bytes were on the disk. What must not live here: what a file means.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from os import (
    close,
    fchmod,
    fstat,
    fstatvfs,
    fsync,
    ftruncate,
    lstat,
    mkdir,
    open,
    preadv,
    pwrite,
    read,
    replace,
    stat,
    unlink,
    utime,
    write,
)
from time import monotonic

try:
    from os import posix_fallocate
except ImportError:  # not on macOS

    def posix_fallocate(fd: int, offset: int, length: int, /) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


__all__ = [
    "TAKES_NOTHING",
    "close",
    "fchmod",
    "folder_in_memory",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "in_memory",
    "lstat",
    "mkdir",
    "monotonic",
    "names_in",
    "open",
    "posix_fallocate",
    "preadv",
    "pwrite",
    "read",
    "replace",
    "stat",
    "unlink",
    "utime",
    "write",
]


# After these nothing can be written to the file system until somebody has seen to it.
TAKES_NOTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@lru_cache(maxsize=64)
def in_memory(device: int) -> bool:
    """Whether the file system is tmpfs, as Linux tells (proc_pid_mountinfo(5)). Another one may
    get the same number later; then its files are reserved less or more eagerly, no more."""
    if os.major(device):
        return False
    mine = f"{os.major(device)}:{os.minor(device)}"
    try:
        with os.fdopen(os.open("/proc/self/mountinfo", os.O_RDONLY), "rb") as mounts:
            lines = [line.decode(errors="replace").split() for line in mounts]
    except OSError:
        return False  # not Linux
    return any(
        fields[2] == mine and fields[fields.index("-") + 1] == "tmpfs"
        for fields in lines
        if len(fields) > 3 and "-" in fields[:-1]
    )


def folder_in_memory(folder: str | os.PathLike[str]) -> bool | None:
    """``in_memory`` of a folder; None where it cannot be looked at, as one that is not there."""
    try:
        return in_memory(stat(folder).st_dev)
    except (OSError, ValueError):
        return None


def names_in(descriptor: int | None, folder: str) -> list[str]:
    """The names in a folder: the open one, or that of the path where there is none."""
    with os.scandir(folder if descriptor is None else descriptor) as found:
        return [item.name for item in found]
