"""A page of ListObjectsV2 as plain rows. PURE.

Theory of operation: a page is a thousand rows of one shape, and telling Python code of each of its
8,000 elements costs more than all else of a listing. So rows of the shape that S3 writes are taken
out by one pattern, and expat reads what is left, with one empty row in their place. That is the
same as reading all by expat only if every row is between the first and the last one that was
found, with nothing between two of them and no text that XML would change; where it is not so,
expat reads all. What must not live here: what a value means (``planes``).

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from engine._wire.documents import MAX_ROWS, read_document
from engine.errors import ProtocolError

_COLUMNS = ("Key", "LastModified", "ETag", "Size", "StorageClass")
_FIRST = b"<Contents>"
_LAST = b"</Contents>"
_ONE_ROW = b"<Contents></Contents>"
# No longer than so many rows of the shortest kind: what need not be counted.
_FEW_BYTES = 80 * MAX_ROWS
# Text of the fields that are read over: without markup, references and control characters.
_PLAIN = "[A-Za-z0-9_.:@ -]*"
# So long that no key, date or ETag is longer; the parser has a limit as well.
_TEXT = "[^<]{0,8192}"
_FIELDS = ("ChecksumAlgorithm", "ChecksumType")
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
    return _read_by_pattern(body) or _read_by_parser(body)


def _read_by_parser(body: bytes) -> Listing:
    document = read_document(body, "Contents")
    columns = [[row.get(name, "") for row in document.rows] for name in _COLUMNS]
    return Listing(document.root, document.values, *columns)


def _read_by_pattern(body: bytes) -> Listing | None:
    """None where the page is not of the shape that the pattern knows."""
    start, stop = body.find(_FIRST), body.rfind(_LAST) + len(_LAST)
    # A comment, CDATA or a document type could hold what looks like a row.
    markup = b"!" in body and b"<!" in body
    if start < 0 or stop < start or not body.isascii() or markup:
        return None
    if stop - start > _FEW_BYTES and body.count(_FIRST) > MAX_ROWS:
        raise ProtocolError(f"an answer of over {MAX_ROWS} rows")
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

    def any_of(names: tuple[str, ...], more: str = "") -> str:
        fields = "|".join(f"<{name}>{_PLAIN}</{name}>" for name in names)
        # Possessive: fields that repeat without an end must not be tried in every division.
        return f"(?:{fields}{more})*+"

    owner = f"|<Owner>{any_of(('ID', 'DisplayName'))}</Owner>"
    restore = f"|<RestoreStatus>{any_of(_FIELDS_OF_RESTORE)}</RestoreStatus>"
    other = any_of(_FIELDS, owner + restore)
    quote = '(?:&quot;|")'
    return re.compile(
        rf"(<Contents><Key>({_TEXT})</Key><LastModified>({_TEXT})</LastModified>"
        rf"<ETag>{quote}({_TEXT}?){quote}</ETag>{other}<Size>([0-9]{{1,19}})</Size>{other}"
        rf"(?:<StorageClass>({_PLAIN})</StorageClass>)?{other}</Contents>)"
    )
