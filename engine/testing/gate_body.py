"""Request bodies: read at the speed of the link, decoded, hashed, and kept until forwarded.

What lives here: reading, the aws-chunked form with its trailer, and the checks of what the
headers say about the bytes. What must not: what the bytes are for.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from tempfile import SpooledTemporaryFile

from aiohttp import web

from engine.testing import gate_checksum as checksum
from engine.testing import sigv4
from engine.testing.faults import Fault
from engine.testing.gate_errors import AwsError
from engine.testing.gate_link import Link

MEMORY_LIMIT = 128 * 1024 * 1024  # of one body; the rest of a larger one lies in a temporary file
PIECE = 256 * 1024
MAX_LINE = 4096  # of an aws-chunked size or trailer line
_HEX = frozenset("0123456789abcdef")


class Body:
    """One body that has been read, with the digests that were computed on the way."""

    def __init__(self, algorithm: str, *, sha256: bool, md5: bool) -> None:
        self.size = 0
        self.algorithm = algorithm
        self.checksum = b""
        self._file = SpooledTemporaryFile[bytes](max_size=MEMORY_LIMIT)
        self._digest = checksum.new_digest(algorithm)
        self._sha256 = hashlib.sha256() if sha256 else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def append(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._digest.update(data)
        for digest in (self._sha256, self._md5):
            if digest is not None:
                digest.update(data)
        self._file.write(data)

    def finish(self, headers: Mapping[str, str], told: str | None) -> None:
        """Compare with what the headers say; ``told`` is the declared checksum, if any.

        Raises:
            AwsError: BadDigest or XAmzContentSHA256Mismatch.
        """
        self.checksum = self._digest.digest()
        payload_hash = headers.get("X-Amz-Content-Sha256", "").lower()
        if self._sha256 is not None and payload_hash != self._sha256.hexdigest():
            raise AwsError("XAmzContentSHA256Mismatch")
        md5 = headers.get("Content-MD5")
        if self._md5 is not None and md5 != base64.b64encode(self._md5.digest()).decode():
            raise AwsError("BadDigest", "The Content-MD5 you specified did not match")
        if told is not None and told != self.encoded:
            raise AwsError(
                "BadDigest",
                f"The {self.algorithm.upper()} you specified did not match what we received.",
            )

    @property
    def encoded(self) -> str:
        """The checksum as S3 writes it."""
        return checksum.encode(self.checksum)

    def content(self) -> bytes:
        """All of it; for the small documents of control requests."""
        self._file.seek(0)
        return self._file.read()

    def digest_by(self, algorithm: str) -> bytes:
        """The digest by another algorithm than the one that the request named."""
        if algorithm == self.algorithm:
            return self.checksum
        digest = checksum.new_digest(algorithm)
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            digest.update(piece)
        return digest.digest()

    def flip(self, offset: int, bit: int = 0) -> None:
        """Flip a bit of one byte of what is kept; the digests stay those of the true bytes."""
        if self.size:
            position = offset % self.size
            self._file.seek(position)
            byte = self._file.read(1)[0]
            self._file.seek(position)
            self._file.write(bytes([byte ^ 1 << bit]))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes in pieces, from the start."""
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece

    def close(self) -> None:
        """Give memory and file back."""
        self._file.close()


def declared_algorithm(headers: Mapping[str, str]) -> str | None:
    """The one algorithm that a request names for its body, by header or by trailer.

    Raises:
        AwsError: InvalidRequest where it names two, or one that has no value.
    """
    named = [a for a in checksum.ALGORITHMS if checksum.HEADER + a in headers]
    trailer = headers.get("X-Amz-Trailer", "").strip().lower()
    if trailer:
        named += [a for a in checksum.ALGORITHMS if checksum.HEADER + a == trailer]
        if not named:
            raise AwsError(
                "InvalidRequest", "The value specified in x-amz-trailer is not supported"
            )
    if len(named) > 1:
        raise AwsError("InvalidRequest", "Expecting a single x-amz-checksum- header")
    if not named and headers.get("X-Amz-Sdk-Checksum-Algorithm"):
        raise AwsError(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    return named[0] if named else None


class BodyReader:
    """Reads one request's body.

    Args:
        garble: The fault that flips a bit of it before anybody has seen it, or None.

    Attributes:
        received: Bytes read from the connection so far, framing of aws-chunked included.
    """

    def __init__(self, request: web.BaseRequest, link: Link, garble: Fault | None = None) -> None:
        self._request = request
        self._link = link
        self._garble = garble
        self._buffer = bytearray()
        self.received = 0

    async def read(
        self, default_algorithm: str = checksum.DEFAULT, *, declared: bool = True
    ) -> Body:
        """Read all of it and check it against the headers.

        Args:
            default_algorithm: What to compute where the request names nothing.
            declared: Whether checksum headers are about this body.

        Raises:
            AwsError: The bytes are not what the headers say.
        """
        headers = self._request.headers
        payload_hash = headers.get("X-Amz-Content-Sha256", "")
        chunked = payload_hash == sigv4.UNSIGNED_TRAILER
        hashed = len(payload_hash) == 64 and _HEX.issuperset(payload_hash.lower())
        if not (chunked or hashed or payload_hash == sigv4.UNSIGNED_PAYLOAD):
            raise AwsError("NotImplemented", f"x-amz-content-sha256: {payload_hash}")
        await self._continue()
        named = declared_algorithm(headers) if declared else None
        body = Body(
            named or default_algorithm,
            sha256=hashed,
            md5="Content-MD5" in headers,
        )
        try:
            trailer: dict[str, str] = {}
            if chunked:
                trailer = await self._read_aws_chunked(body)
            else:
                while data := await self._more():
                    body.append(data)
            length = headers.get("X-Amz-Decoded-Content-Length")
            if length is not None and length != str(body.size):
                raise AwsError("IncompleteBody")
            told = {**trailer, **{name.lower(): value for name, value in headers.items()}}
            body.finish(headers, told.get(checksum.HEADER + body.algorithm) if named else None)
        except BaseException:
            body.close()
            raise
        return body

    async def discard(self, at_least: int) -> None:
        """Read and forget, until ``at_least`` bytes have come or the body ends."""
        if at_least:
            await self._continue()
        while self.received < at_least and await self._more():
            pass

    async def _continue(self) -> None:
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            writer = self._request.writer
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0

    async def _more(self) -> bytes:
        """The next bytes as they come; empty at the end."""
        content = self._request.content
        data = await (content.read(self._link.piece) if self._link.bandwidth else content.readany())
        if self._garble is not None and 0 <= self._garble.at - self.received < len(data):
            spoiled = bytearray(data)
            spoiled[self._garble.at - self.received] ^= 1 << self._garble.bit
            data = bytes(spoiled)
        self.received += len(data)
        await self._link.take(len(data))
        return data

    async def _read_aws_chunked(self, body: Body) -> dict[str, str]:
        while True:
            size = _hex((await self._line()).partition(b";")[0])
            if size == 0:
                break
            while size:
                if not self._buffer:
                    await self._fill()
                data = bytes(self._buffer[:size])
                del self._buffer[: len(data)]
                size -= len(data)
                body.append(data)
            if await self._line():
                raise AwsError("IncompleteBody")
        trailer = {}
        while line := await self._line():
            name, _, value = line.decode("latin-1").partition(":")
            trailer[name.strip().lower()] = value.strip()
        return trailer

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise AwsError("IncompleteBody")
            await self._fill()
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line

    async def _fill(self) -> None:
        data = await self._more()
        if not data:
            raise AwsError("IncompleteBody")
        self._buffer += data


def _hex(text: bytes) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise AwsError("InvalidRequest", "The chunk size is no hexadecimal number") from None
