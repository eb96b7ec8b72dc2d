"""What is fuzzed, and what must hold of it whatever the bytes are.

A target takes a seeded random source and draws its bytes from it. It returns, or raises one of the
package's errors where it may; everything else is a crash. What must not live here: time, memory,
counting (``runner``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from urllib.parse import unquote

from engine._wire.documents import MAX_ROWS, read_document
from engine._wire.endpoint import Origin, locate, parse_endpoint
from engine._wire.heads import HeadTemplate
from engine._wire.http11 import Framing, ResponseHead, ResponseReader
from engine._wire.listings import _read_by_parser, read_listing
from engine._wire.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_path, encode_query
from engine._wire.sts import read_issued
from engine._wire.xml import parse_error
from engine.clock import http_date
from engine.config import Endpoints
from engine.credentials.documents import read_keys
from engine.errors import ConnectionFailed, EngineError, ProtocolError, UnsafeKey, UsageError
from engine.planes import answers, pages, uploads
from engine.redact import redact
from engine.testing import sigv4
from engine.transfer.files import path_under
from engine.types import ByteRange, Credentials, S3Url
from tests.fuzz import corpus
from tests.fuzz.journals import journals
from tests.fuzz.mutate import mutated

URL = S3Url("bucket", "p/")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEYS = Credentials("AKIDEXAMPLE", "SECRETSECRET", "TOKEN")


def heads(random: Random) -> None:
    """Heads, framing and bodies: however the bytes are cut, the same facts."""
    data = mutated(random, corpus.HEADS)
    method = random.choice(("GET", "GET", "PUT", "HEAD"))
    whole = _read(method, data, [len(data)])
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(12)))
    assert _read(method, data, [*cuts, len(data)]) == whole, "cut otherwise, read otherwise"
    outcome, head, body = whole
    if head is not None and not outcome:
        _facts(random, head, body)


def _read(method: str, data: bytes, cuts: list[int]) -> tuple[str, ResponseHead | None, bytes]:
    reader, body, start = ResponseReader(method), b"", 0
    try:
        for stop in cuts:
            view = memoryview(data)[start:stop]
            while len(view) and not reader.complete:
                taken, piece = reader.feed(view)
                assert 0 < taken <= len(view), "no progress"
                body += piece
                view = view[taken:]
            start = stop
        if not reader.complete:
            reader.eof()
    except (ProtocolError, ConnectionFailed) as error:
        return type(error).__name__, None, b""
    if reader.framing is Framing.LENGTH:
        assert reader.head is not None
        assert len(body) == int(reader.head.headers["content-length"])
    return "", reader.head, body


def _facts(random: Random, head: ResponseHead, body: bytes) -> None:
    """What the planes make of a head."""
    fields = head.headers
    span = random.choice((None, ByteRange(3, 8), ByteRange(0, 5)))
    with suppress(EngineError):
        length, total = answers.check_span(URL, head.status, fields, span)
        assert span is None or length == span.length <= total
    with suppress(EngineError):
        answers.object_info(URL, fields, 5)
    with suppress(EngineError):
        answers.check_etag(URL, '"e"', fields)
    part = answers.stored_part(2, fields)
    assert part is None or part.count >= 2
    answers.refusal("get object", URL, head, body, NOW)
    date = http_date(fields.get("date"))
    assert date is None or date.tzinfo is not None
    _ = head.keep_alive


def documents(random: Random) -> None:
    """XML and JSON that S3, STS and the sources of credentials answer with."""
    kind = random.randrange(6)
    if kind == 0:
        data = mutated(random, corpus.ERRORS)
        with suppress(ProtocolError):
            said = parse_error(data)
            shown = f"{said!r}"
            # A mutation may copy the token into a field that is shown.
            elsewhere = data.replace(b"<Token-0>SECRETSECRET</Token-0>", b"")
            assert "SECRETSECRET" not in shown or b"SECRET" in elsewhere
    elif kind == 1:
        data = mutated(random, corpus.ISSUED)
        with suppress(EngineError):
            issued = read_issued("AssumeRole", data, NOW)
            assert issued.lifetime is not None
    elif kind == 2:
        with suppress(EngineError):
            held = read_keys(mutated(random, corpus.KEYS_AS_JSON), "it").credentials("it")
            assert held.expires_at is None or held.expires_at.tzinfo is not None
    elif kind == 3:
        _others(random)
    else:
        _listing(random)


def _listing(random: Random) -> None:
    """All ways of reading say the same; a page that passes is one of what was asked for."""
    data = mutated(random, corpus.LISTINGS)
    try:
        seen = _read_by_parser(data)
    except ProtocolError:
        seen = None
    try:
        found = read_listing(data)
    except ProtocolError:
        assert seen is None, "a quick way refuses what the parser takes"
        return
    assert seen is not None and seen == found, "a quick way sees something else than the parser"
    with suppress(ProtocolError):
        pages.check_bucket(URL, found.values.get("Name"))
        pages.check_count(URL, found.values.get("KeyCount"), len(found.keys))
        keys = pages.plain_keys(URL, found.keys)
        pages.check_keys(URL, keys)
        pages.next_token(URL, found.values)
        assert all(key.startswith(URL.key) for key in keys)
        assert sorted(set(keys)) == list(keys) and len(keys) <= MAX_ROWS


def _others(random: Random) -> None:
    data = mutated(random, corpus.DOCUMENTS)
    row = random.choice(("", "Part", "Upload", "Error", "Contents", "Tag"))
    with suppress(ProtocolError):
        found = read_document(data, row, below="TagSet" if row == "Tag" else "")
        answers.checksum_in(found.values)
        if row == "Part":
            parts = [uploads.listed_part(each) for each in found.rows]
            numbers = [part.number for part in parts]
            following = pages.next_part("it", found.values, numbers, 0)
            assert not following or following >= max((1, *numbers))
        elif row == "Upload":
            opened, _ = uploads.open_uploads(URL, found, None)
            assert all(info.url.key.startswith(URL.key) for info in opened)


# S3's keys have 1,024 bytes; listings of hostile stores have longer ones.
_MAX_KEY = 8_192
_FOLDER: list[tempfile.TemporaryDirectory[str]] = []  # gone with the process


def names(random: Random) -> None:
    """URLs, keys, endpoints, paths of files, and what is signed of them."""
    text = mutated(random, corpus.NAMES).decode(
        "utf-8", random.choice(("replace", "surrogateescape"))
    )
    with suppress(UsageError):
        url = S3Url.parse(text)
        assert S3Url.parse(str(url)) == url
    with suppress(UsageError):
        joined = S3Url("bucket", "p").join(text)
        assert joined.key.startswith("p/")
    with suppress(UsageError):
        origin, path = parse_endpoint(text)
        assert origin.scheme in ("http", "https") and not path.endswith("/")
    _path(text)
    _signed(random, text[:_MAX_KEY])
    redact(text)


def _path(key: str) -> None:
    if not _FOLDER:
        _FOLDER.append(tempfile.TemporaryDirectory())
    root = Path(_FOLDER[0].name)
    with suppress(UnsafeKey):
        found = path_under(root, key)
        inside = os.path.normpath(found)
        assert inside.startswith(f"{root}{os.sep}") and os.fsencode(found)
        assert inside == str(found), "a name that says another one"


def _signed(random: Random, key: str) -> None:
    """The path goes out as it is signed, and comes back as the key."""
    endpoints = Endpoints(
        s3=random.choice((None, "http://127.0.0.1:9000/base")), region="eu-west-1"
    )
    try:
        target = locate(S3Url(random.choice(("bucket", "my.bucket")), key), endpoints)
        query = encode_query([("prefix", key), ("list-type", "2")])
    except UsageError:
        return
    assert unquote(encode_path(key)) == key
    head = HeadTemplate(
        Signer(target.region), "GET", {"host": target.origin.host_header}, {"user-agent": "x"}
    ).head(KEYS, NOW, target.path, query)
    assert head.count(b"\r\n\r\n") == 1 and head.endswith(b"\r\n\r\n")
    first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    sent = dict(line.split(": ", 1) for line in lines)
    found = sigv4.parse_authorization(sent["authorization"])
    expected = sigv4.expected_signature(
        found, "GET", first.split(" ")[1], sent.items(), UNSIGNED_PAYLOAD,
        KEYS.secret_access_key, sent["x-amz-date"],
    )  # fmt: skip
    assert sigv4.same_signature(expected, found.signature), "signed otherwise than sent"
    assert isinstance(target.origin, Origin)


TARGETS: Mapping[str, Callable[[Random], None]] = {
    "heads": heads,
    "documents": documents,
    "names": names,
    "journals": journals,
}
"""By the name that ``--target`` takes."""
