"""Bytes that are almost an answer: samples from the corpus, changed by one seeded random source."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

# What parsers stumble over, in the midst of what they expect.
_TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b"=", b"&", b"<", b">", b"</", b"/>",
    b'"', b"'", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?xml", b"<!DOCTYPE x>",
    b"<!ENTITY a 'b'>", b"&a;", b"&#0;", b"&#x41;", b"&amp;", b"&quot;", b"%", b"%00", b"%ff",
    b"%2F", b"+", b"..", b"/", b"//", b"-1", b"0", b"1", b"99999999999999999999", b"0x10",
    b"1e9", b"NaN", b"true", b"false", b"\xff", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xf0\x9f\x98\x80", b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 100 X\r\n\r\n", b"bytes ", b"0\r\n\r\n",
    b"Key>", b"<Contents>", b"IsTruncated", b"encoding='utf-16'", b"\\", b"{", b"}", b"[", b"]",
    b"null", b"2026-01-01T00:00:00", b"9999-12-31T23:59:59Z", b"Infinity",
)  # fmt: skip
_MOST = 8
_MOST_BYTES = 256 * 1024


def mutated(random: Random, corpus: Sequence[bytes]) -> bytes:
    """One sample after some changes; now and then without any."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, random.randrange(_MOST)))):
        random.choice(_CHANGES)(random, data, corpus)
        del data[_MOST_BYTES:]
    return bytes(data)


def _span(random: Random, data: bytearray) -> tuple[int, int]:
    """Mostly short, sometimes much of it."""
    start = random.randrange(len(data) + 1)
    longest = random.choice((1, 4, 16, 64, len(data) + 1))
    return start, min(len(data), start + random.randrange(longest + 1))


def _flip(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _byte(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _drop(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    start, stop = _span(random, data)
    del data[start:stop]


def _cut(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def _insert(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(_TOKENS) * random.choice((1, 1, 1, 2, 20))


def _replace(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    start, stop = _span(random, data)
    data[start:stop] = random.choice(_TOKENS)


def _repeat(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    start, stop = _span(random, data)
    times = random.choice((1, 1, 2, 50, 2_000))
    data[stop:stop] = data[start:stop] * min(times, _MOST_BYTES // max(1, stop - start))


def _splice(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = bytearray(random.choice(corpus))
    start, stop = _span(random, other)
    at, until = _span(random, data)
    data[at:until] = other[start:stop]


def _noise(random: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randrange(32))


_CHANGES = (
    _flip,
    _byte,
    _drop,
    _cut,
    _insert,
    _insert,
    _replace,
    _replace,
    _repeat,
    _splice,
    _noise,
)
