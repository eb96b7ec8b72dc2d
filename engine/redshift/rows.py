"""Rows of local CSV files, counted before they are staged; single lines, for error reports.

The count is what COPY's own count is compared with, so it follows quotes: a line end inside a
quoted field ends no row. Everything here blocks: call it through ``ThreadDoor.run``.
What must not live here: header rules and comparisons.
"""

from __future__ import annotations

import contextlib
import gzip as gzip_module
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.from_thread

from engine.errors import LoadRefused
from engine.types import KiB, MiB

_BLOCK = 1 * MiB
# Redshift takes rows up to 4 MB; what is shown to a person needs far less.
MAX_RAW_LINE = 64 * KiB
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class RowScan:
    """What a file holds.

    Attributes:
        rows: CSV rows, the header among them.
        lines: Physical lines; more than rows where quoted fields hold line ends.
        bytes: Bytes of the content, unpacked.
    """

    rows: int
    lines: int
    bytes: int


def scan_csv(path: Path, quote: str = '"', gzip: bool = False) -> RowScan:
    """Count the rows of a CSV file in one pass and constant memory. Blocks.

    A last line without a line end counts; a final line end begins no further row; an empty file
    has none. Doubled quotes need no care: they change the parity twice.

    Raises:
        LoadRefused: The file cannot be read, is not the gzip its name says (or is gzip and its
            name does not say so), or ends inside a quoted field.
    """
    if not gzip:
        _refuse_hidden_gzip(path)
    mark = quote.encode("ascii")
    rows = lines = size = 0
    inside = 0
    last = b""
    for block in _blocks(path, gzip):
        size += len(block)
        ends = block.count(b"\n")
        lines += ends
        quotes = block.count(mark)
        if quotes == 0:
            rows += 0 if inside else ends
        else:
            # Every second piece between quotes lies outside of them.
            rows += b"".join(block.split(mark)[inside::2]).count(b"\n")
            inside ^= quotes & 1
        last = block[-1:]
    if inside:
        raise LoadRefused(
            f"{path} ends inside a quoted field", fix="Close the quote, or name another quote"
        )
    tail = 1 if last not in (b"", b"\n") else 0
    return RowScan(rows + tail, lines + tail, size)


def raw_line(path: Path, line_number: int, gzip: bool = False) -> str | None:
    """One physical line of a file, counted from 1, without its line end; None past the end.

    Blocks. At most 64 KiB are returned; bytes that are not UTF-8 are replaced.

    Raises:
        LoadRefused: The file cannot be read.
    """
    skip = line_number - 1
    if skip < 0:
        return None
    found = bytearray()
    started = False
    for block in _blocks(path, gzip):
        start = 0
        if skip:
            ends = block.count(b"\n")
            if ends < skip:
                skip -= ends
                continue
            start = len(block) - len(block.split(b"\n", skip)[skip])
            skip = 0
        end = block.find(b"\n", start)
        found += block[start : end if end >= 0 else len(block)]
        started = started or start < len(block)
        if end >= 0 or len(found) >= MAX_RAW_LINE:
            break
    if not started:
        return None
    return bytes(found[:MAX_RAW_LINE]).removesuffix(b"\r").decode("utf-8", "replace")


def _blocks(path: Path, gzip: bool) -> Iterator[bytes]:
    """Content of a file, block by block; every reason not to read it is one error."""
    try:
        with open(path, "rb", buffering=0) as raw:
            file = gzip_module.GzipFile(fileobj=raw, mode="rb") if gzip else raw
            while block := file.read(_BLOCK):
                _stop_if_cancelled()
                yield block
    except (EOFError, zlib.error, gzip_module.BadGzipFile) as error:
        raise LoadRefused(f"{path} is not a whole gzip file", reason=error) from error
    except OSError as error:
        raise LoadRefused(f"{path} cannot be read", reason=error.strerror) from error


def _stop_if_cancelled() -> None:
    """End the call when its awaiting task was cancelled: a big file takes many seconds."""
    # Outside a thread of the door there is no task to ask.
    with contextlib.suppress(RuntimeError):
        anyio.from_thread.check_cancelled()


def _refuse_hidden_gzip(path: Path) -> None:
    for block in _blocks(path, False):
        if block.startswith(_GZIP_MAGIC):
            raise LoadRefused(
                f"{path} is gzip, and its name does not end in .gz", fix="Rename it to end in .gz"
            )
        return
