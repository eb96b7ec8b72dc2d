"""The one door to local files: every call that transfers make of the disk, bound once.

Whoever moves bytes calls these by the module (``disk.fsync``), which costs what ``os.fsync`` costs.
A simulation binds other ones for a while: a full disk, an error, a death in between, power that is
lost before the bytes were on the disk. What must not live here: what a file means.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache, lru_cache
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
    "rename_new",
    "replace",
    "stat",
    "unlink",
    "utime",
    "write",
]


# After these nothing can be written to the file system until somebody has seen to it.
TAKES_NOTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
# What systems, file systems and sandboxes answer to a call that they do not have. A real refusal of
# one way is one of the next, too.
_NO_SUCH_CALL = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK}
)
# linux/fs.h, linux/fcntl.h
_RENAME_NOREPLACE, _AT_FDCWD = 1, -100


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


def rename_new(source: str, target: str, *, at: int | None = None) -> None:
    """Rename a file, in the folder ``at``, to a name that nothing has: not even what appears at
    this moment is replaced.

    By renameat2(2); where that is not to be had by a second name (link(2)), after which the first
    one is removed. Where there are no second names either it is looked before it is renamed.

    Raises:
        FileExistsError: Something has the name.
    """
    call = _renameat2()
    if call is not None:
        number = call(source, target, _AT_FDCWD if at is None else at)
        if not number:
            return
        if number not in _NO_SUCH_CALL:
            raise OSError(number, os.strerror(number), source, None, target)
    try:
        os.link(source, target, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_CALL:
            raise
    else:
        os.unlink(source, dir_fd=at)
        return
    try:
        os.lstat(target, dir_fd=at)
    except FileNotFoundError:
        os.replace(source, target, src_dir_fd=at, dst_dir_fd=at)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


@cache
def _renameat2() -> Callable[[str, str, int], int] | None:
    """The C library's call, which Python has no name for; its result is 0 or an errno."""
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError, TypeError):
        return None  # not Linux, or a C library of before 2018
    text, number = ctypes.c_char_p, ctypes.c_int
    call.argtypes = (number, text, number, text, ctypes.c_uint)

    def rename(source: str, target: str, at: int) -> int:
        names = os.fsencode(source), os.fsencode(target)
        return ctypes.get_errno() if call(at, names[0], at, names[1], _RENAME_NOREPLACE) else 0

    return rename
