"""S3's data verbs over our own HTTP client: one request each, signed when it is sent.

What lives here: the order of the steps, and how bytes move between files and connections. What
must not: a second try (``engine.retry``; the pool replaces only a dead reused connection), cutting
objects into parts (``engine.transfer``), S3's other verbs.

How bytes move: over plain http the kernel moves files, and a thread asks it to (``_wire.spans``);
over TLS a thread reads, enciphers and sends them (``_wire.tls_spans``), and down a ring of four
buffers lies between the connection and the thread that sums and writes the file (``_wire.rings``).
So neither the disk nor the network waits for the other, the loop waits for neither, and a request
holds at most 1 MiB however long its body is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import anyio

from engine._wire.connection import Connection
from engine._wire.landing import Landing
from engine._wire.mover import Movers
from engine._wire.pieces import Pieces
from engine._wire.pool import MAX_CONNECTIONS, PoolStatistics, Response, Send
from engine._wire.rings import FileThread, Intake, Outtake
from engine._wire.sigv4 import encode_query
from engine.config import Endpoints
from engine.errors import ConnectionFailed, ProtocolError
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.pace import Pace
from engine.planes.answers import check_echo, check_etag, check_span, etag_of, object_info
from engine.planes.exchange import CHECKSUM_MODE, Call, Exchanges, raise_named, version_query
from engine.planes.file_work import read_span, store_span, sum_span
from engine.protocols import ByteSink, ByteSource, ChecksumAlgorithm, Clock, DataPlane, Lease
from engine.threads import MAX_FILE_THREADS, ThreadDoor
from engine.types import (
    ByteRange,
    Checksum,
    MiB,
    PartReceipt,
    PutReceipt,
    RangeReceipt,
    S3Url,
    UploadId,
)

_Sent = tuple[Mapping[str, str], int | None, Checksum | None, bool]
_NOTHING = memoryview(b"")
# A sum of this many bytes takes 40 us, as much as a trip to a thread.
INLINE_SUM = MiB
# Parts that are summed at once, before they are read again to be sent. More than there are cores
# put each other's bytes out of the caches: on two cores up to a tenth more CPU and time.
_MAX_SUMMING = max(2, min(MAX_FILE_THREADS, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class WireStatistics:
    """Counts since the start. Bytes are those of bodies that moved whole."""

    requests: int
    bytes_sent: int
    bytes_received: int
    pool: PoolStatistics


@final
class WirePlane(DataPlane):
    """The data plane of choice.

    Args:
        endpoints: Where S3 is, its CA bundle, and the timeouts.
        lease: Asked before every request; told when S3 says that its credentials have expired.
        max_connections: Requests under way at once.
        user_agent: The User-Agent header.
        emit: Told of buckets in other regions.
        pace: The limit of bandwidth; None for none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        threads: ThreadDoor,
        max_connections: int = MAX_CONNECTIONS,
        user_agent: str,
        emit: Emit = silent,
        pace: Pace | None = None,
    ) -> None:
        self.exchanges = Exchanges(
            endpoints,
            lease,
            clock=clock,
            threads=threads,
            max_connections=max_connections,
            user_agent=user_agent,
            emit=emit,
            pace=pace,
        )
        self._pool = self.exchanges.pool
        self._threads = threads
        self._pieces = Pieces()
        self._movers = Movers(threads)
        self._summing = anyio.CapacityLimiter(_MAX_SUMMING)
        self._file_thread = FileThread(threads)
        self._bytes_sent = self._bytes_received = 0

    async def put_object(
        self,
        url: S3Url,
        source: ByteSource,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        """PUT the whole source as one object.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html

        Raises:
            TransferError: By class: what S3 or the network said, or a checksum that differs.
            SourceChanged: The source is another than when it was opened; nothing was stored.
        """
        call = self.exchanges.call("put object", url, "PUT")
        call.signed = options.for_put()
        call.kept = not options.preserve_mtime  # else it is another header each time
        headers, _, checksum, echoed = await self._upload(
            call, source, 0, source.size, algorithm, watched=True
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
        """PUT ``length`` bytes of the source from ``offset`` as part ``number``.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html

        Raises:
            TransferError: By class: what S3 or the network said, or a checksum that differs.
            SourceChanged: The source became shorter.
        """
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        call = self.exchanges.call("upload part", url, "PUT", query)
        call.signed = options.for_part()
        call.kept = True
        headers, crc, checksum, _ = await self._upload(
            call, source, offset, length, algorithm, crc=crc
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
    ) -> int | None:
        at_hand = INLINE_SUM if source.memory is not None else self._pieces.size
        if length <= at_hand:
            return None
        return await self._sum_ahead(source, offset, length, algorithm, watched=False)

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
        """GET the object, or one range of it, into ``sink`` at ``sink_offset``.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html

        Args:
            etag: Pins the version by If-Match.
            algorithm: Sums the bytes as they are written; None leaves ``RangeReceipt.crc`` None.

        Raises:
            ObjectChanged: The object has another ETag than ``etag``.
            ProtocolError: An answer with other bytes than were asked for.
            TransferError: By class: what S3 or the network said.
        """
        plain = {"range": range.header} if range else {}
        if etag is not None:
            plain["if-match"] = etag
        call = self.exchanges.call("get object", url, "GET", version_query(options))
        call.plain = plain
        call.signed = {**(CHECKSUM_MODE if algorithm is not None else {}), **options.for_part()}
        call.kept = True
        into = Landing.of(sink, sink_offset, range, INLINE_SUM)
        span = f"bytes {range.start}-{range.stop - 1}/" if into and range else ""

        async def send(connection: Connection) -> None:
            connection.begin_send(
                _NOTHING, self.exchanges.head_now(call) or await self.exchanges.signed_head(call)
            )
            if connection.sending:
                await connection.sent()

        try:
            await self.exchanges.ready(call)
            response = await self._pool.exchange(
                call.target.origin, "GET", send, repeatable=True, into=into, span=span
            )
            try:
                headers = response.head.headers
                if response.head.status not in (200, 206):
                    raise await self.exchanges.refused(call, response)
                self.exchanges.worked(call, response.head.headers)
                length, total = check_span(url, response.head.status, headers, range)
                check_etag(url, etag, headers)
                info = object_info(url, headers, total)
                if into is not None and into.start >= 0:
                    if into.takes_head:
                        sink.landed(into.start)
                    crc = algorithm.update(into.body(into.start)) if algorithm is not None else 0
                else:
                    crc = await self._receive(response, sink, sink_offset, length, algorithm)
            finally:
                self._pool.release(response)
        except (ConnectionFailed, ProtocolError) as error:
            raise_named(call, error)
        self._bytes_received += length
        return RangeReceipt(range, length, crc if algorithm else None, info)

    def round_trip(self) -> float:
        """Seconds from a request to its answer's head, the least so far; 0 before the first."""
        return self._pool.round_trip

    async def open_ahead(self, url: S3Url, connections: int) -> None:
        """Have so many connections open; what fails is left to the requests, which say why."""
        await self.exchanges.open_ahead(url, connections)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        await self._pool.aclose()
        self._movers.close()
        self._file_thread.close()

    def statistics(self) -> WireStatistics:
        """Requests and bytes since the start, and where the connections are."""
        return WireStatistics(
            self.exchanges.requests,
            self._bytes_sent,
            self._bytes_received,
            self._pool.statistics(),
        )

    def __repr__(self) -> str:
        return f"<WirePlane {self.exchanges!r} {self._pieces!r}>"

    # Uploads.

    async def _upload(
        self,
        call: Call,
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        *,
        watched: bool = False,
        crc: int | None = None,
    ) -> _Sent:
        """Sum, send, check; returns the answer's fields, the sum, and whether S3 echoed it.

        Args:
            crc: Where the span has been summed already.
            watched: Hold back the last byte until the source is known to be what it was: S3
                stores nothing of a body that does not end.
        """
        try:
            if source.memory is not None and length <= INLINE_SUM:
                held = source.memory[offset : offset + length]
                if crc is None and algorithm is not None:
                    crc = _sum_of(source, held, algorithm)
                call.plain = {"content-length": str(length)}

                async def send(connection: Connection) -> None:
                    connection.begin_send(
                        held,
                        self.exchanges.head_now(call) or await self.exchanges.signed_head(call),
                    )
                    if connection.sending:
                        await connection.sent()

                return await self._put(call, send, length, algorithm, crc)
            # A body of one piece is kept from its sum to its sending.
            kept = length if source.memory is None and length <= self._pieces.size else 0
            with self._pieces.lend(kept) as buffer:
                return await self._upload_pieces(
                    call, source, offset, length, algorithm, buffer, watched, crc
                )
        except (ConnectionFailed, ProtocolError) as error:
            raise_named(call, error)

    async def _upload_pieces(
        self,
        call: Call,
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        buffer: memoryview,
        watched: bool,
        crc: int | None,
    ) -> _Sent:
        held = source.memory[offset : offset + length] if source.memory is not None else None
        if held is None and length <= len(buffer):
            if algorithm is None:
                await self._threads.run(read_span, source, offset, buffer[:length], watched)
            else:
                crc = await self._threads.run(
                    sum_span, source, offset, length, algorithm, buffer, watched
                )
        elif crc is None and algorithm is not None:
            crc = await self._sum_ahead(source, offset, length, algorithm, watched)

        async def send(connection: Connection) -> None:
            head = await self.exchanges.head_first(call, connection, length)
            if held is not None:
                connection.begin_send(held, head)
                await connection.sent()
            elif watched and length > len(buffer):
                await self._send(connection, head, source, offset, length - 1, buffer)
                last = memoryview(bytearray(1))
                await self._threads.run(read_span, source, offset + length - 1, last, True)
                connection.begin_send(last, b"")
                await connection.sent()
            else:
                await self._send(connection, head, source, offset, length, buffer)

        return await self._put(call, send, length, algorithm, crc)

    async def _sum_ahead(
        self,
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm,
        watched: bool,
    ) -> int:
        """The CRC of a body that is in memory, or is read once more to be sent."""
        async with self._summing:
            with self._pieces.lend(length if source.memory is None else 0) as buffer:
                return await self._threads.run(
                    sum_span, source, offset, length, algorithm, buffer, watched
                )

    async def _put(
        self,
        call: Call,
        send: Send,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        crc: int | None,
    ) -> _Sent:
        """The request, once its body is summed."""
        checksum = None
        if algorithm is not None and crc is not None:
            checksum = Checksum(algorithm.name, algorithm.encode(crc))
            call.varying = (algorithm.header, checksum.value)
            call.signed["x-amz-sdk-checksum-algorithm"] = algorithm.name.upper()
        # Waiting for a renewal here and not in ``send`` keeps connections fresh.
        await self.exchanges.ready(call)
        # A write under a condition may only be repeated by who knows that it is a repetition.
        repeatable = "if-match" not in call.signed and "if-none-match" not in call.signed
        response = await self._pool.exchange(call.target.origin, "PUT", send, repeatable=repeatable)
        try:
            if response.head.status != 200:
                raise await self.exchanges.refused(call, response)
            self.exchanges.worked(call, response.head.headers)
            if not response.connection.complete:
                await response.read_small()
        finally:
            self._pool.release(response)
        headers = response.head.headers
        etag_of(call.url, headers)  # here, where an error gets the answer's name
        echoed = algorithm is not None and check_echo(
            f"{call.operation} of {call.url}", headers, algorithm, checksum
        )
        self._bytes_sent += length
        return headers, crc, checksum, echoed

    async def _send(
        self,
        connection: Connection,
        head: bytes,
        source: ByteSource,
        offset: int,
        length: int,
        buffer: memoryview,
    ) -> None:
        if length <= len(buffer):
            # It is still there since it was summed.
            connection.begin_send(buffer[:length], head)
            await connection.sent()
            return
        if source.descriptor is None or not connection.sends_files:
            outtake = Outtake(source, offset, length, self._pieces)
            await connection.send_from(self._file_thread, head, outtake)
            return
        if not await connection.send_file(self._movers, head, source.descriptor, offset, length):
            connection.abort()
            last = memoryview(bytearray(1))
            await self._threads.run(source.read_into, offset + length - 1, last)
            raise ProtocolError("a file was longer again")  # it was short a moment ago

    # Downloads.

    async def _receive(
        self,
        response: Response,
        sink: ByteSink,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
    ) -> int:
        """Move the body into the sink; returns its CRC (0 without an algorithm)."""
        if sink.memory is not None:
            view = sink.memory[offset : offset + length]
            if len(view) < length:
                raise ProtocolError(f"{length} bytes, where {len(view)} were expected")
            return await self._fill_memory(response.connection, view, algorithm)
        connection = response.connection
        if length > self._pieces.size and sink.descriptor is not None and connection.lends_socket:
            return await connection.receive_file(
                self._movers,
                sink.descriptor,
                offset,
                length,
                algorithm.update if algorithm is not None else None,
            )
        if length > self._pieces.size:
            update = algorithm.update if algorithm is not None else None
            intake = Intake(sink, offset, update, self._pieces)
            return await connection.receive_into(self._file_thread, intake)
        with self._pieces.lend(length) as buffer:
            if not length:
                return 0
            connection.begin_fill(buffer[:length])
            got = await connection.filled()
            return await self._threads.run(store_span, sink, offset, buffer[:got], algorithm)

    async def _fill_memory(
        self, connection: Connection, view: memoryview, algorithm: ChecksumAlgorithm | None
    ) -> int:
        done = crc = 0
        while done < len(view):
            piece = view[done : done + INLINE_SUM]
            connection.begin_fill(piece)
            got = await connection.filled()
            if algorithm is not None:
                crc = algorithm.update(piece[:got], crc)
            done += got
        return crc


def _sum_of(source: ByteSource, held: memoryview, algorithm: ChecksumAlgorithm) -> int:
    """Of a body in memory: the one it came with, if that is of all of it."""
    name, crc = source.summed
    if name == algorithm.name and len(held) == source.size:
        return crc
    return algorithm.update(held)
