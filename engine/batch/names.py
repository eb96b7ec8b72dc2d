"""Which object of a tree gets which name, and who comes too late for one.

What lives here: collisions between the keys of one run. What must not: which keys can be names at
all (``path_under``), what stands there already (``files.py``).

Rules of this file
- The first in the order of the listing has the name; the others are refused by name, before
  anything of them is asked for.
- S3 lists keys in the order of their bytes, so whatever is listed between ``a`` and ``a/b`` starts
  with ``a`` too: a stack of the keys that lead to the present one is all that is remembered.
- Where the file system takes two names for one (capitals, Unicode's forms), a number for each name
  is remembered: some 100 bytes.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import final

from engine import disk
from engine.batch.manifest import Tree
from engine.errors import EngineError, NameTaken
from engine.transfer.files import path_under
from engine.transfer.folders import OpenTree
from engine.transfer.temporaries import SUFFIX, Temporaries

# A letter that has two forms: what a folder is tried with has it, and small ones.
_TWO_FORMS = "\u00e9"


@final
class Names:
    """Of one tree that is downloaded. Its methods block."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: set[str] = set()
        self._files: list[str] = []
        self._folds: tuple[bool, bool] | None = None
        self._folded: set[int] = set()

    def look(self, folder: OpenTree, names: Temporaries) -> None:
        """Find out once which names the file system takes for one."""
        if self._folds is None:
            try:
                self._folds = folds(folder, names)
            except (EngineError, OSError, ValueError):
                self._folds = (False, False)  # nothing can be written there; each file says why

    def path(self, relative: str, *, folder: bool = False) -> Path:
        """Where the object ``relative`` goes.

        Args:
            folder: It is a folder, not a file.

        Raises:
            UnsafeKey: It can be no file below the tree.
            NameTaken: Another object has its name, or is a file where this one needs a folder.
        """
        path = path_under(self._tree.folder, relative, self._known)
        files = self._files
        while files and not relative.startswith(files[-1]):
            files.pop()
        for file in files:
            if relative == file or relative[len(file)] == "/":
                raise NameTaken(
                    f"{path} cannot be written: {file!r} is an object too, and a file",
                    fix="Copy one of the two alone, to another name",
                )
        if not folder:
            self._take(path, relative)
            files.append(relative)
        return path

    def _take(self, path: Path, relative: str) -> None:
        capitals, forms = self._folds or (False, False)
        if capitals or forms:
            one = unicodedata.normalize("NFC", relative) if forms else relative
            number = hash(one.casefold() if capitals else one)
            if number in self._folded:
                raise NameTaken(
                    f"{path} cannot be written: this file system takes its name for that of "
                    "another object",
                    fix="Copy one of the two alone, to another name, or to a file system that "
                    "tells them apart",
                )
            self._folded.add(number)

    def __repr__(self) -> str:
        return f"<Names {self._tree.folder} folds={self._folds} folded={len(self._folded)}>"


def folds(tree: OpenTree, names: Temporaries) -> tuple[bool, bool]:
    """Whether the tree's file system takes capitals, and Unicode's forms, for the same name.

    Raises:
        EngineError, OSError: Nothing can be written there.
    """
    folder = tree.enter(tree.root / "any")
    try:
        name = names.new(folder).removesuffix(SUFFIX) + _TWO_FORMS + SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        disk.close(disk.open(folder.name(name), flags, 0o666, dir_fd=folder.at))
        try:
            other = unicodedata.normalize("NFD", name)
            found = [_is_there(folder.name(one), folder.at) for one in (name.upper(), other)]
        finally:
            disk.unlink(folder.name(name), dir_fd=folder.at)
    finally:
        folder.leave()
    return found[0], found[1]


def _is_there(name: str, at: int | None) -> bool:
    try:
        disk.lstat(name, dir_fd=at)
    except (OSError, ValueError):
        return False
    return True
