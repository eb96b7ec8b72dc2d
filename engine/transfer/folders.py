"""OpenTree: a folder that files are written below, and the folders inside, held by descriptors.

What lives here: how a folder is reached, so that nothing that anybody puts in its way leads out of
the tree. What must not: what a file is (``files.py``), which keys are names (``path_under``).

Rules of this file
- Each folder is opened from its parent's descriptor, and only if it is no symbolic link. The root
  is opened once, by its name: it is the user's choice, with the links on its way.
- What is remembered is looked at before it is used again: files must not follow a folder that was
  moved away, nor be reported under a name where they are not.
- A folder that was made has a durable name before a file in it counts as written (``settle``).
- Where the system has no such calls, names are joined and links are looked for, which leaves a
  moment between the look and the use.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self, final

from engine import disk
from engine.errors import TransferError, UnsafeKey
from engine.transfer.open_folders import OpenFolder, OpenFolders
from engine.transfer.source_tree import SourceTree

# Of one tree; a process may often have 1,024 descriptors, and most are for connections.
MAX_FOLDERS = 64
# Folders whose new names are not durable yet, before they are made so.
MAX_UNSETTLED = 32
_BY_DESCRIPTOR = {os.open, os.stat, os.mkdir, os.rename, os.unlink} <= os.supports_dir_fd
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = _FOLDER | getattr(os, "O_NOFOLLOW", 0)
# What systems answer to the opening of a link, or of a file, as a folder.
_NOT_A_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})


@final
class Folder(OpenFolder):
    """A folder in use. Calls take ``folder.name(...)`` and ``dir_fd=folder.at``."""

    __slots__ = ("identity", "path", "steps", "tree")

    def __init__(self, tree: OpenTree, above: str, path: str, at: int | None) -> None:
        super().__init__(above, at)
        self.tree = tree
        self.path = path
        pieces = above.split("/") if above else []
        self.steps = ["/".join(pieces[:length]) for length in range(1, len(pieces) + 1)]
        status = disk.fstat(at) if at is not None else disk.stat(path)
        self.identity = (status.st_dev, status.st_ino)

    def name(self, name: str) -> str:
        """What a call is to be told of a file in it."""
        return name if self.at is not None else os.path.join(self.path, name)

    def sync(self) -> None:
        """Make the names in it durable, and its own."""
        self.tree.settle()
        if self.at is not None:
            disk.fsync(self.at)
        else:
            _sync_by_path(self.path)

    def leave(self) -> None:
        """It is not used any more."""
        self.tree.leave(self)

    def in_place(self) -> bool:
        """Whether its path still leads to it, and over no link. What a user has named may have
        links on its way."""
        return self.tree.in_place(self)

    def __repr__(self) -> str:
        return f"<Folder {self.path} users={self.users}>"


@final
class OpenTree:
    """A root and what is open below it. Its methods block; any number of threads may call them.

    Args:
        single: For one file, wherever its path leads; closed when that is done.
    """

    def __init__(self, root: Path, *, single: bool = False) -> None:
        self.root = root
        self.single = single
        text = os.fspath(root)
        self._prefix = "" if text == "." else text if text.endswith(os.sep) else text + os.sep
        self._root: Folder | None = None
        self._folders = OpenFolders[Folder](MAX_FOLDERS)
        self._unsettled: list[int] = []

    def enter(self, target: Path) -> Folder:
        """The folder of the file ``target``, made where it is missing; to be left.

        Raises:
            UnsafeKey: A symbolic link is in the way.
            TransferError: A file is; or the root is not where it was.
            OSError, ValueError: As the system says.
        """
        text = os.fspath(target)
        assert text.startswith(self._prefix), "a target outside of its tree"
        above = text[len(self._prefix) :].rpartition("/")[0]
        with self._folders.lock:
            if len(self._folders) and not self._root_in_place():
                raise moved_away(target, os.fspath(self.root))
            folder = self._folders.get(above)
            if folder is None or not self.in_place(folder):
                if folder is not None:
                    self._folders.forget(folder)
                folder = self._open(above)
            folder.users += 1
            return folder

    def leave(self, folder: Folder) -> None:
        """As often as ``enter``."""
        self._folders.leave(folder)
        if self.single:
            self.close()

    def in_place(self, folder: Folder) -> bool:
        """See ``Folder.in_place``."""
        if not self._root_in_place():
            return False
        if not folder.steps:
            return True
        root = self._root
        assert root is not None
        identity = None
        for step in folder.steps:
            try:
                status = disk.stat(root.name(step), dir_fd=root.at, follow_symlinks=False)
            except OSError:
                return False
            if not stat.S_ISDIR(status.st_mode):
                return False
            identity = (status.st_dev, status.st_ino)
        return identity == folder.identity

    def settle(self) -> None:
        """Make the names of folders that were made durable."""
        if self._unsettled:
            with self._folders.lock:
                self._settle()

    def close(self) -> None:
        """Nothing will be entered any more; what is in use is closed when it is left."""
        self._folders.close()
        with self._folders.lock:
            while self._unsettled:
                disk.close(self._unsettled.pop())

    def _root_in_place(self) -> bool:
        """Files must not be reported under a name that leads elsewhere by now."""
        assert self._root is not None
        try:
            status = disk.stat(self._root.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._root.identity

    # All that follows holds the lock.

    def _open(self, above: str) -> Folder:
        if self._root is None or self._folders.get("") is None:
            self._root = self._folders.keep(self._open_root())
        return self._folders.keep(self._walk(self._root, above)) if above else self._root

    def _open_root(self) -> Folder:
        path = os.fspath(self.root)
        try:
            disk.stat(path)
        except FileNotFoundError:
            self._make_root(self.root)
        except NotADirectoryError:
            raise self._in_the_way(path) from None
        if not _BY_DESCRIPTOR:
            return Folder(self, "", path, None)
        try:
            return Folder(self, "", path, disk.open(path, _FOLDER))
        except NotADirectoryError:
            raise self._in_the_way(path) from None

    def _make_root(self, root: Path) -> None:
        """With all that is missing on the way to it."""
        missing = [root]
        for folder in root.parents:
            try:
                disk.stat(folder)
                break
            except FileNotFoundError:
                missing.append(folder)
            except NotADirectoryError:
                raise self._in_the_way(os.fspath(root)) from None
        for folder in reversed(missing):
            try:
                disk.mkdir(folder)
            except FileExistsError:
                continue  # somebody else was at it, too
            except NotADirectoryError:
                raise self._in_the_way(os.fspath(root)) from None
            if _BY_DESCRIPTOR:
                self._remember(disk.open(folder.parent, _FOLDER))

    def _walk(self, root: Folder, above: str) -> Folder:
        path = self._prefix + above
        if root.at is None:
            self._walk_by_path(above)
            return Folder(self, above, path, None)
        at, pieces = root.at, above.split("/")
        for number, piece in enumerate(pieces):
            try:
                inner = self._step(at, piece)
            except OSError as error:
                if error.errno in _NOT_A_FOLDER:
                    raise self._blocked(at, piece, pieces[: number + 1]) from None
                raise
            finally:
                if at != root.at:
                    disk.close(at)
            at = inner
        return Folder(self, above, path, at)

    def _step(self, at: int, piece: str) -> int:
        try:
            return disk.open(piece, _NO_LINK, dir_fd=at)
        except FileNotFoundError:
            pass
        try:
            disk.mkdir(piece, dir_fd=at)
            if not disk.in_memory(disk.fstat(at).st_dev):
                self._remember(disk.open(".", _FOLDER, dir_fd=at))
        except FileExistsError:
            pass  # somebody else was at it, too
        return disk.open(piece, _NO_LINK, dir_fd=at)

    def _walk_by_path(self, above: str) -> None:
        path = self._prefix
        for piece in above.split("/"):
            path = os.path.join(path, piece)
            try:
                disk.mkdir(path)
            except FileExistsError:
                mode = disk.lstat(path).st_mode
                if not stat.S_ISDIR(mode):
                    raise self._in_the_way(path, link=stat.S_ISLNK(mode)) from None

    def _blocked(self, at: int, piece: str, pieces: list[str]) -> TransferError:
        path = self._prefix + "/".join(pieces)
        try:
            mode = disk.lstat(piece, dir_fd=at).st_mode
        except OSError as error:
            return TransferError(f"cannot write below {path}: {error.strerror}")
        return self._in_the_way(path, link=stat.S_ISLNK(mode))

    def _in_the_way(self, path: str, *, link: bool = False) -> TransferError:
        if link:
            return UnsafeKey(
                f"cannot write below {path}: it is a symbolic link, and may lead out of "
                f"{self.root}",
                fix="Remove the link, or copy this object alone, to a name of your choice",
            )
        taken = next((one for one in (Path(path), *Path(path).parents) if one.exists()), path)
        return TransferError(
            f"cannot write below {taken}: it is a file",
            fix="Move it away, or copy this object alone, to another name",
        )

    def _remember(self, descriptor: int) -> None:
        self._unsettled.append(descriptor)
        if len(self._unsettled) > MAX_UNSETTLED:
            self._settle()

    def _settle(self) -> None:
        while self._unsettled:
            disk.fsync(self._unsettled[-1])  # if it fails it stays, and fails for the next, too
            disk.close(self._unsettled.pop())

    def __repr__(self) -> str:
        return f"<OpenTree {self.root} folders={len(self._folders)}>"


def enter(target: Path, tree: OpenTree | None) -> Folder:
    """The folder of ``target``, in its tree or wherever its path leads. Raises as
    ``OpenTree.enter``."""
    if tree is not None:
        return tree.enter(target)
    alone = OpenTree(target.parent, single=True)
    try:
        return alone.enter(target)
    except BaseException:
        alone.close()
        raise


def moved_away(target: Path, folder: str) -> TransferError:
    """The error for a file whose folder is not where it was."""
    return TransferError(
        f"cannot write {target}: {folder} was moved away or replaced meanwhile",
        fix="Copy it again when nobody moves folders in the target",
    )


@final
class Trees:
    """The trees of one run."""

    def __init__(self) -> None:
        self._trees: dict[Path, OpenTree] = {}
        self._sources: dict[Path, SourceTree] = {}

    def of(self, root: Path) -> OpenTree:
        """The tree at ``root``; opened when it is first written to."""
        tree = self._trees.get(root)
        if tree is None:
            tree = self._trees[root] = OpenTree(root)
        return tree

    def source(self, root: Path) -> SourceTree:
        """The tree at ``root``, to be read."""
        tree = self._sources.get(root)
        if tree is None:
            tree = self._sources[root] = SourceTree(root)
        return tree

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for tree in self._trees.values():
            tree.close()
        for source in self._sources.values():
            source.close()

    def __repr__(self) -> str:
        return f"<Trees {len(self._trees)}>"


def _sync_by_path(path: str) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # no such call here
    descriptor = disk.open(path, _FOLDER)
    try:
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)
