"""CSV bytes into rows for PostgreSQL, with every field checked as Redshift checks it.

Rules of this file: it runs in a worker thread, batch by batch, and never touches the database.
Theory of operation: a batch of rows is turned into columns and every column is mapped through a
dict that remembers the fields it has read (``_Memo``), which is C speed for the many values that
repeat. Only where a field of the batch is refused, the batch is read again row by row to find
out which line it was.

A quoted empty field and an unquoted one are the same here: the csv module does not tell them
apart, and Redshift's guide does not say that it does.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING

from engine.testing.redshift.copy_statement import CopyStatement
from engine.testing.redshift.fields import FieldError, Reader, TableColumn, reader_for
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.statements import OWN_WORDING

if TYPE_CHECKING:
    import _csv

# Lines in a batch: enough to make the thread hop cheap, few enough to stay under a megabyte.
BATCH_LINES = 4_000
# Fields that one column remembers. A column of unique values would otherwise keep the file.
_MEMO_LIMIT = 50_000
# Refused rows kept in full; MAXERROR may be 100,000, and each keeps up to 2 KiB.
RAW_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that the table cannot take, as stl_load_errors has it.

    Attributes:
        line_number: Physical line of the file where the row starts, from 1, header counted.
        position: Offset in the field, from 0.
    """

    line_number: int
    column: TableColumn | None
    position: int
    raw_line: str
    raw_value: str
    code: int
    reason: str


@dataclass(slots=True)
class Batch:
    """What became of some lines: rows in COPY text form (each ends in a newline) and refusals."""

    rows: list[str] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    lines: int = 0


class _Memo(dict[str, str]):
    """Field text -> value in COPY text form; ``__missing__`` asks the reader."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader

    def __missing__(self, text: str) -> str:
        value = self._reader(text)
        if len(self) >= _MEMO_LIMIT:
            self.clear()
        self[text] = value
        return value


class RowReader:
    """Reads the files of one COPY."""

    def __init__(self, copy: CopyStatement, columns: Sequence[TableColumn]) -> None:
        self._copy = copy
        self._columns = tuple(columns)
        self._memos = tuple(_Memo(reader_for(column, copy)) for column in columns)
        self._lookups: tuple[Callable[[str], str], ...] = tuple(m.__getitem__ for m in self._memos)

    def batches(self, raw: IO[bytes]) -> Generator[Batch, None, None]:
        """The batches of one file, from its start. Close the generator before the file.

        Raises:
            ServerError: The file is not gzip although GZIP was said.
        """
        source = gzip.GzipFile(fileobj=raw, mode="rb") if self._copy.gzip else raw
        # newline="" keeps line ends as they are, which quoted fields and raw_line need; lone
        # surrogates stand for bytes that are not UTF-8 until a column complains about them.
        text = io.TextIOWrapper(
            source,
            encoding="utf-8",
            errors="surrogateescape",
            newline="",
        )
        try:
            yield from self._text_batches(text)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ServerError(f"not a whole gzip file: {error} {OWN_WORDING}") from None
        finally:
            text.detach()

    def _text_batches(self, text: io.TextIOWrapper) -> Iterator[Batch]:
        line = 1
        header = list(islice(text, self._copy.ignore_header))
        if header:
            yield Batch(lines=len(header))
        line += len(header)
        while lines := list(islice(text, BATCH_LINES)):
            rows = self._whole_rows(lines, text)
            batch = self._fast(rows) if rows is not None else None
            if batch is None:
                batch = self._slow(lines, line)
            batch.lines = len(lines)
            line += len(lines)
            yield batch

    def _whole_rows(self, lines: list[str], text: io.TextIOWrapper) -> list[list[str]] | None:
        """The rows in ``lines``, which grows until its last row is whole; None if malformed."""
        wanted = 64
        while True:
            try:
                return list(self._csv(iter(lines)))
            except csv.Error as error:
                # The only message of the csv module that more lines can cure.
                if "unexpected end of data" not in str(error):
                    return None
            more = list(islice(text, wanted))
            if not more:
                return None
            lines.extend(more)
            wanted *= 2

    def _fast(self, rows: list[list[str]]) -> Batch | None:
        """The batch if every row is good, else None."""
        try:
            columns = list(zip(*rows, strict=True))
            if len(columns) != len(self._columns):
                return None
            read = [map(look, column) for look, column in zip(self._lookups, columns, strict=True)]
            return Batch(rows=[row + "\n" for row in map("\t".join, zip(*read, strict=True))])
        except (FieldError, ValueError):
            return None

    def _slow(self, lines: list[str], first_line: int) -> Batch:
        """The batch row by row: the good rows, and why the others are not."""
        batch = Batch()
        at = 0
        while at < len(lines):
            at = self._until_malformed(batch, lines, at, first_line)
        return batch

    def _until_malformed(self, batch: Batch, lines: list[str], at: int, first_line: int) -> int:
        """Read rows from ``lines[at]`` on; returns the index behind the first malformed one."""
        reader = self._csv(islice(lines, at, None))
        while True:
            start = at + reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                return len(lines)
            except csv.Error as error:
                # The reader's state is unknown behind a malformed row: a new one goes on.
                end = max(at + reader.line_num, start + 1)
                raw = "".join(lines[start:end])
                reason = f"Invalid quote formatting for CSV. {error}"
                batch.refused.append(self._refusal(first_line + start, raw, None, "", 1216, reason))
                return end
            raw = "".join(lines[start : at + reader.line_num])
            self._one(batch, row or [""], first_line + start, raw)

    def _one(self, batch: Batch, row: list[str], line: int, raw: str) -> None:
        out = []
        for memo, column, text in zip(self._memos, self._columns, row, strict=False):
            try:
                out.append(memo[text])
            except FieldError as error:
                refusal = self._refusal(
                    line, raw, column, text, error.code, error.reason, error.position
                )
                batch.refused.append(refusal)
                return
        if len(row) > len(self._columns):
            extra = row[len(self._columns)]
            reason = "Extra column(s) found"
            batch.refused.append(self._refusal(line, raw, None, extra, 1202, reason, len(raw)))
            return
        if len(row) < len(self._columns):
            missing = self._columns[len(row)]
            reason = "Delimiter not found"
            batch.refused.append(self._refusal(line, raw, missing, "", 1214, reason, len(raw)))
            return
        batch.rows.append("\t".join(out) + "\n")

    def _refusal(
        self,
        line: int,
        raw: str,
        column: TableColumn | None,
        value: str,
        code: int,
        reason: str,
        position: int = 0,
    ) -> RefusedRow:
        return RefusedRow(
            line_number=line,
            column=column,
            position=position,
            raw_line=raw.rstrip("\r\n")[:RAW_LIMIT],
            raw_value=value[:RAW_LIMIT],
            code=code,
            reason=reason,
        )

    def _csv(self, lines: Iterator[str]) -> _csv.Reader:
        return csv.reader(
            lines,
            quotechar=self._copy.quote,
            delimiter=self._copy.delimiter,
            doublequote=True,
            strict=True,
        )
