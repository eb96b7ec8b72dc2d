"""The text of one field against the type of its column.

What lives here: one reader for each type, which gives the value in PostgreSQL's COPY text form or
raises ``FieldError`` with the code that Redshift keeps in stl_load_errors. What must not: rows,
files, the database. Codes: https://docs.aws.amazon.com/redshift/latest/dg/r_Load_Error_Reference.html
Reasons are Redshift's where they are known from public reports, else the double's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from engine.testing.redshift.copy_statement import CopyStatement

NULL = "\\N"

# What Redshift makes of VARCHAR, TEXT and CHAR without a length.
_DEFAULT_VARCHAR = 256
_DEFAULT_CHAR = 1
# PostgreSQL stores the length of a type in atttypmod with four bytes added.
_MODIFIER_OFFSET = 4

Reader = Callable[[str], str]


class FieldError(Exception):
    """One field that its column cannot take.

    Attributes:
        code: Redshift's load error code.
        position: Offset of the mistake in the field, from 0.
    """

    def __init__(self, code: int, reason: str, position: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.position = position


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of the target as PostgreSQL's catalog has it."""

    name: str
    type_name: str
    modifier: int
    not_null: bool

    @property
    def length(self) -> str:
        """What stl_load_errors shows as col_length."""
        if self.type_name == "numeric":
            return "{}, {}".format(*_precision(self.modifier))
        if self.type_name in ("varchar", "bpchar", "text"):
            return str(_byte_limit(self))
        return "0"


_ESCAPED = re.compile(r"[\\\t\n\r\b\f\v]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPES |= {"\b": "\\b", "\f": "\\f", "\v": "\\v"}
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_FLOAT_WORDS = frozenset({"nan", "infinity", "-infinity", "inf", "-inf", "+infinity"})
_TRUE = frozenset({"t", "true", "y", "yes", "1"})
_FALSE = frozenset({"f", "false", "n", "no", "0"})
_INTEGERS = {"int2": (15, "Short"), "int4": (31, "Integer"), "int8": (63, "Long")}
_FORMAT_WORDS = [
    ("YYYY", "%Y"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%H"),
    ("MON", "%b"),
    ("MM", "%m"),
    ("MI", "%M"),
    ("DD", "%d"),
    ("SS", "%S"),
    ("YY", "%y"),
    ("US", "%f"),
    ("AM", "%p"),
    ("PM", "%p"),
]


def reader_for(column: TableColumn, copy: CopyStatement) -> Reader:
    """The reader of one column under one COPY: NULL rules first, then the type."""
    characters = column.type_name in ("varchar", "text", "bpchar")
    read = _type_reader(column, copy)
    null_as, blanks, empty = copy.null_as, copy.blanks_as_null, copy.empty_as_null
    not_null = column.not_null

    def field(text: str) -> str:
        is_null = text == null_as
        if characters:
            is_null = (
                is_null or (empty and not text) or (blanks and not text.strip() and text != "")
            )
        else:
            text = text.strip()
            is_null = is_null or not text
        if not is_null:
            return read(text)
        if not_null:
            raise FieldError(1213, "Missing data for not-null field")
        return NULL

    return field


def escape(text: str) -> str:
    """``text`` in PostgreSQL's COPY text form."""
    return _ESCAPED.sub(lambda m: _ESCAPES[m[0]], text)


def _type_reader(column: TableColumn, copy: CopyStatement) -> Reader:
    name = column.type_name
    if name in _INTEGERS:
        return _integer_reader(*_INTEGERS[name])
    if name == "numeric":
        return _numeric_reader(*_precision(column.modifier))
    if name in ("float4", "float8"):
        return _read_float
    if name == "bool":
        return _read_bool
    if name == "date":
        return _date_reader(copy.date_format)
    if name in ("timestamp", "timestamptz"):
        return _timestamp_reader(copy.time_format, zoned=name == "timestamptz")
    return _text_reader(column, copy)


def _integer_reader(bits: int, label: str) -> Reader:
    low, high = -(1 << bits), (1 << bits) - 1

    def read(text: str) -> str:
        if not _INTEGER.fullmatch(text):
            raise _invalid_digit(text, label)
        if not low <= int(text) <= high:
            raise FieldError(1222, f"Overflow, Value '{text[:40]}', Type: {label}")
        return text

    return read


def _numeric_reader(precision: int, scale: int) -> Reader:
    step = Decimal(1).scaleb(-scale)
    limit = Decimal(10) ** (precision - scale)

    def read(text: str) -> str:
        if not _DECIMAL.fullmatch(text):
            raise _invalid_digit(text, "Decimal")
        value = Decimal(text)
        if abs(value) < limit:
            value = value.quantize(step, ROUND_HALF_UP)
        if abs(value) >= limit:
            raise FieldError(1204, f"Overflow for NUMERIC({precision},{scale})")
        return f"{value:f}"

    return read


def _read_float(text: str) -> str:
    if not _DECIMAL.fullmatch(text) and text.lower() not in _FLOAT_WORDS:
        raise FieldError(1208, _invalid_digit(text, "Double").reason)
    return text


def _read_bool(text: str) -> str:
    lower = text.lower()
    if lower in _TRUE:
        return "t"
    if lower in _FALSE:
        return "f"
    raise FieldError(1210, "Unknown boolean format")


def _date_reader(layout: str) -> Reader:
    pattern = "" if layout in ("", "auto") else _strptime_format(layout)

    def read(text: str) -> str:
        try:
            if pattern:
                return datetime.strptime(text, pattern).date().isoformat()
            if layout == "auto":
                return datetime.fromisoformat(text).date().isoformat()
            if len(text) < 10:
                raise FieldError(1205, "Invalid Date Format - length must be 10 or more")
            return date.fromisoformat(text[:10]).isoformat()
        except ValueError:
            reason = f"Invalid date format or value [{layout or 'YYYY-MM-DD'}]"
            raise FieldError(1205, reason) from None

    return read


def _timestamp_reader(layout: str, *, zoned: bool) -> Reader:
    known = ("", "auto", "epochsecs", "epochmillisecs")
    pattern = "" if layout in known else _strptime_format(layout)

    def parse(text: str) -> datetime:
        if layout.startswith("epoch"):
            unit = 1 if layout == "epochsecs" else 1000
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(text) / unit)
        if pattern:
            return datetime.strptime(text, pattern)
        value = datetime.fromisoformat(text)
        # Without TIMEFORMAT the layout is fixed; a T or a zone needs 'auto'.
        if not layout and (len(text) < 10 or "T" in text or value.tzinfo is not None):
            raise ValueError(text)
        return value

    def read(text: str) -> str:
        try:
            value = parse(text)
        except (ValueError, OverflowError):
            reason = f"Invalid timestamp format or value [{layout or 'YYYY-MM-DD HH24:MI:SS'}]"
            raise FieldError(1206, reason) from None
        return (value if zoned else value.replace(tzinfo=None)).isoformat(" ")

    return read


def _text_reader(column: TableColumn, copy: CopyStatement) -> Reader:
    limit = _byte_limit(column)
    is_char = column.type_name == "bpchar"
    replacement, truncate = copy.accept_invalid, copy.truncate_columns

    def read(text: str) -> str:
        if not text.isascii():
            text = _valid_utf8(text, replacement)
            if is_char and not text.isascii():
                raise FieldError(1220, _not_for_char(text))
        if "\0" in text:
            raise FieldError(1220, "String contains a NUL byte")
        raw = text if text.isascii() else text.encode()
        if len(raw) > limit:
            if not truncate:
                kind = "Char" if is_char else "String"
                raise FieldError(1204, f"{kind} length exceeds DDL length")
            text = text.encode()[:limit].decode(errors="ignore")
        return escape(text)

    return read


def _valid_utf8(text: str, replacement: str) -> str:
    """``text`` without the lone surrogates that stand for bytes which are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if not replacement:
            bad = text[error.start : error.start + 4].encode(errors="surrogateescape")[:4]
            raise FieldError(
                1220,
                "String contains invalid or unsupported UTF8 codepoints. "
                f"Bad UTF8 hex sequence: {bad.hex(' ')} (error 3)",
                error.start,
            ) from None
        return re.sub("[\ud800-\udfff]", replacement, text)
    return text


def _not_for_char(text: str) -> str:
    bad = next(c for c in text if not c.isascii())
    return (
        "Multibyte character not supported for CHAR (Hint: try using VARCHAR). "
        f"Invalid char: {bad.encode().hex(' ')}"
    )


def _invalid_digit(text: str, label: str) -> FieldError:
    position = next((i for i, c in enumerate(text) if c not in "+-.0123456789"), 0)
    shown = text[position : position + 1]
    reason = f"Invalid digit, Value '{shown}', Pos {position}, Type: {label}"
    return FieldError(1207, reason, position)


def _byte_limit(column: TableColumn) -> int:
    if column.modifier > _MODIFIER_OFFSET:
        return column.modifier - _MODIFIER_OFFSET
    return _DEFAULT_CHAR if column.type_name == "bpchar" else _DEFAULT_VARCHAR


def _precision(modifier: int) -> tuple[int, int]:
    """Precision and scale; NUMERIC alone is NUMERIC(18,0) in Redshift."""
    if modifier < _MODIFIER_OFFSET:
        return 18, 0
    packed = modifier - _MODIFIER_OFFSET
    return packed >> 16, packed & 0x7FF


def _strptime_format(layout: str) -> str:
    out = layout.replace("%", "%%")
    for word, directive in _FORMAT_WORDS:
        out = re.sub(re.escape(word) + r"(?![a-z%])", directive, out)
    return out
