"""What COPY did, asked from Redshift's load history and compared with what was staged.

Rules of this file:
- Everything is asked by the query id of our COPY, and that id is compared with the one from
  before: a COPY that was refused at once leaves the id of its predecessor.
- ``stl_`` views cover provisioned main clusters, ``sys_`` views the rest. Which of them may be
  read is found out before BEGIN: a refused query inside the transaction would break it.
- Columns are blank-padded characters: trimmed. ``cast(.. as varchar)`` alone would cut at 256.
- Rows are compared by ``pg_last_copy_count()`` only; ``lines_scanned`` may differ from rows and
  merely hints at the file.
https://docs.aws.amazon.com/redshift/latest/dg/r_STL_LOAD_COMMITS.html
https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_DETAIL.html
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import CountMismatch, DatabaseError
from engine.protocols import Executor
from engine.redshift.errors import history_hidden

MAX_REJECTED = 100
NO_COPY = -1

# filename and file_name are character(256) in both families of views.
_MAX_HISTORY_NAME = 256
_NAMED = 3
# Enough to recognise a value in its file, too little to read a name or a number from it.
_SHOWN_CHARACTERS = 3
_MAX_STARS = 10

_LAST_COPY = (
    "select cast(pg_last_copy_id() as varchar(20)), cast(pg_last_copy_count() as varchar(20))"
)


class History(enum.Enum):
    """Which views of load history this session may read."""

    STL = "stl"
    SYS = "sys"
    NONE = "none"


_PROBES = {
    History.STL: "select cast(query as varchar(20)) from stl_load_commits where query = -1",
    History.SYS: "select cast(query_id as varchar(20)) from sys_load_detail where query_id = -1",
}
_FILES = {
    History.STL: (
        "select cast(rtrim(filename) as varchar(1100)), cast(sum(lines_scanned) as varchar(20)) "
        "from stl_load_commits where query = {id} group by 1"
    ),
    History.SYS: (
        "select cast(rtrim(file_name) as varchar(1100)), cast(sum(lines_scanned) as varchar(20)) "
        "from sys_load_detail where query_id = {id} group by 1"
    ),
}
_REJECTED_COUNT = {
    History.STL: "select cast(count(*) as varchar(20)) from stl_load_errors where query = {id}",
    History.SYS: (
        "select cast(count(*) as varchar(20)) from sys_load_error_detail where query_id = {id}"
    ),
}
_REJECTED = {
    History.STL: (
        "select cast(rtrim(filename) as varchar(1100)), cast(line_number as varchar(20)), "
        "cast(rtrim(colname) as varchar(127)), cast(rtrim(type) as varchar(30)), "
        "cast(rtrim(col_length) as varchar(30)), cast(position as varchar(20)), "
        "cast(err_code as varchar(20)), cast(rtrim(err_reason) as varchar(600)), "
        "cast(rtrim(raw_field_value) as varchar(1100)), cast(rtrim(raw_line) as varchar(1100)) "
        "from stl_load_errors where query = {id} order by 1, line_number limit {limit}"
    ),
    History.SYS: (
        "select cast(rtrim(file_name) as varchar(1100)), cast(line_number as varchar(20)), "
        "cast(rtrim(column_name) as varchar(127)), cast(rtrim(column_type) as varchar(30)), "
        "cast(rtrim(column_length) as varchar(30)), cast(position as varchar(20)), "
        "cast(error_code as varchar(20)), cast(rtrim(error_message) as varchar(600)) "
        "from sys_load_error_detail where query_id = {id} order by 1, line_number limit {limit}"
    ),
}


# "Invalid digit, Value 'x', Pos 0, Type: Integer"
_QUOTED_VALUE = re.compile(r"Value '(.*?)'(?=,|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that COPY refused. Prints with its value masked: it is somebody's data.

    Attributes:
        url: The staged object, at most 256 characters of it (history keeps no more).
        line: Line of the file, from 1, a header line among them.
        column_type: With its length, ``numeric(12,2)``.
        position: Position of the error in the field.
        value: The refused value as it was; None where the view has none.
        raw_line: The line as it was; None where neither view nor file has it.
        code: https://docs.aws.amazon.com/redshift/latest/dg/r_Load_Error_Reference.html
    """

    url: str
    line: int
    column: str
    column_type: str
    position: int
    value: str | None = field(repr=False)
    raw_line: str | None = field(repr=False)
    code: int
    reason: str = field(repr=False)

    @property
    def masked_value(self) -> str:
        """``1.2**`` for ``1.2.3``; empty where the view has no value."""
        return mask_value(self.value) if self.value is not None else ""

    @property
    def masked_reason(self) -> str:
        """Redshift quotes the value, or a piece of it, in some reasons."""
        return _QUOTED_VALUE.sub(lambda found: f"Value '{mask_value(found[1])}'", self.reason)

    def __str__(self) -> str:
        return self._text(self.masked_value, self.masked_reason)

    def show(self) -> str:
        """The row with its value as it was."""
        return self._text(self.value or "", self.reason)

    def _text(self, value: str, reason: str) -> str:
        shown = f', value "{value}"' if value else ""
        return (
            f"{self.url} line {self.line:,}, column {self.column} {self.column_type}, "
            f"position {self.position}{shown}: {self.code} {reason}"
        )


@dataclass(frozen=True, slots=True)
class LastCopy:
    """The last COPY of this session; ``query_id`` is -1 before the first."""

    query_id: int
    rows: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A COPY that was compared with what was staged, file by file and row by row.

    Attributes:
        files_compared: False where no view of load history may be read.
        rejected: At most 100 of the rows passed over under MAXERROR.
    """

    query_id: int
    rows: int
    rows_rejected: int
    rejected: tuple[RejectedRow, ...]
    files_compared: bool


def mask_value(value: str) -> str:
    """Up to three first characters, never more than half, then stars."""
    shown = min(_SHOWN_CHARACTERS, (len(value) + 1) // 2) if len(value) > 1 else 0
    return value[:shown] + "*" * min(len(value) - shown, _MAX_STARS)


def history_name(url: str) -> str:
    """A URL as load history keeps it: its first 256 bytes."""
    return url.encode()[:_MAX_HISTORY_NAME].decode("utf-8", "ignore")


async def choose_history(executor: Executor) -> History:
    """Which views may be read. To be asked outside of a transaction.

    Raises:
        DatabaseError: The database failed for another reason.
    """
    for history, probe in _PROBES.items():
        try:
            await executor.fetch_strings(probe)
        except DatabaseError as error:
            if error.lost or not history_hidden(error):
                raise
            continue
        return history
    return History.NONE


async def last_copy(executor: Executor) -> LastCopy:
    """The last COPY of this session.

    Raises:
        DatabaseError: The database answered with an error, or with no number.
    """
    rows = await executor.fetch_strings(_LAST_COPY)
    query_id, count = rows[0] if rows else (None, None)
    return LastCopy(_number(query_id, NO_COPY), _number(count, 0))


async def reconcile(
    executor: Executor,
    history: History,
    staged: Mapping[str, int],
    *,
    before: int,
    max_errors: int,
) -> Loaded:
    """Compare the COPY just made, in its transaction, with ``staged`` (URL to rows of data).

    Args:
        before: ``last_copy().query_id`` from before BEGIN.
        max_errors: MAXERROR; above 0, refused rows are counted as well.

    Raises:
        CountMismatch: Other files, or loaded and refused rows are not the staged ones.
        DatabaseError: The history could not be asked.
    """
    last = await last_copy(executor)
    if last.query_id in (before, NO_COPY):
        raise CountMismatch("Redshift shows no COPY of this session", query_id=last.query_id)
    refused, rejected = 0, tuple[RejectedRow, ...]()
    if max_errors > 0 and history is not History.NONE:
        counted = await executor.fetch_strings(_REJECTED_COUNT[history].format(id=last.query_id))
        refused = _number(counted[0][0] if counted else None, 0)
        rejected = await rejected_rows(executor, history, last.query_id) if refused else ()
    scanned = await _scanned(executor, history, last.query_id)
    expected = sum(staged.values())
    if last.rows + refused != expected:
        raise CountMismatch(
            f"COPY loaded {last.rows:,} rows of {expected:,} staged",
            rejected_rows=refused,
            differs=_first_differences(staged, scanned),
            query_id=last.query_id,
        )
    if scanned is not None:
        _compare_files(staged, scanned, last.query_id)
    return Loaded(last.query_id, last.rows, refused, rejected, scanned is not None)


async def rejected_rows(
    executor: Executor, history: History, query_id: int
) -> tuple[RejectedRow, ...]:
    """The first 100 rows that the COPY ``query_id`` refused. After a failure: ROLLBACK first.

    Raises:
        DatabaseError: The history could not be asked.
    """
    if history is History.NONE or query_id == NO_COPY:
        return ()
    sql = _REJECTED[history].format(id=query_id, limit=MAX_REJECTED)
    return tuple(_rejected_row(row) for row in await executor.fetch_strings(sql))


async def _scanned(executor: Executor, history: History, query_id: int) -> dict[str, int] | None:
    """Lines by file, or None where no view may be read. A big file stands once per split."""
    if history is History.NONE:
        return None
    rows = await executor.fetch_strings(_FILES[history].format(id=query_id))
    return {(row[0] or "").rstrip(): _number(row[1], 0) for row in rows}


def _compare_files(staged: Mapping[str, int], scanned: Mapping[str, int], query_id: int) -> None:
    names = {history_name(url): rows for url, rows in staged.items()}
    # A file without a row leaves nothing to miss, and may leave no trace in history.
    missing = [name for name, rows in names.items() if rows and name not in scanned]
    foreign = [name for name in scanned if name not in names]
    if missing or foreign:
        raise CountMismatch(
            f"COPY loaded other files than staged: {len(missing)} missing, {len(foreign)} foreign",
            missing=_some(missing),
            foreign=_some(foreign),
            query_id=query_id,
        )


def _first_differences(staged: Mapping[str, int], scanned: Mapping[str, int] | None) -> str:
    """The files whose scanned lines fit their rows least; only a hint."""
    if scanned is None:
        return ""
    found = [
        f"{name}: {scanned.get(name, 0):,} lines scanned, {rows:,} rows staged"
        for name, rows in ((history_name(url), rows) for url, rows in staged.items())
        # One more line than rows is a header.
        if not 0 <= scanned.get(name, 0) - rows <= 1
    ]
    return _some(found)


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more


def _rejected_row(row: tuple[str | None, ...]) -> RejectedRow:
    url, line, column, kind, length, position, code, reason, *raw = (
        None if cell is None else cell.rstrip(" ") for cell in row
    )
    value, text = raw if len(raw) == 2 else (None, None)
    return RejectedRow(
        url=url or "",
        line=_number(line, 0),
        column=column or "",
        column_type=f"{kind or ''}({length})" if length and length != "0" else kind or "",
        position=_number(position, 0),
        value=value,
        raw_line=text,
        code=_number(code, 0),
        reason=reason or "",
    )


def _number(text: str | None, default: int) -> int:
    if text is None or not text.strip():
        return default
    try:
        return int(text)
    except ValueError:
        raise DatabaseError("the load history holds a number that is none") from None
