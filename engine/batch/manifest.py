"""Manifest: what to move, an entry an object; from a folder, a prefix, or NDJSON lines.

A manifest is read as a stream: ten million entries take the memory of one. Its lines are read and
written by ``lines.py``, which is loaded when a file is: most runs have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from engine.errors import UsageError
from engine.types import S3Url

Operation = Literal["upload", "download", "copy"]


class ManifestEntry(Struct, frozen=True):
    """One object to move. ``size`` and ``etag`` are what was seen when it was listed.

    ``problem`` names why the entry cannot be moved; it is reported and nothing is sent. A copy
    has a ``source`` at S3 and no path. ``below`` is the folder that the path must stay in: a
    download's over no symbolic link, an upload's by none that leads out of it; without it the path
    may lead anywhere.
    """

    operation: Operation
    path: Path
    url: S3Url
    size: int | None = None
    etag: str | None = None
    problem: str = ""
    source: S3Url | None = None
    below: Path | None = None

    @property
    def name(self) -> str:
        """The other end than ``url``: the file, or what is copied."""
        return str(self.path) if self.source is None else str(self.source)


class Tree(Struct, frozen=True):
    """A folder and a prefix; which way is ``operation``. A copy has two prefixes: all that is
    below ``source`` goes below ``prefix``.

    Attributes:
        follow_symlinks: Links to files outside of an uploaded folder are followed; those inside of
            it are in any case, those to folders never.
        empty_folders: Empty folders go up as empty objects whose keys end with a slash.
    """

    operation: Operation
    folder: Path
    prefix: S3Url
    source: S3Url | None = None
    follow_symlinks: bool = False
    empty_folders: bool = False


class Manifest:
    """What to move. Made by one of the class methods; read by ``Engine.run``."""

    def __init__(self, trees: Iterable[Tree] = (), entries: Iterable[ManifestEntry] = ()) -> None:
        self.trees = tuple(trees)
        self.entries = entries

    @classmethod
    def upload(
        cls,
        folder: str | os.PathLike[str],
        prefix: S3Url | str,
        *,
        follow_symlinks: bool = False,
        empty_folders: bool = False,
    ) -> Manifest:
        """Every file below ``folder`` to its relative path below ``prefix``; see ``Tree``."""
        tree = Tree(
            "upload",
            Path(folder),
            S3Url.parse(prefix),
            follow_symlinks=follow_symlinks,
            empty_folders=empty_folders,
        )
        return cls(trees=[tree])

    @classmethod
    def download(cls, prefix: S3Url | str, folder: str | os.PathLike[str]) -> Manifest:
        """Every object below ``prefix`` to its relative key below ``folder``. Empty objects whose
        keys end with a slash become folders."""
        return cls(trees=[Tree("download", Path(folder), S3Url.parse(prefix))])

    @classmethod
    def copy(cls, source: S3Url | str, target: S3Url | str) -> Manifest:
        """Every object below the prefix ``source`` to its relative key below ``target``."""
        tree = Tree("copy", Path(), S3Url.parse(target), S3Url.parse(source))
        return cls(trees=[tree])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """The entries of an NDJSON file as ``write`` makes it.

        Raises:
            UsageError: While it is iterated: a line that is not an entry, by its number.
        """
        from engine.batch.lines import Lines

        return cls(entries=Lines(Path(path)))

    def write(self, path: str | os.PathLike[str]) -> int:
        """Write the entries as NDJSON; returns how many. Trees must be listed first."""
        from engine.batch.lines import write

        self._check_listed()
        return write(self.entries, Path(path))

    async def save(self, path: str | os.PathLike[str]) -> int:
        """``write`` for use in a coroutine: it does not block the event loop."""
        from engine.batch.lines import save

        self._check_listed()
        return await save(self.entries, Path(path))

    @property
    def is_one_object(self) -> bool:
        """Whether it is known to be one object at most."""
        entries = self.entries
        return not self.trees and isinstance(entries, list | tuple) and len(entries) <= 1

    def _check_listed(self) -> None:
        if self.trees:
            raise UsageError("a folder or prefix has to be listed before it can be written")
