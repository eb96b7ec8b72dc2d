"""Response heads, framing and bodies: however the stream is cut, the answer is the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._wire.http11 import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    Framing,
    ResponseReader,
    build_request,
)
from engine.errors import ConnectionFailed, ProtocolError, UsageError

OK = b"HTTP/1.1 200 OK\r\n"


def read(
    stream: bytes, method: str = "GET", cuts: list[int] | None = None, *, eof: bool = False
) -> tuple[ResponseReader, bytes, int]:
    """Feed the stream in pieces; returns the reader, the body, and the bytes left over."""
    reader = ResponseReader(method)
    body = bytearray()
    bounds = sorted({0, len(stream), *(c % (len(stream) + 1) for c in cuts or [])})
    used = 0
    for start, stop in zip(bounds, bounds[1:], strict=False):
        piece = memoryview(stream)[start:stop]
        while len(piece) and not reader.complete:
            taken, part = reader.feed(piece)
            body += part
            piece = piece[taken:]
            used += taken
    if eof:
        reader.eof()
    return reader, bytes(body), len(stream) - used


def outcome(stream: bytes, method: str, cuts: list[int]) -> object:
    """All there is to see of one reading."""
    try:
        reader, body, left = read(stream, method, cuts)
    except ProtocolError:
        return "refused"
    return (reader.head, body, left, reader.complete, reader.framing)


STREAMS = [
    OK + b"Content-Length: 5\r\n\r\nhelloEXTRA",
    OK + b"Content-Length: 0\r\n\r\nEXTRA",
    OK + b"ETag: x\r\n\r\nuntil close",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 X\r\nA: b\r\n\r\n"
    + OK
    + b"Content-Length: 1\r\n\r\na",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: r\r\n\r\nX",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    OK + b"A : b\r\n\r\n",
    OK + b"A: b\r\n folded\r\n\r\n",
]


@pytest.mark.parametrize("stream", STREAMS)
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=40))
def test_any_split_gives_the_same_result(stream: bytes, cuts: list[int]) -> None:
    assert outcome(stream, "GET", cuts) == outcome(stream, "GET", [])


@settings(deadline=None)
@given(stream=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200)))
def test_noise_is_refused_or_waited_for_and_never_crashes(stream: bytes, cuts: list[int]) -> None:
    assert outcome(stream, "GET", cuts) == outcome(stream, "GET", [])
    outcome(OK + b"Transfer-Encoding: chunked\r\n\r\n" + stream, "GET", cuts)


@settings(deadline=None)
@given(
    body=st.binary(max_size=500),
    sizes=st.lists(st.integers(1, 60), min_size=1),
    cuts=st.lists(st.integers(0, 2000), max_size=50),
)
def test_chunks_give_back_the_body(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    stream, rest, turn = bytearray(), body, 0
    while rest:
        chunk, rest = rest[: sizes[turn % len(sizes)]], rest[sizes[turn % len(sizes)] :]
        stream += b"%x\r\n%b\r\n" % (len(chunk), chunk)
        turn += 1
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    reader, got, left = read(head + bytes(stream) + b"0\r\n\r\nNEXT", cuts=cuts)
    assert (got, left, reader.complete) == (body, 4, True)


def test_a_body_may_be_received_beside_the_reader() -> None:
    reader, body, _ = read(OK + b"Content-Length: 10\r\n\r\nabc")
    assert (body, reader.remaining) == (b"abc", 7)
    reader.advance(7)
    assert reader.complete


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", OK + b"Content-Length: 7\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 X\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 X\r\nContent-Length: 7\r\n\r\n"),
        ("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body(method: str, head: bytes) -> None:
    reader, body, left = read(head + b"NEXT", method)
    assert (reader.complete, body, left) == (True, b"", 4)


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 9999999999999999999\r\n",
        b"Content-Length:\r\n",
        "Content-Length: \u0665\r\n".encode(),
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"No colon\r\n",
        b": empty\r\n",
        b"A\x00: b\r\n",
        b"A: b\x00\r\n",
        b"A: b\rc\r\n",
        b"A: b\nc: d\r\n",
        b" A: b\r\n",
    ],
)
def test_doubtful_fields_are_refused(fields: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(OK + fields + b"\r\n")


def test_equal_lengths_are_one_length() -> None:
    reader, _, _ = read(OK + b"Content-Length: 5\r\ncontent-length:  5\r\n\r\nhello")
    assert reader.complete


def test_switching_protocols_is_refused() -> None:
    with pytest.raises(ProtocolError, match="101"):
        read(b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n")


def test_heads_fields_and_interim_answers_have_limits() -> None:
    with pytest.raises(ProtocolError, match="head over"):
        read(OK + b"A: " + b"x" * MAX_HEAD_BYTES)
    with pytest.raises(ProtocolError, match="fields"):
        read(OK + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n")
    with pytest.raises(ProtocolError, match="interim"):
        read(b"HTTP/1.1 103 X\r\n\r\n" * (MAX_INTERIM + 1))
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(ProtocolError, match="chunk line"):
        read(chunked + b"1;" + b"x" * 5000)
    with pytest.raises(ProtocolError, match="trailers"):
        read(chunked + b"0\r\n" + (b"A: " + b"x" * 1000 + b"\r\n") * 20)
    with pytest.raises(ProtocolError, match="not a chunk size"):
        read(chunked + b"1" * 17 + b"\r\n")


@pytest.mark.parametrize(
    ("head", "alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_who_keeps_the_connection(head: bytes, alive: bool) -> None:
    reader, _, _ = read(head + b"Content-Length: 0\r\n\r\n")
    assert reader.head is not None and reader.head.keep_alive is alive


def test_an_end_too_early_is_a_failed_connection() -> None:
    with pytest.raises(ConnectionFailed, match="before the answer"):
        read(b"", eof=True)
    with pytest.raises(ConnectionFailed, match="inside the answer"):
        read(b"HTTP/1.1 2", eof=True)
    with pytest.raises(ConnectionFailed, match="3 bytes of the body short"):
        read(OK + b"Content-Length: 5\r\n\r\nhe", eof=True)
    with pytest.raises(ConnectionFailed):
        read(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", eof=True)
    reader, body, _ = read(OK + b"\r\nhe", eof=True)
    assert (reader.complete, reader.framing, body) == (True, Framing.CLOSE, b"he")


def test_a_request_head_is_what_was_asked_for() -> None:
    head = build_request("PUT", "/b/k?a=b", {"host": "h", "content-length": "0"})
    assert head == b"PUT /b/k?a=b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET\r\n", "/", {}),
        ("GET", "/a b", {}),
        ("GET", "/a\r\nb", {}),
        ("GET", "//ü", {}),
        ("GET", "a", {}),
        ("GET", "/", {"a b": "c"}),
        ("GET", "/", {"a": "b\r\nc: d"}),
        ("GET", "/", {"a": "b\0"}),
        ("GET", "/", {"a": "ü"}),
    ],
)
def test_a_request_head_cannot_be_split(method: str, target: str, headers: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        build_request(method, target, headers)
