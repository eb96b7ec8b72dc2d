"""The data plane over the AWS SDK: slow and plain, the judge of the wire plane's answers.

What lives here: S3's data verbs as client calls of botocore, and how bytes come and go in pieces.
What must not: aioboto3's own transfers, which retry and rename on their own; a second try
(``engine.retry``).

How bytes move: aiohttp asks an upload's body for one piece after the other and waits for each to
be sent, a download reads piece by piece; so a request holds a few pieces however long its body is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, final

import anyio

from engine._aws.client import read_body
from engine.config import Endpoints, Timeouts
from engine.errors import ConnectionFailed, EngineError, ProtocolError
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.pace import Pace
from engine.planes.answers import check_echo, check_etag, check_span, etag_of, object_info
from engine.planes.aws_calls import AwsCalls
from engine.planes.aws_parameters import checksum_field, parameters
from engine.planes.file_work import read_span, store_span, sum_span
from engine.planes.regions import BucketRegions
from engine.protocols import ByteSink, ByteSource, ChecksumAlgorithm, Clock, DataPlane, Lease
from engine.shield import to_the_end
from engine.threads import ThreadDoor
from engine.types import (
    ByteRange,
    Checksum,
    KiB,
    PartReceipt,
    PutReceipt,
    RangeReceipt,
    S3Url,
    UploadId,
)

# A piece that was handed on may still be held by the transport, so each has memory of its own.
PIECE = 256 * KiB


@final
class AwsDataPlane(DataPlane):
    """S3's data verbs through one client of aioboto3 or aiobotocore.

    Args:
        endpoints: Where S3 is, its CA bundle, and the timeouts.
        lease: Asked before every request; told when S3 says that its credentials have expired.
        user_agent: The User-Agent header.
        emit: Told of buckets in other regions.
        pace: The limit of bandwidth, of bodies alone; None for none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        threads: ThreadDoor,
        user_agent: str,
        emit: Emit = silent,
        pace: Pace | None = None,
        **_unused: object,
    ) -> None:
        self.regions = BucketRegions(endpoints, emit)
        self._calls = AwsCalls(
            endpoints,
            lease,
            regions=self.regions,
            clock=clock,
            user_agent=user_agent,
            streams=True,
        )
        self._timeouts = endpoints.timeouts
        self._pace = pace
        self._piece = PIECE if pace is None else pace.slice
        self._threads = threads
        self._bytes_sent = self._bytes_received = 0

    async def put_object(
        self,
        url: S3Url,
        source: ByteSource,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""
        asked = {"Key": url.key, **parameters(options.for_put())}
        headers, _, checksum, echoed = await self._upload(
            "put_object", url, asked, source, 0, source.size, algorithm
        )
        return PutReceipt(
            etag_of(url, headers),
            checksum if echoed else None,
            headers.get("x-amz-version-id"),
        )

    async def upload_part(
        self,
        url: S3Url,
        upload_id: UploadId,
        number: int,
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        *,
        crc: int | None = None,
        options: ObjectOptions = PLAIN,
    ) -> PartReceipt:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html"""
        asked = {"Key": url.key, "UploadId": upload_id, "PartNumber": number}
        asked |= parameters(options.for_part())
        headers, crc, checksum, _ = await self._upload(
            "upload_part", url, asked, source, offset, length, algorithm, crc
        )
        return PartReceipt(
            number=number,
            offset=offset,
            size=length,
            etag=etag_of(url, headers),
            checksum=checksum,
            crc=crc,
        )

    async def sum_part(
        self, source: ByteSource, offset: int, length: int, algorithm: ChecksumAlgorithm
    ) -> int:
        buffer = memoryview(bytearray(0 if source.memory is not None else min(PIECE, length)))
        return await self._threads.run(sum_span, source, offset, length, algorithm, buffer, False)

    async def get_range(
        self,
        url: S3Url,
        sink: ByteSink,
        sink_offset: int,
        *,
        range: ByteRange | None,
        etag: str | None,
        algorithm: ChecksumAlgorithm | None,
        options: ObjectOptions = PLAIN,
    ) -> RangeReceipt:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
        asked = {"Key": url.key, **parameters(options.for_part())}
        if algorithm is not None:
            asked["ChecksumMode"] = "ENABLED"
        if range is not None:
            asked["Range"] = range.header
        if etag is not None:
            asked["IfMatch"] = etag
        if options.version_id is not None:
            asked["VersionId"] = options.version_id
        answer = await self._calls.call("get_object", url, asked)
        body = answer["Body"]
        try:
            status, headers = _head(answer)
            length, total = check_span(url, status, headers, range)
            check_etag(url, etag, headers)
            info = object_info(url, headers, total)
            crc = await self._receive(url, body, sink, sink_offset, length, algorithm)
        finally:
            body.close()  # gives a connection back whose answer was read, and ends any other
        self._bytes_received += length
        return RangeReceipt(range, length, crc if algorithm else None, info)

    def round_trip(self) -> float:
        """Not known here."""
        return 0.0

    async def open_ahead(self, url: S3Url, connections: int) -> None:
        """The SDK opens its own when it needs them."""

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        await self._calls.aclose()

    def __repr__(self) -> str:
        return (
            f"<AwsDataPlane requests={self._calls.requests} sent={self._bytes_sent} "
            f"received={self._bytes_received}>"
        )

    # Uploads.

    async def _upload(
        self,
        operation: str,
        url: S3Url,
        asked: dict[str, Any],
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        crc: int | None = None,
    ) -> tuple[Mapping[str, str], int | None, Checksum | None, bool]:
        """Sum where that is not done, send, check; returns the answer's fields, the sum, and
        whether S3 echoed it."""
        checksum = None
        if algorithm is not None:
            if crc is None:
                crc = await self.sum_part(source, offset, length, algorithm)
            checksum = Checksum(algorithm.name, algorithm.encode(crc))
            asked[checksum_field(algorithm.name)] = checksum.value
            asked["ChecksumAlgorithm"] = algorithm.name.upper()
        asked |= {"ContentLength": length, "Body": b""}
        body = None
        if length:
            watched = operation == "put_object"  # parts are looked at before Complete
            asked["Body"] = body = _Body(
                source, offset, length, self._threads, self._timeouts, watched, self._pace
            )
        try:
            answer = await self._calls.call(
                operation, url, asked, patience=body.patience if body is not None else None
            )
        except ConnectionFailed:
            if body is not None and body.error is not None:
                raise body.error from None  # what aiohttp calls a failure of the connection
            raise
        finally:
            if body is not None:
                await to_the_end(body.close())
        words = operation.replace("_", " ")
        if body is not None and body.left:
            raise ProtocolError(f"{words} of {url} succeeded before all of it was sent")
        _, headers = _head(answer)
        etag_of(url, headers)
        echoed = algorithm is not None and check_echo(
            f"{words} of {url}", headers, algorithm, checksum
        )
        self._bytes_sent += length
        return headers, crc, checksum, echoed

    # Downloads.

    async def _receive(
        self,
        url: S3Url,
        body: Any,
        sink: ByteSink,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
    ) -> int:
        """Move the body into the sink; returns its CRC (0 without an algorithm)."""
        buffer = memoryview(bytearray(min(self._piece, length)))
        crc = done = 0
        while done < length:
            view = buffer[: min(self._piece, length - done)]
            if self._pace is not None:
                await self._pace.take(len(view))
            await self._fill(url, body, view)
            crc = await self._threads.run(store_span, sink, offset + done, view, algorithm, crc)
            done += len(view)
        return crc

    async def _fill(self, url: S3Url, body: Any, view: memoryview) -> None:
        done = 0
        while done < len(view):
            try:
                with anyio.fail_after(self._timeouts.stall):
                    piece = await read_body(body, len(view) - done)
            except TimeoutError:
                raise ConnectionFailed(
                    f"get object of {url}: no byte for {self._timeouts.stall:g} s"
                ) from None
            except ConnectionFailed as error:
                raise ConnectionFailed(f"get object of {url}: {error.headline}") from error
            if not piece:
                raise ConnectionFailed(f"get object of {url}: the answer broke off")
            view[done : done + len(piece)] = piece
            done += len(piece)


@final
class _Body:
    """A span of a source as what aiohttp sends; iterated again it starts again.

    Attributes:
        left: Bytes that were not asked for yet.
        error: Why the source could not be read.
        patience: What the request runs in; cancelled where nobody asks for more.

    Args:
        watched: End only if the source is what it was: S3 stores nothing of a body that does not.
    """

    def __init__(
        self,
        source: ByteSource,
        offset: int,
        length: int,
        threads: ThreadDoor,
        timeouts: Timeouts,
        watched: bool,
        pace: Pace | None,
    ) -> None:
        self._watched = watched
        self._pace = pace
        self._size = PIECE if pace is None else pace.slice
        self.left = length
        self.error: EngineError | None = None
        self.patience = anyio.CancelScope()
        self._source = source
        self._offset = offset
        self._length = length
        self._threads = threads
        self._stall = timeouts.stall
        self._reading = anyio.Lock()
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        # aiohttp asks again on a new connection where a kept one was dead.
        self.left = self._length
        while self.left:
            piece = await self._piece()
            if self._pace is not None:
                self.patience.deadline = float("inf")  # it is not the server that is waited for
                await self._pace.take(len(piece))
            self.left -= len(piece)
            # Only while there is more to send: for the answer there is a limit of its own.
            self.patience.deadline = anyio.current_time() + self._stall
            yield piece
        self.patience.deadline = float("inf")

    async def _piece(self) -> memoryview:
        start = self._offset + self._length - self.left
        size = min(self._size, self.left)
        if self._source.memory is not None:
            return self._source.memory[start : start + size]
        piece = memoryview(bytearray(size))
        async with self._reading:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                watched = self._watched and size == self.left
                await self._threads.run(read_span, self._source, start, piece, watched)
            except EngineError as error:
                self.error = error
                raise
        return piece

    async def close(self) -> None:
        """Wait until nobody reads the source: aiohttp reads in a task of its own, which may
        outlive the request, and the source is closed next."""
        async with self._reading:
            self._closed = True

    def read(self, size: int = -1) -> bytes:
        """botocore takes for a body only what has this and ``seek``; nobody calls them."""
        raise AssertionError("a body is iterated")

    def seek(self, offset: int, whence: int = 0) -> int:
        raise AssertionError("a body is iterated")


def _head(answer: Any) -> tuple[int, Mapping[str, str]]:
    metadata = answer["ResponseMetadata"]
    return int(metadata["HTTPStatusCode"]), metadata["HTTPHeaders"]
