"""The data plane of a simulation: bodies in pieces, summed and moved as the real planes do.

What lives here: PutObject, UploadPart, GetObject. What must not: a second try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import final

import anyio

from engine.config import Endpoints
from engine.errors import ChecksumMismatch, ConnectionFailed, ObjectChanged, ProtocolError
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.pace import Pace
from engine.protocols import ByteSink, ByteSource, ChecksumAlgorithm, Clock, DataPlane, Lease
from engine.testing.simulation.exchange import STALL, Exchange, key_of
from engine.testing.simulation.faults import Fault
from engine.testing.simulation.store import Condition, HeldPart, Version
from engine.testing.simulation.sums import flipped
from engine.testing.simulation.world import Request, World
from engine.threads import ThreadDoor
from engine.types import (
    ByteRange,
    Checksum,
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    RangeReceipt,
    S3Url,
    UploadId,
)

# Bytes of one piece of a body.
_PIECE = 48 * 1024
# Bytes up to which a body in memory is summed where it is.
_INLINE = 32 * 1024

_worlds: list[World] = []


def enter(world: World) -> None:
    """Planes that are opened from now on are of this world."""
    _worlds[:] = [world]


def condition_of(options: ObjectOptions) -> Condition:
    """Of a write with these options."""
    return Condition(options.if_match, options.if_none_match)


def info_of(url: S3Url, version: Version, *, checksum: bool = True) -> ObjectInfo:
    """What the head of an answer says of a version."""
    return ObjectInfo(
        url=url,
        size=len(version.data),
        etag=version.etag,
        checksum=version.checksum if checksum else None,
        version_id=version.version_id,
        metadata=version.metadata,
    )


def _declared(algorithm: ChecksumAlgorithm | None, crc: int | None) -> Checksum | None:
    if algorithm is None or crc is None:
        return None
    return Checksum(algorithm.name, algorithm.encode(crc))


@final
class SimulatedDataPlane(DataPlane):
    """See ``DataPlane``. Made by the registry's table, it finds its world by ``enter``."""

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
    ) -> None:
        self._pace = pace
        self.exchange = Exchange(_worlds[-1], lease, clock)
        self._threads = threads
        self._world = _worlds[-1]
        # As every answer's Date would have it, to the second.
        error = self._world.random.uniform(-1.0, 1.0)
        clock.learn(datetime.fromtimestamp(self._world.server_time() + error, UTC))
        self._round_trip = self._world.random.choice((0.0, 0.02, 0.2))

    async def put_object(
        self,
        url: S3Url,
        source: ByteSource,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        crc = await self._summed(source, 0, source.size, algorithm, watched=True)
        declared = _declared(algorithm, crc)
        body: list[bytes] = []

        def act(request: Request) -> Version:
            version = self._world.store.put(
                key_of(url),
                self._arrived(request, body),
                declared,
                condition_of(options),
                metadata=options.metadata,
            )
            wrong = request.fault is Fault.STORED_WRONG
            return self._world.store.spoil(version) if wrong else version

        async def send(request: Request) -> None:
            await self._send(body, request, source, 0, source.size, watched=True)

        version, _ = await self.exchange.ask("put object", url, act, send=send)
        echoed = version.checksum if algorithm is not None else None
        if echoed is not None and declared is not None and echoed.value != declared.value:
            raise ChecksumMismatch(f"put object of {url}: the store has another sum than we sent")
        return PutReceipt(version.etag, echoed, version.version_id)

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
        if crc is None:
            crc = await self._summed(source, offset, length, algorithm, watched=False)
        declared = _declared(algorithm, crc)
        body: list[bytes] = []

        def act(request: Request) -> HeldPart:
            data = self._arrived(request, body)
            return self._world.store.put_part(upload_id, number, data, declared, request.began)

        async def send(request: Request) -> None:
            await self._send(body, request, source, offset, length, watched=False)

        part, _ = await self.exchange.ask(
            "upload part", url, act, what=f"{upload_id}#{number}", send=send
        )
        return PartReceipt(
            number=number,
            offset=offset,
            size=length,
            etag=part.etag,
            checksum=declared,
            crc=crc,
        )

    async def sum_part(
        self, source: ByteSource, offset: int, length: int, algorithm: ChecksumAlgorithm
    ) -> int | None:
        if source.memory is not None and length <= _INLINE:
            return None
        return await self._summed(source, offset, length, algorithm, watched=False)

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
        def act(request: Request) -> Version:
            return self._world.store.read(key_of(url), options.version_id, etag)

        what = f"{range.start}-{range.stop}" if range is not None else ""
        version, request = await self.exchange.ask("get object", url, act, what=what)
        data = version.data
        if range is not None:
            if range.stop > len(data):
                raise ObjectChanged(
                    f"{url} was overwritten while it was read", s3_code="InvalidRange", status=416
                )
            data = data[range.start : range.stop]
        if request.fault is Fault.WRONG_RANGE:
            raise ProtocolError(f"asked {url} for other bytes than came")
        if request.fault is Fault.FLIPPED_DOWN and data:
            data = flipped(data, self._world.random.getrandbits(40))
        crc = await self._receive(url, request, data, sink, sink_offset, algorithm)
        info = info_of(url, version, checksum=algorithm is not None)
        return RangeReceipt(range, len(data), crc if algorithm is not None else None, info)

    def round_trip(self) -> float:
        return self._round_trip

    async def open_ahead(self, url: S3Url, connections: int) -> None:
        await anyio.sleep(self._world.latency(Fault.NONE))

    async def aclose(self) -> None:
        """Nothing to close."""

    def __repr__(self) -> str:
        return "<SimulatedDataPlane>"

    # Up.

    async def _summed(
        self,
        source: ByteSource,
        offset: int,
        length: int,
        algorithm: ChecksumAlgorithm | None,
        *,
        watched: bool,
    ) -> int | None:
        if algorithm is None:
            return None
        if source.memory is not None and length <= _INLINE:
            name, crc = source.summed
            if name == algorithm.name and length == source.size:
                return crc
            return algorithm.update(source.memory[offset : offset + length])
        return await self._threads.run(_sum, source, offset, length, algorithm, watched)

    async def _send(
        self,
        body: list[bytes],
        request: Request,
        source: ByteSource,
        offset: int,
        length: int,
        *,
        watched: bool,
    ) -> None:
        """Bring the bytes to the store, read piece by piece."""
        if source.memory is not None:
            await self._turn(length)
            await anyio.sleep(request.latency / 4)
            body.append(bytes(source.memory[offset : offset + length]))
            return
        for start in range(0, length, _PIECE):
            stop = min(length, start + _PIECE)
            last = watched and stop == length
            await self._turn(stop - start)
            body.append(await self._threads.run(_read, source, offset + start, stop - start, last))
            await anyio.sleep(request.latency / 4)

    async def _turn(self, size: int) -> None:
        if self._pace is not None:
            await self._pace.take(size)

    def _arrived(self, request: Request, body: Sequence[bytes]) -> bytes:
        data = b"".join(body)
        if request.fault is Fault.FLIPPED_UP and data:
            return flipped(data, self._world.random.getrandbits(40))
        return data

    # Down.

    async def _receive(
        self,
        url: S3Url,
        request: Request,
        data: bytes,
        sink: ByteSink,
        offset: int,
        algorithm: ChecksumAlgorithm | None,
    ) -> int:
        """Move the bytes into the sink; their CRC, as they came."""
        crc = 0
        cut = request.fault in (Fault.CUT, Fault.STALLED_BODY)
        stop = self._world.random.randrange(len(data)) if cut and data else len(data)
        for start in range(0, stop, _PIECE):
            piece = memoryview(data)[start : min(stop, start + _PIECE)]
            await self._turn(len(piece))
            if self._world.dead:
                self._world.die()
            if sink.memory is not None:
                sink.memory[offset + start : offset + start + len(piece)] = piece
                crc = algorithm.update(piece, crc) if algorithm is not None else 0
            else:
                crc = await self._threads.run(_store, sink, offset + start, piece, algorithm, crc)
            await asyncio.sleep(request.latency / 4)
        if cut:
            if request.fault is Fault.STALLED_BODY:
                await anyio.sleep(STALL)
            raise ConnectionFailed(f"get object of {url}: the body broke off")
        return crc


def _sum(
    source: ByteSource, offset: int, length: int, algorithm: ChecksumAlgorithm, watched: bool
) -> int:
    crc = 0
    for start in range(offset, offset + length, _PIECE):
        size = min(_PIECE, offset + length - start)
        crc = algorithm.update(_read(source, start, size, False), crc)
    if watched:
        source.check_unchanged()
    return crc


def _read(source: ByteSource, offset: int, length: int, watched: bool) -> bytes:
    if source.memory is not None:
        return bytes(source.memory[offset : offset + length])
    buffer = bytearray(length)
    source.read_into(offset, memoryview(buffer))
    if watched:
        source.check_unchanged()
    return bytes(buffer)


def _store(
    sink: ByteSink,
    offset: int,
    piece: memoryview,
    algorithm: ChecksumAlgorithm | None,
    crc: int,
) -> int:
    sink.write_at(offset, piece)
    return algorithm.update(piece, crc) if algorithm is not None else 0
