"""S3's and STS's XML answers as plain values, and the two documents that S3 is sent. PURE.

Expat without a tree: a listing of 1,000 keys is 6,000 elements. What must not live here: a document
type (refused, as entities could blow up), what a value means (``planes``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine._wire.xml import run_expat
from engine.errors import ProtocolError

_MAX_DEPTH = 16
# S3's pages have 1,000 rows of some ten elements; other stores' may be longer. Far more would cost
# far more memory than the bytes that they came in.
MAX_ROWS = 10_000
MAX_ELEMENTS = 200_000
# A key has at most 3 KiB when it is encoded, a token some hundred bytes.
_MAX_TEXT = 64 * 1024
# An object may have several.
_MAY_REPEAT = frozenset({"ChecksumAlgorithm"})
# Text that a parser would change or drop: line ends are normalised, unless written as numbers.
_UNWRITABLE = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_WRITTEN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
)


class Document(NamedTuple):
    """One answer.

    Attributes:
        root: Name of the root element.
        values: Texts of the elements below the root, by name.
        rows: The same one level deeper, one for each element of the name that was asked for;
            texts that are deeper still by both names (``Initiator/ID``).
    """

    root: str
    values: Mapping[str, str]
    rows: list[dict[str, str]]


def read_document(body: bytes, row: str = "", *, below: str = "") -> Document:
    """Read an answer.

    Args:
        row: Name of the elements that repeat (``Contents``).
        below: Read the element of this name as the root, where an envelope is around it.

    Raises:
        ProtocolError: Not XML, a document type, over 16 levels deep, more rows than any page has,
            or ambiguous: one field twice with different texts, or text between elements.
    """
    reader = _Reader(row, below)
    run_expat(reader, body, "an answer")
    return Document(reader.root, reader.values, reader.rows)


def complete_document(parts: Iterable[tuple[int, str, str]], checksum_field: str) -> bytes:
    """The body of CompleteMultipartUpload.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

    Args:
        parts: Number, ETag and checksum of each, in the order of the numbers.
        checksum_field: ``ChecksumCRC64NVME`` or its kin; empty where the parts have none.
    """

    def row(number: int, etag: str, checksum: str) -> str:
        field = f"<{checksum_field}>{_text(checksum)}</{checksum_field}>" if checksum_field else ""
        return f"<Part><PartNumber>{number}</PartNumber><ETag>{_text(etag)}</ETag>{field}</Part>"

    return _document("CompleteMultipartUpload", "".join([row(*part) for part in parts]))


def delete_document(keys: Iterable[str]) -> bytes:
    """The body of DeleteObjects, which answers only with what was refused.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
    """
    rows = "".join(f"<Object><Key>{_text(key)}</Key></Object>" for key in keys)
    return _document("Delete", f"{rows}<Quiet>true</Quiet>")


def is_writable(text: str) -> bool:
    """Whether XML 1.0 has a way to write every character of ``text``."""
    return re.search(_UNWRITABLE, text) is None  # compiled at first use: that takes 3 ms


def _document(root: str, inner: str) -> bytes:
    return f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{root}>'.encode()


def _text(value: str) -> str:
    return value.translate(_WRITTEN)


class _Reader:
    """Collects texts by their depth below the root."""

    def __init__(self, row: str, below: str) -> None:
        self.root = ""
        self.values: dict[str, str] = {}
        self.rows: list[dict[str, str]] = []
        self._row_name = row
        self._below = below
        self._base = 0 if not below else _MAX_DEPTH
        self._depth = 0
        self._row: dict[str, str] | None = None
        self._field = ""
        self._text = ""
        self._elements = 0
        self._open = False  # whether the last tag was a start

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        depth = self._depth - self._base
        if self._depth > _MAX_DEPTH:
            raise ProtocolError(f"an answer over {_MAX_DEPTH} levels deep")
        if self._elements > MAX_ELEMENTS:
            raise ProtocolError(f"an answer of over {MAX_ELEMENTS} elements")
        self._check_blank()
        self._text, self._open = "", True
        if depth == 3:
            self._field = name
        elif depth == 2 and name == self._row_name:
            self._row = {}
            self.rows.append(self._row)
            if len(self.rows) > MAX_ROWS:
                raise ProtocolError(f"an answer of over {MAX_ROWS} rows")
        elif self._depth == 1 or name == self._below:
            self.root = name
            if name == self._below:
                self._base = self._depth - 1

    def end(self, name: str) -> None:
        depth = self._depth - self._base
        if not self._open:
            self._check_blank()
        if depth == 3 and self._row is not None:
            self._keep(self._row, name)
        elif depth == 4 and self._row is not None:
            self._keep(self._row, f"{self._field}/{name}")
        elif depth == 2:
            if self._row is None:
                self._keep(self.values, name)
            self._row = None
        self._depth -= 1
        self._text, self._open = "", False

    def text(self, data: str) -> None:
        self._text += data
        if len(self._text) > _MAX_TEXT:
            if self._text.isspace():
                self._text = ""  # between elements; a server may send blanks while it works
            else:
                raise ProtocolError(f"an answer with a text over {_MAX_TEXT} characters")

    def _keep(self, fields: dict[str, str], name: str) -> None:
        text = self._text if self._open else ""  # what stood behind elements is blank
        if fields.setdefault(name, text) != text and name not in _MAY_REPEAT:
            raise ProtocolError(f"an answer that says <{name[:60]}> twice, and differently")
        fields[name] = text

    def _check_blank(self) -> None:
        """A text that has elements beside it is none of ours: which part of it is meant?"""
        if self._text and not self._text.isspace():
            raise ProtocolError(f"an answer with text between elements: {self._text[:40]!r}")
