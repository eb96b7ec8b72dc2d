"""FolderWalk: the files below a folder that is uploaded.

What lives here: what of a folder goes up, what is refused by name, and what is left out with a
word. What must not: how files are read.

Rules of this file
- What cannot go up is an entry with its reason: the others go on, and the run has failed in part.
- Links to files inside the tree are followed; out of it only if that was asked for; links to
  folders never, so that there is no loop.
- Folders are read by descriptors, and never over a link: a folder that is swapped for one leads
  nowhere. What an entry must not leave is in its ``below``; whoever opens the file sees to it.
- What nobody wants up there is left out, told as ``FileSkipped``, and no failure: temporary files
  of downloads, and empty folders, of which S3 has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import final

from engine.batch.manifest import ManifestEntry, Tree
from engine.errors import UsageError
from engine.events import Emit, FileSkipped
from engine.transfer.source_tree import SourceTree
from engine.transfer.temporaries import is_temporary


@final
class FolderWalk:
    """Of one tree. Its methods block, but for ``tell``."""

    def __init__(self, tree: Tree, source: SourceTree) -> None:
        self._tree = tree
        self._source = source
        self._skipped: list[FileSkipped] = []
        self._real = ""

    def entries(self) -> Iterator[ManifestEntry]:
        """Every file, folder by folder, and what cannot be one.

        Raises:
            UsageError: The tree is no folder.
        """
        tree = self._tree
        if not tree.folder.is_dir():
            raise UsageError(f"not a folder: {tree.folder}")
        self._real = os.path.join(os.path.realpath(tree.folder), "")
        waiting = [""]
        while waiting:
            above = waiting.pop()
            folder = os.path.join(tree.folder, above[:-1])
            with ExitStack() as stack:
                try:
                    found = stack.enter_context(self._source.scan(above[:-1]))
                except OSError as error:
                    yield self._problem(Path(folder), f"cannot be read: {error.strerror}")
                    continue
                if not found and above:
                    yield from self._empty(folder, above)
                start = os.path.join(folder, "")
                for item in found:
                    path = start + item.name
                    try:
                        if item.is_dir(follow_symlinks=False):
                            waiting.append(f"{above}{item.name}/")
                            continue
                        if is_temporary(item.name):
                            self._skip(path, "a temporary file of a download")
                            continue
                        entry = self._file(item, path, above + item.name)
                    except OSError as error:  # a link to itself, or it is gone
                        entry = self._problem(Path(path), f"cannot be read: {error.strerror}")
                    yield entry

    def tell(self, emit: Emit) -> None:
        """Tell what was left out since the last time."""
        skipped, self._skipped = self._skipped, []
        for event in skipped:
            emit(event)

    def _file(self, item: os.DirEntry[str], path: str, relative: str) -> ManifestEntry:
        link = item.is_symlink()
        if link and (problem := self._link(item, path)):
            return self._problem(Path(path), problem)
        if not item.is_file():
            return self._problem(Path(path), "not a regular file but a device, pipe or socket")
        anywhere = link and self._tree.follow_symlinks
        return self._entry(Path(path), relative, item.stat().st_size, anywhere=anywhere)

    def _link(self, item: os.DirEntry[str], path: str) -> str:
        """Why a link is not followed; empty if it is."""
        if item.is_dir():
            return "a symbolic link to a folder is not followed"
        if not os.path.exists(path):
            os.stat(path)  # says why
        inside = os.path.realpath(path).startswith(self._real)
        if inside or self._tree.follow_symlinks:
            return ""
        return (
            "a symbolic link that leads out of the folder is not followed "
            "(--follow-symlinks, follow_symlinks)"
        )

    def _empty(self, folder: str, above: str) -> Iterator[ManifestEntry]:
        if self._tree.empty_folders:
            yield self._entry(Path(folder), above, 0)
        else:
            self._skip(folder, "an empty folder (--empty-folders, empty_folders)")

    def _entry(
        self, path: Path, relative: str, size: int, *, anywhere: bool = False
    ) -> ManifestEntry:
        try:
            url = self._tree.prefix.join(relative)
        except UsageError as error:
            return self._problem(path, error.headline)
        below = None if anywhere else self._tree.folder
        return ManifestEntry("upload", path, url, size, below=below)

    def _problem(self, path: Path, problem: str) -> ManifestEntry:
        return ManifestEntry("upload", path, self._tree.prefix, problem=problem)

    def _skip(self, path: str, reason: str) -> None:
        self._skipped.append(FileSkipped(path, reason))

    def __repr__(self) -> str:
        return f"<FolderWalk {self._tree.folder}>"
