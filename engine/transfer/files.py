"""The local end of a download: a temporary file beside the target, renamed when it is whole.

Whatever happens, the target's name shows the old file, no file, or the whole new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from msgspec import Struct, field

from engine import disk
from engine.errors import DiskFull, ObjectExists, TransferError, UnsafeKey, UsageError
from engine.threads import ThreadDoor
from engine.transfer.folders import Folder, OpenTree, enter, moved_away
from engine.transfer.temporaries import WITHOUT_RUN, Temporaries

# Folders that are remembered as no links; each is asked again when they are forgotten.
_MAX_KNOWN = 10_000
_MAX_SHOWN = 1_200
# Linux's PATH_MAX; a key of S3 has a quarter of it at most.
_MAX_PATH = 4_096
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class PartialFile(Struct):
    """A file that is being written, and what it will be called.

    Attributes:
        folder: In which it is, held open.
        kept: It is to stay where it is, for whoever goes on with it.
    """

    target: Path
    temporary: Path
    descriptor: int
    folder: Folder
    published: bool = field(default=False)
    kept: bool = field(default=False)


@asynccontextmanager
async def partial_file(
    target: Path,
    size: int,
    door: ThreadDoor,
    names: Temporaries = WITHOUT_RUN,
    *,
    name: str = "",
    taken: PartialFile | None = None,
    tree: OpenTree | None = None,
) -> AsyncIterator[PartialFile]:
    """A temporary file of ``size`` bytes beside ``target``; removed unless ``publish`` ran, or it
    is to be kept.

    Args:
        name: That it must have; else one of ``names``.
        taken: One that is there already.
        tree: What the target must stay in; else its path may have links on its way.

    Raises:
        UsageError: The target is a folder or cannot be written.
        UnsafeKey: A symbolic link in the tree is in the way.
        TransferError: The disk is full.
    """
    try:
        partial = taken
        if partial is None:
            partial = await door.run(
                _open_partial, target, size, names, name, tree, discard=_discard
            )
    except OSError as error:
        raise local_error(target, error) from None
    except ValueError as error:
        raise UsageError(f"cannot write {str(target)!r}: {error}") from None
    try:
        if taken is not None:
            partial.kept = True  # by who is stopped here
            await door.run(names.tidy, partial.folder)
            partial.kept = False
        yield partial
    except OSError as error:
        raise local_error(target, error) from None
    finally:
        if partial.descriptor >= 0:
            with anyio.CancelScope(shield=True):
                await door.run(close if partial.published or partial.kept else _discard, partial)


async def publish(
    partial: PartialFile, door: ThreadDoor, mtime_ns: int | None = None, *, new: bool = False
) -> None:
    """Give the file its name, durably: bytes first, then the name, then the folder.

    Args:
        mtime_ns: When it was last modified, where that is not now.
        new: Nothing that has the name is replaced.

    Raises:
        ObjectExists: Something has the name, and is to keep it.
    """
    await door.run(_publish, partial, mtime_ns, new)


def check_target(target: Path, folder: Folder) -> int | None:
    """The mode of the file that ``target``, in ``folder``, is by now, or None.

    A rename would put a file in the place of a device, a pipe or a link: the device would be
    gone for everybody, and who made the link meant the file that it leads to.

    Raises:
        UsageError: ``target`` cannot become a file, or is what must not be replaced.
    """
    try:
        mode = disk.lstat(folder.name(name_of(target)), dir_fd=folder.at).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and target.is_dir()):
        raise UsageError(
            f"{target} is a folder",
            fix="End it with a slash to put the object into it"
            if folder.tree.single
            else "Move it away, or copy this object alone, to another name",
        )
    if not stat.S_ISREG(mode):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "a device, pipe or socket"
        raise UsageError(
            f"{target} is not a regular file but {what}; it is not replaced",
            fix="Name the file that is to be written",
        )
    return stat.S_IMODE(mode)


def refuse_existing(target: Path) -> None:
    """Raises ObjectExists if ``target`` is there, even as a link that leads nowhere."""
    if os.path.lexists(target):
        raise _there_already(target)


def take_name(folder: Folder, temporary: str, target: Path, *, new: bool) -> None:
    """In a thread: give a file that is whole the name of ``target``.

    Args:
        temporary: Its name in the folder.
        new: Nothing that has the name is replaced, even if it has appeared just now.

    Raises:
        ObjectExists: Something has it.
    """
    source, name = folder.name(temporary), folder.name(name_of(target))
    if not new:
        disk.replace(source, name, src_dir_fd=folder.at, dst_dir_fd=folder.at)
        return
    try:
        disk.rename_new(source, name, at=folder.at)
    except FileExistsError:
        raise _there_already(target) from None


def _there_already(target: Path) -> ObjectExists:
    return ObjectExists(
        f"{target} exists and was not to be replaced",
        fix="Remove it first, or fetch without if_none_match (--no-overwrite, --if-none-match)",
    )


def path_under(root: Path, relative: str, known: set[str] | None = None) -> Path:
    """The file for key ``relative`` below ``root``.

    A key is not a path: it may hold ``..``, start with a slash or name a folder. What would
    leave ``root`` or cannot be a file name is refused; everything else keeps its bytes.

    Args:
        known: Folders that have been looked at, for the keys that follow.

    Raises:
        UnsafeKey: No such file can be, or it would lie outside, or a symbolic link on the way
            leads outside.
    """
    if len(relative) > _MAX_PATH:
        raise _unsafe(relative, "it is longer than a path can be")
    pieces = relative.split("/")
    for piece in pieces:
        if piece in ("", ".", ".."):
            raise _unsafe(relative, f"it has the piece {piece!r}")
        if "\0" in piece or len(piece) > 63 and len(piece.encode(errors="replace")) > 255:
            raise _unsafe(relative, "a piece of it cannot be a file name")
    above = relative.rpartition("/")[0]
    if known is None or above not in known:
        folder = root
        for piece in pieces[:-1]:
            folder = folder / piece
            if _is_link(folder, relative):
                raise _unsafe(relative, f"{folder} is a symbolic link")
        if known is not None:
            if len(known) >= _MAX_KNOWN:
                known.clear()
            known.add(above)
    return Path(os.path.join(root, relative))


def _is_link(folder: Path, relative: str) -> bool:
    try:
        return folder.is_symlink()
    except (OSError, UnicodeEncodeError) as error:  # too long, or no name of this file system
        why = error.strerror if isinstance(error, OSError) else "it is not valid Unicode"
        raise _unsafe(relative, str(why)) from None


def _unsafe(relative: str, reason: str) -> UnsafeKey:
    return UnsafeKey(
        f"the key {_cut(relative)!r} cannot become a file: {_cut(reason)}",
        fix="Copy this object alone, to a name of your choice",
    )


def _cut(text: str) -> str:
    """For people: a key has at most 1,024 bytes, what a server sends may have more."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def make_folder(target: Path, tree: OpenTree | None) -> None:
    """In a thread: the folder ``target``, durably. Raises as ``OpenTree.enter``."""
    folder = enter(target / "any", tree)
    try:
        folder.sync()
    finally:
        folder.leave()


def name_of(target: Path) -> str:
    """What ``target`` is called in its folder."""
    return target.name or os.curdir


def _open_partial(
    target: Path, size: int, names: Temporaries, name: str, tree: OpenTree | None
) -> PartialFile:
    folder = enter(target, tree)
    try:
        mode = check_target(target, folder)
        names.tidy(folder)
        temporary = name or names.new(folder)
        descriptor = disk.open(folder.name(temporary), CREATE, 0o666, dir_fd=folder.at)
        try:
            if mode is not None:
                disk.fchmod(descriptor, mode)  # a file that is replaced keeps its permissions
            if size:
                _reserve(descriptor, size)
        except BaseException:
            disk.close(descriptor)
            disk.unlink(folder.name(temporary), dir_fd=folder.at)
            raise
    except BaseException:
        folder.leave()
        raise
    return PartialFile(target, target.parent / temporary, descriptor, folder)


def _reserve(descriptor: int, size: int) -> None:
    """Take the disk space now: a full disk is better known before the bytes are fetched.

    In memory taking it would fill it with zeros, a quarter of a second a GiB in which nothing is
    fetched (measured); there it is only looked whether there is room.
    """
    if disk.in_memory(disk.fstat(descriptor).st_dev):
        room = disk.fstatvfs(descriptor)
        if size > room.f_bavail * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        disk.ftruncate(descriptor, size)
        return
    try:
        disk.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        disk.ftruncate(descriptor, size)


def close(partial: PartialFile) -> None:
    """In a thread."""
    descriptor, partial.descriptor = partial.descriptor, -1
    try:
        disk.close(descriptor)
    finally:
        partial.folder.leave()


def _discard(partial: PartialFile) -> None:
    folder = partial.folder
    descriptor, partial.descriptor = partial.descriptor, -1
    try:
        disk.close(descriptor)
    finally:
        try:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(folder.name(partial.temporary.name), dir_fd=folder.at)
        finally:
            folder.leave()


def _publish(partial: PartialFile, mtime_ns: int | None, new: bool) -> None:
    """In a thread, and in one trip: a trip costs more than the system calls of a small file."""
    if mtime_ns is not None:
        disk.utime(partial.descriptor, ns=(time.time_ns(), mtime_ns))
    folder, target = partial.folder, partial.target
    if not folder.in_place():
        raise moved_away(target, folder.path)
    disk.fsync(partial.descriptor)
    if not partial.published:
        take_name(folder, partial.temporary.name, target, new=new)
    partial.published = True
    folder.sync()
    close(partial)


def local_error(target: Path, error: OSError | ValueError) -> TransferError:
    """What the system said, with the file's name and what to do."""
    if isinstance(error, ValueError):
        return TransferError(f"cannot write {str(target)!r}: {error}")
    headline = f"cannot write {target}: {error.strerror}"
    if error.errno in disk.TAKES_NOTHING:
        read_only = error.errno == errno.EROFS
        return DiskFull(headline, fix="Name another folder" if read_only else "Free some space")
    return TransferError(headline)
