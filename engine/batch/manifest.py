"""Manifest: what to move, an entry an object; from a folder, a prefix, or NDJSON lines.

A manifest is read as a stream: ten million entries take the memory of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiofiles
import aiofiles.os
import msgspec

from engine.errors import UsageError
from engine.types import S3Url

Operation = Literal["upload", "download"]

# A line longer than this is not an entry: a key has 1,024 bytes, a path 4,096.
_MAX_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One object to move. ``size`` and ``etag`` are what was seen when it was listed.

    ``problem`` names why the entry cannot be moved; it is reported and nothing is sent.
    """

    operation: Operation
    path: Path
    url: S3Url
    size: int | None = None
    etag: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder and a prefix; which way is ``operation``."""

    operation: Operation
    folder: Path
    prefix: S3Url


class _Line(msgspec.Struct, omit_defaults=True):
    op: Operation
    path: str
    url: str
    size: int | None = None
    etag: str | None = None


class Manifest:
    """What to move. Made by one of the class methods; read by ``Engine.run``."""

    def __init__(self, trees: Iterable[Tree] = (), entries: Iterable[ManifestEntry] = ()) -> None:
        self.trees = tuple(trees)
        self.entries = entries

    @classmethod
    def upload(cls, folder: str | os.PathLike[str], prefix: S3Url | str) -> Manifest:
        """Every file below ``folder`` to its relative path below ``prefix``."""
        return cls(trees=[Tree("upload", Path(folder), S3Url.parse(prefix))])

    @classmethod
    def download(cls, prefix: S3Url | str, folder: str | os.PathLike[str]) -> Manifest:
        """Every object below ``prefix`` to its relative key below ``folder``."""
        return cls(trees=[Tree("download", Path(folder), S3Url.parse(prefix))])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """The entries of an NDJSON file as ``write`` makes it.

        Raises:
            UsageError: While it is iterated: a line that is not an entry, by its number.
        """
        return cls(entries=_Lines(Path(path)))

    def write(self, path: str | os.PathLike[str]) -> int:
        """Write the entries as NDJSON; returns how many. Trees must be listed first."""
        self._check_listed()
        temporary = Path(f"{os.fspath(path)}.part")
        count = 0
        with temporary.open("wb") as file:
            for entry in self.entries:
                file.write(_encode(entry))
                count += 1
        temporary.replace(path)
        return count

    async def save(self, path: str | os.PathLike[str]) -> int:
        """``write`` for use in a coroutine: it does not block the event loop."""
        self._check_listed()
        temporary = f"{os.fspath(path)}.part"
        count = 0
        async with aiofiles.open(temporary, "wb") as file:
            for entry in self.entries:
                await file.write(_encode(entry))
                count += 1
        await aiofiles.os.replace(temporary, path)
        return count

    def _check_listed(self) -> None:
        if self.trees:
            raise UsageError("a folder or prefix has to be listed before it can be written")


def _encode(entry: ManifestEntry) -> bytes:
    line = _Line(entry.operation, str(entry.path), str(entry.url), entry.size, entry.etag)
    return msgspec.json.encode(line) + b"\n"


class _Lines:
    """The entries of a file, read anew at every iteration."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[ManifestEntry]:
        decoder = msgspec.json.Decoder(_Line)
        try:
            with self._path.open("rb") as file:
                for number, raw in enumerate(file, start=1):
                    yield self._entry(decoder, number, raw)
        except OSError as error:
            raise UsageError(f"cannot read manifest {self._path}: {error.strerror}") from None

    def _entry(
        self, decoder: msgspec.json.Decoder[_Line], number: int, raw: bytes
    ) -> ManifestEntry:
        if len(raw) > _MAX_LINE:
            raise UsageError(f"{self._path} line {number} has over {_MAX_LINE} bytes")
        try:
            line = decoder.decode(raw)
            return ManifestEntry(
                line.op, Path(line.path), S3Url.parse(line.url), line.size, line.etag
            )
        except (msgspec.MsgspecError, UsageError) as error:
            raise UsageError(f"{self._path} line {number} is not an entry: {error}") from None
