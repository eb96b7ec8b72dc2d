"""Pages of a listing: whatever way is taken, the rows are those that an XML parser sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._wire import listings
from engine._wire.documents import MAX_ROWS, read_document
from engine._wire.listings import Listing, read_listing
from engine.errors import ProtocolError

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
)
_TAIL = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
_END = "</ListBucketResult>"
_ROW = (
    "<Contents><Key>a%2Fb</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
    "<ChecksumType>FULL_OBJECT</ChecksumType><Size>12</Size>"
    "<Owner><ID>i</ID><DisplayName>d</DisplayName></Owner>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


def _page(*rows: str) -> bytes:
    return "".join((_HEAD, *rows, _TAIL, _END)).encode()


def _rows(page: Listing) -> list[tuple[str, ...]]:
    return [*zip(page.keys, page.modified, page.etags, page.sizes, page.classes, strict=True)]


def _as_the_parser_sees(body: bytes) -> list[tuple[str, ...]]:
    fields = ("Key", "LastModified", "ETag", "Size", "StorageClass")
    rows = read_document(body, "Contents").rows
    return [tuple(row.get(name, "") for name in fields) for row in rows]


def test_rows_of_one_shape_are_read_by_columns() -> None:
    other = _ROW.replace("a%2Fb", "c] d e").replace(">12<", ">7<").replace(";e&", ";f&")
    listing = listings._read_by_columns(_page(_ROW, other, _ROW))
    assert listing is not None
    one = ("a%2Fb", "2026-01-02T03:04:05.000Z", '"e"', "12", "STANDARD")
    assert _rows(listing) == [one, ("c] d e", one[1], '"f"', "7", one[4]), one]
    assert listing.root == "ListBucketResult"
    assert listing.values["IsTruncated"] == "true"
    assert "Key" not in listing.values


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("<Size>12</Size>", ""),
        ("<Size>12</Size>", "<Size>12</Size><Size>13</Size>"),
        ("<Size>12</Size>", '<Size unit="KiB">12</Size>'),
        ("<Key>a%2Fb</Key>", "<Name>a%2Fb</Name>"),
        ("<Size>12</Size>", "<Size x='1'>12</Size>"),
        ("<Key>a%2Fb</Key>", "<Deep><Key>a%2Fb</Key></Deep>"),
        ("<Key>a%2Fb</Key>", "<Deep><Key></Key></Deep>"),
        ("a%2Fb", "a" * 9000),
        ("a%2Fb", "a" * 70_000),
        ("FULL_OBJECT", "F" * 70_000),
        ("STANDARD", "S" * 70_000),
        ("<ID>i", "<ID>" + "i" * 70_000),
        ("</ChecksumType>", "</ChecksumType><ChecksumType>COMPOSITE</ChecksumType>"),
        ("</ID>", "</ID><ID>j</ID>"),
        ("</DisplayName>", "</DisplayName><ID>j</ID>"),
        ("<Size>", "<Owner><ID>j</ID></Owner><Size>"),
        ("<ChecksumType>", "<ChecksumAlgorithm>SHA1</ChecksumAlgorithm><ChecksumType>"),
        ("<ChecksumType>", "<ChecksumAlgorithm>SHA1</ChecksumAlgorithm>" * 200_000),
        ("</DisplayName>", "</DisplayName>" + "<a/>" * 200_000),
        ("<Key>a%2Fb</Key>", "<Key>a<Key>b</Key></Key>"),
        ("a%2Fb", "a&amp;b"),
        ("a%2Fb", "a&quot;b"),
        ("a%2Fb", "a&amp;quot;b"),
        ("a%2Fb", "a\tb\n"),
        ("a%2Fb", "a\r"),
        ("a%2Fb", "a\0"),
        ("a%2Fb", "a\x1f"),
        ("a%2Fb", "a]]>b"),
        ("a%2Fb", "h\u00e9"),
        ("a%2Fb", ""),
        ("a%2Fb", " Contents><Contents><Key>"),
        ("a%2Fb", "a</Key><LastModified>b"),
        ("</Owner>", "</Owned>"),
        ("</Owner>", "</Owner>text"),
        ("</Owner>", "</Owner><Size/>text"),
        ("</Size><Owner>", "<Owner></Size>"),
        ("</Key>", "</ Key>"),
        ("</Size>", "</Size >"),
        ("</Contents>", "</Contents> "),
        ("<Contents>", "<Contents><Contents></Contents>"),
    ],
)
@pytest.mark.parametrize("where", ["all", "first", "second", "last"])
def test_no_way_reads_anything_else_than_the_parser(what: str, instead: str, where: str) -> None:
    rows = [_ROW, _ROW.replace(">12<", ">7<"), _ROW.replace("a%2Fb", "z")]
    changed = {"all": (0, 1, 2), "first": (0,), "second": (1,), "last": (2,)}[where]
    for number in changed:
        rows[number] = rows[number].replace(what, instead)
    body = _page(*rows)
    try:
        expected = _as_the_parser_sees(body)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            read_listing(body)
        return
    for read in (listings._read_by_columns, listings._read_by_pattern, read_listing):
        found = read(body)
        assert found is None or _rows(found) == expected


def test_a_page_as_s3_writes_it_is_read_by_the_pattern() -> None:
    listing = listings._read_by_pattern(_page(_ROW, _ROW))
    assert listing is not None
    assert _rows(listing) == [("a%2Fb", "2026-01-02T03:04:05.000Z", '"e"', "12", "STANDARD")] * 2
    assert listing.root == "ListBucketResult"
    assert listing.values["IsTruncated"] == "true"
    assert listing.values["NextContinuationToken"] == "t"
    assert listing.values["Name"] == "b"


@pytest.mark.parametrize(
    "rows",
    [
        ["<!--", _ROW, "-->"],
        ["<Deeper>", _ROW, "</Deeper>"],
        [_ROW, "\n", _ROW],
        [_ROW, "<Contents><Key>other</Key></Contents>", _ROW],
        ["<Note><![CDATA[", _ROW, "]]></Note>"],
        [_ROW.replace("a%2Fb", "a&amp;b")],
        [_ROW.replace("a%2Fb", "a\r\nb")],
        [_ROW.replace("a%2Fb", "h\u00e9")],
        [_ROW.replace("<Key>a%2Fb</Key>", "")],
        [_ROW, "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>", _ROW],
    ],
)
def test_every_other_page_is_read_by_the_parser(rows: list[str]) -> None:
    body = _page(*rows)
    assert _rows(read_listing(body)) == _as_the_parser_sees(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        _page(_ROW)[:-1],
        _page(_ROW, "</Contents>"),
        _page(_ROW.replace("12", "&nothing;")),
        _page(_ROW.replace("</Owner>", "</Owned>")),
        b"<!DOCTYPE a []>" + _page(_ROW),
        _page("<Contents>", _ROW),
    ],
)
def test_what_is_no_xml_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_listing(body)


def test_fields_and_rows_without_an_end_are_refused_at_once() -> None:
    """A pattern could try them in every division."""
    field = "<ChecksumType>x</ChecksumType>"
    broken = _page(_ROW.replace("</Contents>", field * 50_000 + "<Odd/></Contents>"))
    assert listings._read_by_pattern(broken) is None
    many = _page("<Contents>", "</A>" * 300_000, "</Contents>")
    assert listings._read_by_columns(many) is None
    with pytest.raises(ProtocolError, match="rows"):
        read_listing(_page(_ROW * (MAX_ROWS + 1)))


_pieces = st.sampled_from(
    [
        _ROW,
        _ROW.replace("12", "7").replace("&quot;", '"'),
        _ROW.replace("12", "7") + _ROW,
        _ROW.replace("<Size>12</Size>", ""),
        "<Contents>",
        "</Contents>",
        "<Key>k</Key>",
        "&quot;",
        "<Prefix>p</Prefix>",
        "<Other>",
        "</Other>",
        "<!--",
        "-->",
        " ",
        "text",
        "&",
    ]
)


@given(st.lists(_pieces, max_size=6))
def test_pages_of_pieces_are_read_as_the_parser_does(pieces: list[str]) -> None:
    body = _page(*pieces)
    try:
        expected = _as_the_parser_sees(body)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            read_listing(body)
        return
    found = read_listing(body)
    assert _rows(found) == expected
    assert found.values == read_document(body, "Contents").values
