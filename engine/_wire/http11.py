"""HTTP/1.1 as S3 speaks it: request heads out; response heads, framing and bodies in. PURE.

Rules of this file
- No I/O and no clock: bytes in, facts out. The same bytes give the same facts however they are
  cut.
- Strict: what RFC 9112 leaves open is refused. A response read at the wrong place is worse than
  one that is not read; the caller closes the connection and asks again.
- Everything has a limit: head, fields, interim answers, chunk lines, trailers.
- Bodies are never copied here: ``feed`` hands out slices of what came in.

Theory of operation
A ``ResponseReader`` reads one response. ``feed(data)`` takes a prefix of ``data``, says how long it
was and which slice of it is body; it stops at the end of the head, so that the caller can look at
it first. Interim answers (1xx) are skipped. Then the body is framed in one of four ways (RFC 9112,
6.3): none, by length, chunked, or until the connection closes. By length is the hot path: there
``remaining`` says how many bytes may be received straight into the caller's buffer, and
``advance`` tells the reader about them. ``complete`` is True behind the last byte; bytes after it
belong to nobody and make the connection unusable.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import final

from msgspec import Struct

from engine._wire.sigv4 import check_target, check_value
from engine.errors import ConnectionFailed, ProtocolError, UsageError

# S3 answers with about 500 bytes of head; metadata adds up to 2 KiB. Other stores send more.
MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 200
_USUAL_HEAD = 2 * 1024
# S3 sends one 100 at most; a server that sends nothing else must not keep us for ever.
MAX_INTERIM = 100
_MAX_CHUNK_LINE = 4 * 1024
_MAX_TRAILER_BYTES = 16 * 1024
_MAX_LENGTH_DIGITS = 18

_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: [^\r\n\0]*)?(?=\r\n|\Z)")
_FIELD = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?")
_METHOD = re.compile(r"[A-Z]{1,20}")
_NOTHING = memoryview(b"")


def build_request(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request, with its blank line.

    Args:
        target: Encoded path, with ``?query`` where there is one.
        headers: Lower-case names.

    Raises:
        UsageError: A method, target, name or value that could end the line it stands in.
    """
    if not _METHOD.fullmatch(method):
        raise UsageError(f"not an HTTP method: {method[:20]!r}")
    check_target(target)
    lines = [f"{method} {target} HTTP/1.1\r\n"]
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name.encode()):
            raise UsageError(f"not a header name: {name[:60]!r}")
        check_value(name, value)
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("ascii")


class ResponseHead(Struct, frozen=True, gc=False):
    """Status line and fields of a final answer. Names are in lower case."""

    status: int
    headers: Mapping[str, str]
    minor_version: int = 1

    @property
    def keep_alive(self) -> bool:
        """Whether the server lets the connection live (RFC 9112, 9.3)."""
        if self.minor_version < 1:
            return False
        said = self.headers.get("connection")
        return said is None or "close" not in {t.strip().lower() for t in said.split(",")}


class Framing(enum.Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


def parse_head(raw: bytes) -> ResponseHead:
    """Read a response head, without its blank line.

    Raises:
        ProtocolError: Anything that RFC 9112 does not allow, unequal lengths, too many fields.
    """
    text = raw.decode("latin-1")
    match = _STATUS_LINE.match(text)
    if match is None:
        raise ProtocolError(f"not an HTTP status line: {raw[:60]!r}")
    end = match.end()
    fields = _FIELD.findall(text, end)
    lines = text.count("\r\n", end)
    if lines > MAX_FIELDS:
        raise ProtocolError(f"a response with {lines} header fields (limit {MAX_FIELDS})")
    # Every line is a field, and no CR, LF or NUL is anywhere else.
    ends = text.count("\r", end) == text.count("\n", end) == lines
    if len(fields) != lines or not ends or "\0" in text:
        raise _bad_field(raw[end:])
    headers = {name.lower(): value.strip(" \t") for name, value in fields}
    if len(headers) != lines:
        headers = {}
        for name, value in fields:
            _add_field(headers, name.lower(), value.strip(" \t"))
    return ResponseHead(int(match[2]), headers, int(match[1]))


def _bad_field(raw: bytes) -> ProtocolError:
    """Which line is none. A line that starts with a blank is an obsolete fold; a blank before the
    colon has been used to smuggle. Neither is a token."""
    if b"\0" in raw:
        return ProtocolError("a NUL byte in a header field")
    for line in raw.split(b"\r\n")[1:]:
        if not _FIELD.fullmatch("\r\n" + line.decode("latin-1")):
            return ProtocolError(f"not a header field: {line[:40]!r}")
    return ProtocolError("a response head with a stray line end")


def _add_field(headers: dict[str, str], name: str, value: str) -> None:
    before = headers.get(name)
    if before is None:
        headers[name] = value
    elif name != "content-length":
        headers[name] = f"{before}, {value}"
    elif before != value:
        raise ProtocolError(f"two lengths: {before[:20]!r} and {value[:20]!r}")


def framing_of(method: str, head: ResponseHead) -> tuple[Framing, int]:
    """How the body ends, and its length where that is known (RFC 9112, 6.3).

    Raises:
        ProtocolError: Length and transfer coding together, an unknown coding, a bad length.
    """
    length_text = head.headers.get("content-length")
    coding = head.headers.get("transfer-encoding")
    if length_text is not None and coding is not None:
        raise ProtocolError("a response with both Content-Length and Transfer-Encoding")
    length: int | None = None
    if length_text is not None:
        digits = length_text.isascii() and length_text.isdigit()
        if not digits or len(length_text) > _MAX_LENGTH_DIGITS:
            raise ProtocolError(f"not a length: {length_text[:40]!r}")
        length = int(length_text)
    if method == "HEAD" or head.status in (204, 304):
        return Framing.NONE, 0
    if coding is not None:
        if coding.lower() != "chunked" or head.minor_version == 0:
            raise ProtocolError(f"an unknown transfer coding: {coding[:40]!r}")
        return Framing.CHUNKED, 0
    if length is None:
        return Framing.CLOSE, 0
    return (Framing.LENGTH, length) if length else (Framing.NONE, 0)


class _Chunk(enum.Enum):
    SIZE = "size line"
    DATA = "data"
    DATA_END = "line end behind the data"
    TRAILER = "trailer"
    DONE = "done"


@final
class ChunkedDecoder:
    """Takes the chunks apart (RFC 9112, 7.1). Extensions and trailers are read over."""

    def __init__(self) -> None:
        self._state = _Chunk.SIZE
        self._line = bytearray()
        self._left = 0
        self._trailer_bytes = 0

    @property
    def complete(self) -> bool:
        return self._state is _Chunk.DONE

    def feed(self, data: memoryview) -> tuple[int, memoryview]:
        """Take a prefix of ``data``; returns its length and the slice of it that is body.

        Raises:
            ProtocolError: Not a chunk, or lines over their limits.
        """
        position = 0
        while position < len(data) and self._state is not _Chunk.DONE:
            if self._state is _Chunk.DATA:
                stop = min(len(data), position + self._left)
                self._left -= stop - position
                if not self._left:
                    self._state = _Chunk.DATA_END
                return stop, data[position:stop]
            position += self._feed_line(data[position:])
        return position, _NOTHING

    def _feed_line(self, data: memoryview) -> int:
        """Collect one line up to its LF and act on it; returns how much of ``data`` it took."""
        found = bytes(data[:_MAX_CHUNK_LINE]).find(b"\n")
        taken = found + 1 if found >= 0 else min(len(data), _MAX_CHUNK_LINE)
        self._line += data[:taken]
        if len(self._line) > _MAX_CHUNK_LINE:
            raise ProtocolError(f"a chunk line over {_MAX_CHUNK_LINE} bytes")
        if found >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise ProtocolError("a chunk line without CR LF")
            self._line_done(line[:-2])
        return taken

    def _line_done(self, line: bytes) -> None:
        if self._state is _Chunk.DATA_END:
            if line:
                raise ProtocolError("a chunk that is longer than it said")
            self._state = _Chunk.SIZE
        elif self._state is _Chunk.SIZE:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise ProtocolError(f"not a chunk size: {line[:20]!r}")
            self._left = int(match[1], 16)
            self._state = _Chunk.DATA if self._left else _Chunk.TRAILER
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _MAX_TRAILER_BYTES:
                raise ProtocolError(f"trailers over {_MAX_TRAILER_BYTES} bytes")
            if not line:
                self._state = _Chunk.DONE


@final
class ResponseReader:
    """Reads one response to a request of ``method``."""

    def __init__(self, method: str) -> None:
        self.head: ResponseHead | None = None
        self.framing = Framing.NONE
        self.started = False  # whether a byte has arrived
        self.continued = False  # whether there was a 100 (Continue)
        self._method = method
        self._raw_head = bytearray()
        self._interim = 0
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self._closed = False

    @property
    def complete(self) -> bool:
        """Whether the last byte of the response has been fed."""
        if self.head is None:
            return False
        if self._chunks is not None:
            return self._chunks.complete
        return self._closed if self.framing is Framing.CLOSE else self._left == 0

    @property
    def remaining(self) -> int:
        """Bytes of a body by length that are still to come; 0 for every other framing."""
        return self._left

    def advance(self, count: int) -> None:
        """``count`` bytes of a body by length went straight into the caller's buffer."""
        assert 0 <= count <= self._left, (count, self._left)
        self._left -= count

    def feed(self, data: memoryview) -> tuple[int, memoryview]:
        """Take a prefix of ``data``; returns its length and the slice of it that is body.

        Takes nothing once the response is complete.

        Raises:
            ProtocolError: The bytes are no response that HTTP allows.
        """
        if len(data):
            self.started = True
        if self.head is None:
            return self._feed_head(data), _NOTHING
        if self._chunks is not None:
            return self._chunks.feed(data)
        if self.framing is Framing.CLOSE:
            return len(data), data
        taken = data[: self._left]
        self._left -= len(taken)
        return len(taken), taken

    def eof(self) -> None:
        """The connection was closed by the other side.

        Raises:
            ConnectionFailed: The response is not complete.
        """
        if self.head is not None and self.framing is Framing.CLOSE:
            self._closed = True
        if not self.complete:
            missing = f", {self._left} bytes of the body short" if self._left else ""
            when = "inside" if self.started else "before"
            raise ConnectionFailed(f"the connection was closed {when} the answer{missing}")

    def _feed_head(self, data: memoryview) -> int:
        before = len(self._raw_head)
        if not before:
            # Nearly every head comes in one piece, with much of the body behind it.
            raw = bytes(data[:_USUAL_HEAD])
            found = raw.find(b"\r\n\r\n")
            if found >= 0:
                self._head_done(parse_head(raw[:found]))
                return found + 4
        room = MAX_HEAD_BYTES - before
        self._raw_head += data[:room]
        # The blank line may straddle what was there before.
        found = self._raw_head.find(b"\r\n\r\n", max(0, before - 3))
        if found < 0:
            if before < 7 and not b"HTTP/1.".startswith(self._raw_head[:7]):
                raise ProtocolError(f"not an HTTP answer: {bytes(self._raw_head[:20])!r}")
            if len(self._raw_head) >= MAX_HEAD_BYTES:
                raise ProtocolError(f"a response head over {MAX_HEAD_BYTES} bytes")
            return len(data)
        raw = bytes(self._raw_head[:found])
        self._raw_head.clear()
        self._head_done(parse_head(raw))
        return found + 4 - before

    def _head_done(self, head: ResponseHead) -> None:
        if head.status == 101:
            raise ProtocolError("an answer that switches protocols (101)")
        if head.status < 200:
            self.continued = self.continued or head.status == 100
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ProtocolError(f"more than {MAX_INTERIM} interim answers")
            return
        framing, length = framing_of(self._method, head)
        self.head, self.framing, self._left = head, framing, length
        if framing is Framing.CHUNKED:
            self._chunks = ChunkedDecoder()
