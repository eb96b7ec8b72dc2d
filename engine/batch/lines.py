"""A manifest's file: NDJSON, a line an entry.

What must not live here: what an entry means (``manifest.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import final

import aiofiles
import aiofiles.os
import msgspec

from engine.batch.manifest import ManifestEntry, Operation
from engine.errors import UsageError
from engine.types import S3Url

# A line longer than this is not an entry: a key has 1,024 bytes, a path 4,096.
_MAX_LINE = 64 * 1024


class _Line(msgspec.Struct, omit_defaults=True):
    op: Operation
    url: str
    path: str = ""
    size: int | None = None
    etag: str | None = None
    source: str | None = None
    below: str = ""
    problem: str = ""
    # Instead of path and below, where these are no Unicode, which JSON has to be.
    path_bytes: bytes = b""  # base64, as msgspec writes bytes
    below_bytes: bytes = b""


def write(entries: Iterable[ManifestEntry], path: Path) -> int:
    """Write the entries; returns how many. The file appears when it is whole."""
    temporary = Path(f"{path}.part")
    count = 0
    with temporary.open("wb") as file:
        for entry in entries:
            file.write(_encode(entry))
            count += 1
    temporary.replace(path)
    return count


async def save(entries: Iterable[ManifestEntry], path: Path) -> int:
    """``write`` for use in a coroutine: it does not block the event loop."""
    temporary = f"{path}.part"
    count = 0
    async with aiofiles.open(temporary, "wb") as file:
        for entry in entries:
            await file.write(_encode(entry))
            count += 1
    await aiofiles.os.replace(temporary, path)
    return count


@final
class Lines:
    """The entries of a file, read anew at every iteration.

    Raises:
        UsageError: While it is iterated: a line that is not an entry, by its number.
    """

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
            return _entry_of(line)
        except (msgspec.MsgspecError, ValueError, RecursionError, UsageError) as error:
            raise UsageError(f"{self._path} line {number} is not an entry: {error}") from None


def _entry_of(line: _Line) -> ManifestEntry:
    source = S3Url.parse(line.source) if line.source is not None else None
    path = os.fsdecode(line.path_bytes) or line.path
    if (line.op == "copy") != (source is not None) or (line.op == "copy") == bool(path):
        raise UsageError(f"{line.op} needs a {'source' if line.op == 'copy' else 'path'}, no other")
    return ManifestEntry(
        line.op,
        Path(path),
        S3Url.parse(line.url),
        line.size,
        line.etag,
        problem=line.problem,
        source=source,
        below=_below(line, Path(path)),
    )


def _below(line: _Line, path: Path) -> Path | None:
    below = os.fsdecode(line.below_bytes) or line.below
    if not below:
        return None
    folder = Path(below)
    inside = path.is_relative_to(folder) and (path != folder or bool(line.problem))
    if line.op == "copy" or not inside or ".." in path.relative_to(folder).parts:
        raise UsageError(f"{path} is not below {folder}")
    return folder


def _encode(entry: ManifestEntry) -> bytes:
    path, source = (str(entry.path), None) if entry.source is None else ("", str(entry.source))
    below = "" if entry.below is None else str(entry.below)
    line = _Line(entry.operation, str(entry.url), path, entry.size, entry.etag, source, below)
    if entry.problem:
        line.problem = entry.problem.encode(errors="backslashreplace").decode()
    try:
        return msgspec.json.encode(line) + b"\n"
    except UnicodeEncodeError:  # a name of bytes that are no UTF-8
        line.path, line.path_bytes = "", os.fsencode(path)
        line.below, line.below_bytes = "", os.fsencode(below)
        return msgspec.json.encode(line) + b"\n"
