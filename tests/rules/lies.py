"""The verbs of the wire, a right answer to each, and lies: what a server may say instead.

What lives here: the table. What must not: what is expected to come of it where that can be told
from the kind of lie (``test_lies``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import BadListing, ConnectionFailed, EngineError, ProtocolError, S3Error
from engine.protocols import CopySource
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, PartReceipt, S3Url, UploadId
from tests.unit.origin import Exchange, Script, answers, error_xml, says
from tests.unit.planes.test_wire import CRC, URL

BUCKET = S3Url("bucket", "p/")
UPLOAD = UploadId("u1")
SOURCE = CopySource(S3Url("bucket", "source"))
PART = PartReceipt(1, 0, 3, '"e"', None, None)
ETAG = b"<ETag>&quot;e&quot;</ETag>"


def xml(root: str, inner: bytes = b"") -> bytes:
    return f"<{root}>".encode() + inner + f"</{root}>".encode()


def row(key: str, more: str = "") -> bytes:
    return (
        f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>3</Size>{more}</Contents>"
    ).encode()


NAME, WHOLE, MORE = (
    b"<Name>bucket</Name>",
    b"<IsTruncated>false</IsTruncated>",
    b"<IsTruncated>true</IsTruncated>",
)
COUNT = b"<KeyCount>2</KeyCount>"
TWO = row("p/a") + row("p/b")


def listing(inner: bytes) -> Script:
    return answers(200, xml("ListBucketResult", inner))


def part(number: int) -> bytes:
    return f"<Part><PartNumber>{number}</PartNumber><Size>3</Size>".encode() + ETAG + b"</Part>"


def upload(key: str, upload_id: str = "u") -> bytes:
    return f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId></Upload>".encode()


@dataclass(frozen=True)
class Lie:
    """One answer that is none.

    Attributes:
        kind: Of the error where it is told for ever.
        tries: Requests until then, at most; None for what the policy allows.
        heals: Whether the right answer behind it makes all well.
    """

    script: Script
    kind: type[EngineError] = ProtocolError
    tries: int | None = None
    heals: bool = True


@dataclass(frozen=True)
class Verb:
    """A call, its right answer, and what may be said in its place."""

    call: Callable[[Any], Awaitable[object]]
    good: Script
    lies: Mapping[str, Lie] = field(default_factory=dict)
    # The error for a document that is none of it.
    kind: type[EngineError] = ProtocolError
    reads: str = "document"  # or "head": nothing of a body is looked at; or "bytes"


def _listed(inner: bytes) -> Lie:
    return Lie(listing(inner), BadListing, tries=4)


async def _get(wire: Any, span: ByteRange | None) -> bytes:
    sink = MemorySink(3)
    await wire.plane.get_range(URL, sink, 0, range=span, etag='"e1"', algorithm=CRC)
    return bytes(sink.data)


SPAN = ByteRange(3, 6)


def ranged(where: str, body: bytes = b"abc", status: int = 206) -> Lie:
    return Lie(answers(status, body, ETag='"e1"', Content_Range=where))


def _bare(where: str) -> Lie:
    """The head alone; the body never comes."""
    head = f'HTTP/1.1 206 X\r\nETag: "e1"\r\nContent-Range: {where}\r\nContent-Length: 3\r\n\r\n'
    return Lie(says(head.encode()))


RANGES = {
    "shifted": ranged("bytes 2-4/9"),
    "shorter": ranged("bytes 3-4/9"),
    "no total": ranged("bytes 3-5/*"),
    "total too small": ranged("bytes 3-5/5"),
    "no unit": ranged("3-5/9"),
    "no range": ranged(""),
    "the whole": Lie(answers(200, b"abcdefghi", ETag='"e1"')),
    "the whole of the same length": Lie(answers(200, b"abc", ETag='"e1"')),
    "two bytes": ranged("bytes 3-5/9", b"ab"),
    "shifted, without a body": _bare("bytes 2-4/9"),
    "no etag": Lie(answers(206, b"abc", Content_Range="bytes 3-5/9")),
    "an empty etag": Lie(answers(206, b"abc", Content_Range="bytes 3-5/9", ETag='""')),
}

LISTINGS = {
    "no name": _listed(COUNT + TWO + WHOLE),
    "another name": _listed(b"<Name>other</Name>" + TWO + WHOLE),
    "count too small": _listed(NAME + b"<KeyCount>1</KeyCount>" + TWO + WHOLE),
    "count too big": _listed(NAME + b"<KeyCount>3</KeyCount>" + TWO + WHOLE),
    "out of order": _listed(NAME + row("p/b") + row("p/a") + WHOLE),
    "twice": _listed(NAME + row("p/a") + row("p/a") + WHOLE),
    "outside": _listed(NAME + row("o/a") + row("p/a") + WHOLE),
    "outside behind": _listed(NAME + row("p/a") + row("q") + WHOLE),
    "no key": _listed(NAME + row("") + WHOLE),
    "no utf-8": _listed(NAME + b"<EncodingType>url</EncodingType>" + row("p/%FF") + WHOLE),
    "two keys in a row": _listed(NAME + row("p/a", "<Key>p/z</Key>") + WHOLE),
    "not said whether whole": _listed(NAME + TWO),
    "perhaps whole": _listed(NAME + TWO + b"<IsTruncated>maybe</IsTruncated>"),
    "both": _listed(NAME + TWO + WHOLE + MORE),
    "no way on": _listed(NAME + TWO + MORE),
    "no size": _listed(NAME + row("p/a").replace(b"<Size>3</Size>", b"") + WHOLE),
    "a size of letters": _listed(NAME + row("p/a").replace(b"3</S", b"x</S") + WHOLE),
}
PARTS = {
    name: Lie(answers(200, xml("ListPartsResult", inner)), kind, tries)
    for name, inner, kind, tries in (
        ("out of order", part(2) + part(1) + WHOLE, BadListing, 4),
        ("twice", part(1) + part(1) + WHOLE, BadListing, 4),
        ("number 0", part(0) + WHOLE, BadListing, 4),
        ("not said whether whole", part(1), BadListing, 4),
        ("no way on", part(1) + MORE, BadListing, 4),
        ("back", part(5) + MORE + b"<NextPartNumberMarker>2</NextPartNumberMarker>", BadListing, 4),
        ("no etag", part(1).replace(ETAG, b"") + WHOLE, BadListing, 4),
        ("no size", part(1).replace(b"<Size>3</Size>", b"") + WHOLE, BadListing, 4),
    )
}
UPLOADS = {
    name: Lie(answers(200, xml("ListMultipartUploadsResult", inner)), BadListing, 4)
    for name, inner in (
        ("no bucket", upload("p/a") + WHOLE),
        ("another bucket", b"<Bucket>other</Bucket>" + upload("p/a") + WHOLE),
        ("outside", b"<Bucket>bucket</Bucket>" + upload("q") + WHOLE),
        ("no id", b"<Bucket>bucket</Bucket>" + upload("p/a", "") + WHOLE),
        ("no way on", b"<Bucket>bucket</Bucket>" + upload("p/a") + MORE),
        ("not said whether whole", b"<Bucket>bucket</Bucket>" + upload("p/a")),
    )
}


def _no_etag(root: str) -> dict[str, Lie]:
    return {
        "no etag": Lie(answers(200, xml(root))),
        "an empty etag": Lie(answers(200, xml(root, b"<ETag>&quot;&quot;</ETag>"))),
    }


_STORED = answers(200, b"", ETag='"e"')
_NO_ETAG = {
    "no etag": Lie(answers(200)),
    "an empty etag": Lie(answers(200, ETag='""')),
}
VERBS: Mapping[str, Verb] = {
    "put": Verb(
        lambda w: w.plane.put_object(URL, BytesSource(b"abc"), CRC), _STORED, _NO_ETAG, reads="head"
    ),
    "upload part": Verb(
        lambda w: w.plane.upload_part(URL, UPLOAD, 1, BytesSource(b"abc"), 0, 3, CRC),
        _STORED,
        _NO_ETAG,
        reads="head",
    ),
    "get": Verb(
        lambda w: _get(w, None),
        answers(200, b"abc", ETag='"e1"'),
        {"no etag": Lie(answers(200, b"abc")), "a range": ranged("bytes 0-2/9")},
        reads="bytes",
    ),
    "get range": Verb(
        lambda w: _get(w, SPAN),
        answers(206, b"abc", ETag='"e1"', Content_Range="bytes 3-5/9"),
        RANGES,
        reads="bytes",
    ),
    "head": Verb(
        lambda w: w.control.head_object(URL),
        answers(200, b"abc", ETag='"e"'),
        {"no etag": Lie(answers(200, b"abc"))},
        reads="head",
    ),
    "list": Verb(
        lambda w: w.control.list_page(BUCKET, None),
        listing(NAME + COUNT + TWO + WHOLE),
        LISTINGS,
        kind=BadListing,
    ),
    "create": Verb(
        lambda w: w.control.create_multipart_upload(URL, CRC),
        answers(200, xml("InitiateMultipartUploadResult", b"<UploadId>u1</UploadId>")),
        {"no id": Lie(answers(200, xml("InitiateMultipartUploadResult")))},
    ),
    "complete": Verb(
        lambda w: w.control.complete_multipart_upload(URL, UPLOAD, [PART], None, 3),
        answers(200, b"\n " + xml("CompleteMultipartUploadResult", ETAG)),
    ),
    "abort": Verb(
        lambda w: w.control.abort_multipart_upload(URL, UPLOAD), answers(204), reads="nothing"
    ),
    "list parts": Verb(
        lambda w: w.control.list_parts(URL, UPLOAD),
        answers(200, xml("ListPartsResult", part(1) + part(2) + WHOLE)),
        PARTS,
        kind=BadListing,
    ),
    "list uploads": Verb(
        lambda w: w.control.list_uploads(BUCKET),
        answers(
            200,
            xml("ListMultipartUploadsResult", b"<Bucket>bucket</Bucket>" + upload("p/a") + WHOLE),
        ),
        UPLOADS,
        kind=BadListing,
    ),
    "copy": Verb(
        lambda w: w.control.copy_object(SOURCE, URL, CRC),
        answers(200, xml("CopyObjectResult", ETAG)),
        _no_etag("CopyObjectResult"),
    ),
    "copy part": Verb(
        lambda w: w.control.upload_part_copy(SOURCE, URL, UPLOAD, 1, SPAN, CRC),
        answers(200, xml("CopyPartResult", ETAG)),
        _no_etag("CopyPartResult"),
    ),
    "tags": Verb(
        lambda w: w.control.get_tags(URL),
        answers(
            200,
            xml("Tagging", xml("TagSet", xml("Tag", b"<Key>a</Key><Value>b</Value>"))),
        ),
        {"a tag without a name": Lie(answers(200, xml("Tagging", xml("TagSet", xml("Tag")))))},
    ),
    "delete": Verb(lambda w: w.control.delete_objects([URL]), answers(200, xml("DeleteResult"))),
}

# Lies that are the same for all verbs.

OK = b'HTTP/1.1 200 OK\r\nETag: "e1"\r\n'


async def _stall(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.send(OK + b"Content-Length: 300\r\n\r\n<a>")
    await asyncio.Event().wait()


async def _silent_error(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.send(b"HTTP/1.1 503 X\r\nContent-Length: 300\r\n\r\n")
    await asyncio.Event().wait()


async def _blanks(exchange: Exchange) -> None:
    await exchange.read_body()
    await exchange.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.send(b"1\r\n \r\n")
        await asyncio.sleep(1)


def _chunks(body: bytes) -> Script:
    return says(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]><ListBucketResult>&c;</ListBucketResult>'
)
HEADS: Mapping[str, Lie] = {
    "not http": Lie(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
    "http/2": Lie(says(b"HTTP/2 200 OK\r\n\r\n")),
    "a huge head": Lie(says(OK + b"A: " + b"x" * 70_000 + b"\r\n\r\n")),
    "two lengths": Lie(says(OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc")),
    "length and chunks": Lie(says(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "switching": Lie(says(b"HTTP/1.1 101 X\r\n\r\n")),
    "interim for ever": Lie(says(b"HTTP/1.1 102 X\r\n\r\n" * 200)),
    "half a head": Lie(says(b"HTTP/1.1 200 OK\r\nETa", close=True), ConnectionFailed),
    "nothing": Lie(says(b"", close=True), ConnectionFailed),
    "an error without its document": Lie(_silent_error, S3Error),
    "another error in html": Lie(answers(502, b"<html>Bad Gateway</html>"), S3Error),
    "a redirect": Lie(answers(302, Location="http://127.0.0.1:1/x"), heals=False, tries=1),
    "created": Lie(answers(201, ETag='"e"')),
}
BODIES: Mapping[str, Lie] = {
    "a body that stalls": Lie(_stall, ConnectionFailed),
    "a body too short": Lie(
        says(OK + b"Content-Length: 30\r\n\r\n<a>", close=True), ConnectionFailed
    ),
    "chunks without an end": Lie(_chunks(b"3\r\n<a>\r\n"), ConnectionFailed),
    "no chunks": Lie(_chunks(b"xyz\r\n")),
    "a chunk too long": Lie(_chunks(b"1\r\n<a>\r\n0\r\n\r\n")),
}
DOCUMENTS: Mapping[str, Lie] = {
    "html": Lie(answers(200, b"<html><body>Log in</body></html>", ETag='"e"')),
    "nothing at all": Lie(answers(200, ETag='"e"')),
    "no content": Lie(answers(204)),
    "no xml": Lie(answers(200, b"{}")),
    "half of it": Lie(answers(200, b"<ListBucketResult><Name>b")),
    "entities": Lie(answers(200, BOMB)),
    "depth": Lie(answers(200, b"<a>" * 5_000)),
    "an odd encoding": Lie(answers(200, b'<?xml version="1.0" encoding="shift_jis"?><a/>')),
    "blanks for ever": Lie(_blanks, ConnectionFailed),
    "an error": Lie(answers(200, error_xml("InternalError")), S3Error),
    "an error without a code": Lie(answers(200, b"<Error/>"), S3Error, heals=False, tries=1),
}
