"""XML answers as values, and the two documents S3 is sent."""

from __future__ import annotations

import xml.etree.ElementTree as tree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._wire.documents import (
    MAX_ROWS,
    complete_document,
    delete_document,
    is_writable,
    read_document,
)
from engine.errors import ProtocolError

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
  <Contents><Key>a&amp;b</Key><Size>3</Size><Owner><ID>Key</ID></Owner></Contents>
  <Contents><Key>c</Key><Size>4</Size></Contents>
  <IsTruncated>true</IsTruncated><NextContinuationToken>t=</NextContinuationToken>
</ListBucketResult>"""


def test_rows_and_values_are_kept_apart() -> None:
    """What lies deeper than a row's own fields is nobody's field."""
    document = read_document(_LISTING, "Contents")
    assert document.root == "ListBucketResult"
    assert [row["Key"] for row in document.rows] == ["a&b", "c"]
    assert "ID" not in document.rows[0]
    assert document.values["IsTruncated"] == "true"
    assert document.values["NextContinuationToken"] == "t="
    assert "Key" not in document.values


def test_an_envelope_can_be_looked_into() -> None:
    body = (
        b"<R xmlns='n'><AResult><Credentials><A>1</A></Credentials><B>2</B></AResult>"
        b"<Meta><RequestId>x</RequestId></Meta></R>"
    )
    document = read_document(body, "Credentials", below="AResult")
    assert document.root == "AResult"
    assert document.rows == [{"A": "1"}]
    assert document.values["B"] == "2"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<a>" * 20 + b"</a>" * 20,
        b"<a>\xff</a>",
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_document(body)


@pytest.mark.parametrize(
    "body",
    [
        b"<a><Key>x</Key><Key>y</Key></a>",
        b"<a><Row><Key>x</Key><Key>y</Key></Row></a>",
        b"<a><Key>x<b/>y</Key></a>",
        b"<a><Key><b/>y</Key></a>",
        b"<a>" + b"<Row/>" * (MAX_ROWS + 1) + b"</a>",
        b"<a><Key>" + b"x" * 100_000 + b"</Key></a>",
        b"<a><Key " + b"".join(b'n%d="" ' % n for n in range(100_000)) + b"/></a>",
        b"".join(b"<n%d/>" % n for n in range(300_000)).join((b"<a>", b"</a>")),
    ],
    ids=["field", "field of a row", "mixed", "behind", "rows", "text", "attributes", "names"],
)
def test_what_is_ambiguous_or_without_an_end_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_document(body, "Row")


@pytest.mark.parametrize("encoding", ["shift_jis", "no-such-codec", "utf-7", "iso-8859-1"])
def test_what_a_document_says_of_its_encoding_is_not_asked(encoding: str) -> None:
    body = f'<?xml version="1.0" encoding="{encoding}"?><a><Key>\u00e9</Key></a>'.encode()
    assert read_document(body).values == {"Key": "\u00e9"}


def test_a_field_may_repeat_itself_and_blanks_are_nothing() -> None:
    body = b"<a>" + b" " * 200_000 + b"<Key>x</Key>\n<Key>x</Key></a>"
    assert read_document(body).values == {"Key": "x"}


_texts = st.text(max_size=40).filter(is_writable)


@given(st.lists(_texts, min_size=1, max_size=5))
def test_keys_come_out_of_the_document_as_they_went_in(keys: list[str]) -> None:
    """Line ends and markup included: another key would be deleted."""
    root = tree.fromstring(delete_document(keys))
    found = [node.text or "" for node in root.iter(f"{_NAMESPACE}Key")]
    assert found == keys


@given(st.text(max_size=5))
def test_a_key_is_writable_if_a_parser_takes_it(key: str) -> None:
    """A lone surrogate cannot even be encoded."""
    try:
        (row,) = read_document(delete_document([key]), "Object").rows
        taken = row["Key"] == key
    except (ProtocolError, UnicodeEncodeError):
        taken = False
    assert taken == is_writable(key)


def test_the_parts_of_a_complete_are_in_order() -> None:
    body = complete_document([(1, '"a"', "x="), (2, '"b"', "y=")], "ChecksumCRC64NVME")
    rows = read_document(body, "Part").rows
    assert rows == [
        {"PartNumber": "1", "ETag": '"a"', "ChecksumCRC64NVME": "x="},
        {"PartNumber": "2", "ETag": '"b"', "ChecksumCRC64NVME": "y="},
    ]
