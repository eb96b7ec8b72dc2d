"""Messages of the PostgreSQL protocol 3.0, built and taken apart.

What lives here: bytes in, values out, and back. What must not: sockets, or what a message means
to Redshift. https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

PROTOCOL_3 = 196608
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102

# The longest startup packet that PostgreSQL itself reads (MAX_STARTUP_PACKET_LENGTH).
MAX_STARTUP = 10_000
# The longest message taken from a client: Redshift's limit for one SQL text is 16 MB.
MAX_MESSAGE = 64 * 1024 * 1024

TYPE_BOOL, TYPE_INT8, TYPE_INT2, TYPE_INT4, TYPE_OID = 16, 20, 21, 23, 26
TYPE_FLOAT4, TYPE_FLOAT8, TYPE_NUMERIC = 700, 701, 1700

_INT32 = struct.Struct("!i")
_INT16 = struct.Struct("!h")
_COLUMN_TAIL = struct.Struct("!ihihih")


@dataclass(eq=False)
class ServerError(Exception):
    """An error in the form in which the protocol carries it.

    Attributes:
        message: The primary message.
        sqlstate: Five characters; Redshift answers XX000 to nearly everything.
        detail: The DETAIL field, may be empty.
        severity: ``ERROR``, or ``FATAL`` where the session ends.
        fields: Other fields by their letter (``P`` position, ``H`` hint, ...).
    """

    message: str
    sqlstate: str = "XX000"
    detail: str = ""
    severity: str = "ERROR"
    fields: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.message}"

    def encode(self) -> bytes:
        """The ErrorResponse message."""
        return message(b"E", self._payload())

    def encode_notice(self) -> bytes:
        """The NoticeResponse message with the same fields."""
        return message(b"N", self._payload())

    def _payload(self) -> bytes:
        values = {"S": self.severity, "V": self.severity, "C": self.sqlstate, "M": self.message}
        if self.detail:
            values["D"] = self.detail
        values = {**self.fields, **values}
        return b"".join(k.encode() + v.encode() + b"\0" for k, v in values.items()) + b"\0"

    @classmethod
    def parse(cls, payload: bytes) -> ServerError:
        """Read the payload of an ErrorResponse or NoticeResponse."""
        values = {p[:1].decode(): p[1:].decode(errors="replace") for p in payload.split(b"\0") if p}
        return cls(
            message=values.pop("M", ""),
            sqlstate=values.pop("C", "XX000"),
            detail=values.pop("D", ""),
            severity=values.pop("S", "ERROR"),
            fields={k: v for k, v in values.items() if k != "V"},
        )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a RowDescription. ``modifier`` is PostgreSQL's atttypmod."""

    name: str
    type_oid: int
    modifier: int


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """One message: type, length, payload."""
    return kind + _INT32.pack(len(payload) + 4) + payload


def cstring(text: str) -> bytes:
    """``text`` with the NUL that ends strings in the protocol."""
    return text.encode() + b"\0"


def take_cstring(payload: bytes, at: int) -> tuple[str, int]:
    """The string at ``at`` and the offset behind its NUL."""
    end = payload.index(b"\0", at)
    return payload[at:end].decode(), end + 1


def startup_packet(parameters: Mapping[str, str]) -> bytes:
    """The first packet of a client."""
    body = b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, PROTOCOL_3) + body


def cancel_packet(pid: int, secret: int) -> bytes:
    """A CancelRequest."""
    return struct.pack("!iiii", 16, CANCEL_REQUEST, pid, secret)


def parse_parameters(body: bytes) -> dict[str, str]:
    """The parameters of a startup packet behind its version."""
    parts = [part.decode() for part in body.split(b"\0")]
    return {k: v for k, v in zip(parts[0::2], parts[1::2], strict=False) if k}


def parameter_status(name: str, value: str) -> bytes:
    """A ParameterStatus message."""
    return message(b"S", cstring(name) + cstring(value))


def ready(status: bytes) -> bytes:
    """ReadyForQuery; ``status`` is ``I``, ``T`` or ``E``."""
    return message(b"Z", status)


def query(sql: str) -> bytes:
    """A simple Query message."""
    return message(b"Q", cstring(sql))


def command_complete(tag: str) -> bytes:
    """CommandComplete with its tag."""
    return message(b"C", cstring(tag))


def parse_message(name: str, sql: str, rest: bytes) -> bytes:
    """A Parse message; ``rest`` are the parameter types as the client sent them."""
    return message(b"P", cstring(name) + cstring(sql) + rest)


def split_parse(payload: bytes) -> tuple[str, str, bytes]:
    """Name, SQL and parameter types of a Parse message."""
    name, at = take_cstring(payload, 0)
    sql, at = take_cstring(payload, at)
    return name, sql, payload[at:]


def split_bind(payload: bytes) -> tuple[str, str, tuple[int, ...]]:
    """Portal, statement and result format codes of a Bind message."""
    portal, at = take_cstring(payload, 0)
    name, at = take_cstring(payload, at)
    _, at = _int16s(payload, at)
    (values,) = _INT16.unpack_from(payload, at)
    at += 2
    for _value in range(values):
        (length,) = _INT32.unpack_from(payload, at)
        at += 4 + max(length, 0)
    formats, _ = _int16s(payload, at)
    return portal, name, formats


def row_description(payload: bytes) -> tuple[Column, ...]:
    """The columns of a RowDescription."""
    (count,) = _INT16.unpack_from(payload)
    columns = []
    at = 2
    for _ in range(count):
        name, at = take_cstring(payload, at)
        _table, _number, oid, _size, modifier, _format = _COLUMN_TAIL.unpack_from(payload, at)
        columns.append(Column(name, oid, modifier))
        at += _COLUMN_TAIL.size
    return tuple(columns)


def data_row(payload: bytes) -> list[bytes | None]:
    """The values of a DataRow."""
    (count,) = _INT16.unpack_from(payload)
    values: list[bytes | None] = []
    at = 2
    for _ in range(count):
        (length,) = _INT32.unpack_from(payload, at)
        at += 4
        values.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return values


def encode_row(values: Sequence[bytes | None]) -> bytes:
    """A DataRow message."""
    return message(b"D", _INT16.pack(len(values)) + b"".join(_encode_values(values)))


def _encode_values(values: Iterable[bytes | None]) -> Iterable[bytes]:
    for value in values:
        yield _INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value


def _int16s(payload: bytes, at: int) -> tuple[tuple[int, ...], int]:
    (count,) = _INT16.unpack_from(payload, at)
    return struct.unpack_from(f"!{count}h", payload, at + 2), at + 2 + 2 * count
