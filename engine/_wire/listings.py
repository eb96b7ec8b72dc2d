"""A page of ListObjectsV2 as plain rows. PURE.

Theory of operation: a page is a thousand rows of one shape, and telling Python code of each of its
8,000 elements costs more than all else of a listing. So what is between two ends of elements is
taken as a column, a row being as many as the first one has. Where every row has the tags of the
first one, and no text that XML would change or refuse, expat reads the first row and what is around
the rows, and so has seen every tag; the texts are taken from the columns. Rows of more than one
shape, as S3 writes them, are taken out by one pattern, and expat reads what is left, with one empty
row in their place. That is the same as reading all by expat only if every row is between the first
and the last one that was found, with nothing between two of them; where it is not so, expat reads
all. What must not live here: what a value means (``planes``).

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from engine._wire.documents import MAX_ELEMENTS, MAX_ROWS, read_document
from engine.errors import ProtocolError

_COLUMNS = ("Key", "LastModified", "ETag", "Size", "StorageClass")
_FIRST = b"<Contents>"
_LAST = b"</Contents>"
_ONE_ROW = b"<Contents></Contents>"
# No longer than so many rows and elements of the shortest kinds: what need not be counted.
_FEW_BYTES = min(80 * MAX_ROWS, 4 * MAX_ELEMENTS)
_NEXT = b"Contents>" + _FIRST
# S3's rows have 9 ends of elements, or 14 with an owner and the state of a restore.
_MAX_WIDTH = 32
# XML refuses them, or changes them (carriage return); line feed and tab it leaves alone.
_CONTROLS = [bytes([code]) for code in range(32) if code not in b"\t\n"]
# So long that no key, date or ETag is longer; the parser refuses what is much longer.
_LONGEST = 8192
_TEXT = f"[^<]{{0,{_LONGEST}}}"
# Text of the fields that are read over: without markup, references and control characters.
_PLAIN = f"[A-Za-z0-9_.:@ -]{{0,{_LONGEST}}}"
_MOST_ALGORITHMS = 8
_FIELDS_OF_RESTORE = ("IsRestoreInProgress", "RestoreExpiryDate")


class Listing(NamedTuple):
    """One page. The columns are equally long; a text is empty where a row has no such field.

    Attributes:
        root: Name of the root element.
        values: Texts of the other elements below the root, by name.
        keys: As they were sent, so they may be encoded.
    """

    root: str
    values: Mapping[str, str]
    keys: Sequence[str]
    modified: Sequence[str]
    etags: Sequence[str]
    sizes: Sequence[str]
    classes: Sequence[str]


def read_listing(body: bytes) -> Listing:
    """Read a page.

    Raises:
        ProtocolError: As ``read_document``.
    """
    return _read_by_columns(body) or _read_by_pattern(body) or _read_by_parser(body)


def _read_by_parser(body: bytes) -> Listing:
    document = read_document(body, "Contents")
    columns = [[row.get(name, "") for row in document.rows] for name in _COLUMNS]
    return Listing(document.root, document.values, *columns)


def _read_by_columns(body: bytes) -> Listing | None:
    """None where the rows differ in more than plain texts."""
    start, stop = _rows_in(body)
    if not stop:
        return None
    pieces = body[start:stop].removesuffix(_LAST).split(b"</")
    pieces[0] = b"Contents>" + pieces[0]  # as the first piece of the next row
    most = min(len(pieces), _MAX_WIDTH)
    width = next((i for i in range(1, most) if pieces[i].startswith(_NEXT)), 0)
    if not width or len(pieces) % width:
        return None
    rows = len(pieces) // width
    first = b"</".join(pieces[:width]).removeprefix(b"Contents>")
    if not _is_plain_row(first):
        return None
    texts: dict[str, list[str]] = {}
    for number in range(width):
        column = pieces[number::width]
        if column[0] == column[-1] and column.count(column[0]) == rows:
            continue  # the same in all rows
        found = _texts(column)
        if found is None:
            return None
        texts[found[0]] = found[1]
    document = read_document(body[:start] + first + _LAST + body[stop:], "Contents")
    if len(document.rows) != 1:
        return None  # they are not where rows are
    row = document.rows[0]
    if any(name in texts and row.get(name) != texts[name][0] for name in _COLUMNS):
        return None  # the element of that name is elsewhere
    columns = [texts.get(name) or [row.get(name, "")] * rows for name in _COLUMNS]
    return Listing(document.root, document.values, *columns)


def _is_plain_row(row: bytes) -> bool:
    """Whether its elements have no attributes, and none is there twice: another row could have
    two texts of it that differ, which the parser refuses."""
    names = [tag.partition(b">")[0] for tag in row.split(b"<") if tag[:1] != b"/"][1:]
    return all(map(bytes.isalpha, names)) and len(set(names)) == len(names)


def _texts(column: Sequence[bytes]) -> tuple[str, list[str]] | None:
    """Name of the element that is the last to begin in each of the pieces, and its texts. None
    where the tags differ, or a text is not plain."""
    tags = column[0][: column[0].rfind(b">") + 1]
    begins = tags.rfind(b"<")
    joined = b"</".join(column)  # which none of them holds
    if joined.count(b"<") != (tags.count(b"<") + 1) * len(column) - 1:
        return None
    if joined.count(b">") != tags.count(b">") * len(column):
        return None
    if begins < 0 or max(map(len, column)) > _LONGEST:
        return None
    if any([control in joined for control in _CONTROLS]):
        return None
    if b"&" in joined:
        joined = joined.replace(b"&quot;", b'"')
        if b"&" in joined:
            return None
    texts = joined.decode("ascii").removeprefix(tags.decode()).split(f"</{tags.decode()}")
    return (tags[begins + 1 : -1].decode(), texts) if len(texts) == len(column) else None


def _rows_in(body: bytes) -> tuple[int, int]:
    """Where the first row begins and the last one ends; twice 0 where none of the ways below has
    rows to take out.

    Raises:
        ProtocolError: More rows than any page has.
    """
    start, stop = body.find(_FIRST), body.rfind(_LAST) + len(_LAST)
    if start < 0 or stop < start or not body.isascii() or _has_markup(body):
        return 0, 0
    if len(body) <= _FEW_BYTES:
        return start, stop
    if body.count(_FIRST) > MAX_ROWS:
        raise ProtocolError(f"an answer of over {MAX_ROWS} rows")
    if body.count(b"<") > MAX_ELEMENTS:
        return 0, 0  # the parser may refuse it, before there is an object for each
    return start, stop


def _has_markup(body: bytes) -> bool:
    """A comment, CDATA or a document type: each could hold what looks like a row. Or an end of
    CDATA, which XML refuses in a text."""
    return (b"!" in body and b"<!" in body) or (b"]" in body and b"]]>" in body)


def _read_by_pattern(body: bytes) -> Listing | None:
    """None where the page is not of the shape that the pattern knows."""
    start, stop = _rows_in(body)
    if not stop:
        return None
    region = body[start:stop].decode("ascii")
    found = _pattern().findall(region)
    if sum([len(row[0]) for row in found]) != len(region):
        return None
    keys = [row[1] for row in found]
    modified = [row[2] for row in found]
    etags = [row[3] for row in found]
    # References other than those around an ETag, and what XML refuses or changes.
    texts = "".join((*keys, *modified, *etags))
    if "&" in texts or "]]>" in texts or not texts.isprintable():
        return None
    rest = read_document(body[:start] + _ONE_ROW + body[stop:], "Contents")
    if len(rest.rows) != 1:
        return None  # they are not where rows are
    quoted = [f'"{etag}"' for etag in etags]
    sizes, classes = [row[4] for row in found], [row[5] for row in found]
    return Listing(rest.root, rest.values, keys, modified, quoted, sizes, classes)


@cache
def _pattern() -> re.Pattern[str]:
    """One row: all of it, then the five columns. Built when there is a listing to read."""

    def maybe(name: str, text: str = _PLAIN) -> str:
        return f"(?:<{name}>{text}</{name}>)?"

    # Each once at most: the parser refuses a second text that differs.
    checksum = f"(?:<ChecksumAlgorithm>{_PLAIN}</ChecksumAlgorithm>){{0,{_MOST_ALGORITHMS}}}"
    owner = maybe("Owner", maybe("ID") + maybe("DisplayName"))
    restore = maybe("RestoreStatus", "".join(map(maybe, _FIELDS_OF_RESTORE)))
    quote = '(?:&quot;|")'
    return re.compile(
        rf"(<Contents><Key>({_TEXT})</Key><LastModified>({_TEXT})</LastModified>"
        rf"<ETag>{quote}({_TEXT}?){quote}</ETag>{checksum}{maybe('ChecksumType')}"
        rf"<Size>([0-9]{{1,19}})</Size>{owner}"
        rf"(?:<StorageClass>({_PLAIN})</StorageClass>)?{restore}</Contents>)"
    )
