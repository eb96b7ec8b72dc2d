"""SourceTree: a folder that is uploaded, and the folders inside, held by descriptors.

What lives here: how a file of the tree is opened, so that nothing that anybody puts in its way
leads out of the tree. What must not: what of a folder goes up (``batch/local.py``), how bytes are
read (``sources.py``), how files are written (``folders.py``).

Rules of this file
- Each folder is opened from one above it, and only if it is no symbolic link. The root is opened by
  its name: it is the user's choice, with the links on its way.
- A file that is a link is opened where the link leads, if that is in the tree; over no other link.
- A folder that was opened is the one that is read, wherever it is moved.
- Where the system has no such calls links are looked for, which leaves a moment between the look
  and the use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from engine import disk
from engine.errors import TransferError
from engine.transfer.open_folders import OpenFolder, OpenFolders

# Those that are open at once: a walk goes folder by folder, and what waits is of the last ones.
MAX_OPEN = 32
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
# O_NONBLOCK: opening a fifo must not hang before it is refused.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# What systems answer to the opening of a link, and of one as a folder.
_LINK = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})


@final
class SourceTree:
    """One root. Its methods block; any number of threads may call them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        text = os.fspath(root)
        self._prefix = "" if text == "." else text if text.endswith(os.sep) else text + os.sep
        self._length = len(self._prefix)
        self._folders = OpenFolders[OpenFolder](MAX_OPEN)

    def open(self, path: Path) -> int:
        """A descriptor of the file ``path``, to be read.

        Raises:
            TransferError: A symbolic link leads out of the tree.
            OSError, ValueError: As the system says.
        """
        text = os.fspath(path)
        assert text.startswith(self._prefix), "a file outside of its tree"
        if _BY_DESCRIPTOR:
            try:
                return self._open(text[self._length :])
            except OSError as error:
                if error.errno not in _LINK:
                    raise
        inside = self._inside(text)
        try:
            if _BY_DESCRIPTOR:
                return self._open(inside)
            return disk.open(os.path.join(os.path.realpath(self.root), inside), READ | _NO_LINK)
        except OSError as error:
            if error.errno in _LINK and error.errno != errno.ENOTDIR:
                raise self._leads_out(text) from None  # it changes while it is looked at
            raise

    @contextmanager
    def scan(self, above: str) -> Iterator[list[os.DirEntry[str]]]:
        """What is in the folder ``above``, a path below the root, by names. The entries may be
        asked within the block; their paths are of no use.

        Raises:
            OSError: As the system says, for a symbolic link too.
        """
        if not _BY_DESCRIPTOR:
            with os.scandir(os.path.join(self.root, above)) as items:
                found = sorted(items, key=_name)
            yield found
            return
        folder = self._enter(above)
        try:
            with os.scandir(folder.at) as items:
                found = sorted(items, key=_name)
            yield found
        finally:
            self._folders.leave(folder)

    def close(self) -> None:
        """Nothing will be read any more; what is in use is closed when that is over."""
        self._folders.close()

    def _open(self, relative: str) -> int:
        above, _, name = relative.rpartition("/")
        folder = self._enter(above)
        try:
            return disk.open(name, READ | _NO_LINK, dir_fd=folder.at)
        finally:
            self._folders.leave(folder)

    def _enter(self, above: str) -> OpenFolder:
        with self._folders.lock:
            folder = self._folders.get(above)
            if folder is None:
                folder = self._walk(above)
            folder.users += 1
            return folder

    def _walk(self, above: str) -> OpenFolder:
        """Open a folder, from the nearest one that is open. Holds the lock."""
        root = self._folders.get("")
        if root is None:
            root = OpenFolder("", disk.open(os.fspath(self.root), _FOLDER))
            self._folders.keep(root)
        if not above:
            return root
        nearest, start = above, None
        while start is None:
            nearest = nearest.rpartition("/")[0]
            start = self._folders.get(nearest)
        assert start.at is not None
        at = start.at
        for piece in above[len(nearest) :].lstrip("/").split("/"):
            try:
                inner = disk.open(piece, _FOLDER | _NO_LINK, dir_fd=at)
            finally:
                if at != start.at:
                    disk.close(at)
            at = inner
        return self._folders.keep(OpenFolder(above, at))

    def _inside(self, path: str) -> str:
        """Where a path leads, from the root."""
        root = os.path.join(os.path.realpath(self.root), "")
        real = os.path.realpath(path)
        if not real.startswith(root):
            raise self._leads_out(path)
        return real[len(root) :]

    def _leads_out(self, path: str) -> TransferError:
        return TransferError(
            f"cannot read {path}: a symbolic link leads out of {self.root} by now",
            fix="Upload it again when nobody changes the folder",
        )

    def __repr__(self) -> str:
        return f"<SourceTree {self.root} open={len(self._folders)}>"


def _name(item: os.DirEntry[str]) -> str:
    return item.name
