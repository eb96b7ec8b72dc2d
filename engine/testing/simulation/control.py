"""The control plane of a simulation: S3's other verbs.

What lives here: verbs without a body. What must not: a second try, faults (``exchange.py``).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import final

from engine.config import Endpoints
from engine.errors import NotFound
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.protocols import (
    ChecksumAlgorithm,
    Clock,
    ControlPlane,
    CopySource,
    DataPlane,
    Lease,
)
from engine.testing.simulation.exchange import Exchange, key_of
from engine.testing.simulation.faults import Fault
from engine.testing.simulation.planes import SimulatedDataPlane, condition_of, info_of
from engine.testing.simulation.store import HeldPart, Upload, Version
from engine.testing.simulation.sums import DEFAULT, checksum_of
from engine.testing.simulation.world import Request
from engine.threads import ThreadDoor
from engine.types import (
    ByteRange,
    Checksum,
    ListedPart,
    ObjectInfo,
    OpenUpload,
    PartReceipt,
    PutReceipt,
    S3Url,
    StoredPart,
    UploadId,
)


@final
class SimulatedControlPlane(ControlPlane):
    """See ``ControlPlane``; of the world of the data plane ``beside`` it."""

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        threads: ThreadDoor,
        user_agent: str,
        emit: Emit = silent,
        beside: DataPlane | None = None,
    ) -> None:
        assert isinstance(beside, SimulatedDataPlane)
        self._exchange: Exchange = beside.exchange
        self._world = beside.exchange.world
        self._store = beside.exchange.world.store
        run = user_agent.rpartition("/")[2]
        told = self._world.store.rules.tells_initiators
        self._who = f"arn:aws:sts::1:assumed-role/simulated/s3engine-{run}" if told else ""

    async def head_object(
        self, url: S3Url, *, options: ObjectOptions = PLAIN, checksum: bool = True
    ) -> ObjectInfo:
        def act(request: Request) -> Version:
            return self._store.read(key_of(url), options.version_id, None)

        version, _ = await self._exchange.ask("head object", url, act)
        return info_of(url, version, checksum=checksum)

    async def head_part(
        self, url: S3Url, number: int, *, etag: str, options: ObjectOptions = PLAIN
    ) -> StoredPart | None:
        def act(request: Request) -> Version:
            return self._store.read(key_of(url), options.version_id, etag)

        version, _ = await self._exchange.ask("head part", url, act, what=str(number))
        if not self._store.rules.tells_parts or not 0 < number <= len(version.parts):
            return None
        return StoredPart(
            number, version.parts[number - 1], len(version.parts), version.part_sums[number - 1]
        )

    async def list_page(
        self, prefix: S3Url, token: str | None, *, options: ObjectOptions = PLAIN
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        def act(request: Request) -> tuple[Sequence[tuple[str, Version]], str]:
            return self._store.list_page(key_of(prefix), token)

        (found, following), request = await self._exchange.ask(
            "list objects", S3Url(prefix.bucket), act, what=f"{prefix.key} {token}"
        )
        page = [
            info_of(S3Url(*key.split("/", 1)), version, checksum=False) for key, version in found
        ]
        if request.fault is Fault.LOOP and following:
            self._world.loops.setdefault(key_of(prefix), following)
        return page, self._world.loops.get(key_of(prefix), following) or None

    async def create_multipart_upload(
        self, url: S3Url, algorithm: ChecksumAlgorithm | None, *, options: ObjectOptions = PLAIN
    ) -> UploadId:
        def act(request: Request) -> Upload:
            name = algorithm.name if algorithm is not None else ""
            return self._store.create(key_of(url), name, self._who, options.metadata)

        upload, _ = await self._exchange.ask("create multipart upload", url, act)
        return UploadId(upload.upload_id)

    async def complete_multipart_upload(
        self,
        url: S3Url,
        upload_id: UploadId,
        parts: Sequence[PartReceipt],
        checksum: Checksum | None,
        size: int,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        rows = [(part.number, part.etag, part.checksum) for part in parts]

        def act(request: Request) -> Version:
            version = self._store.complete(
                upload_id,
                rows,
                checksum,
                size if checksum is not None else None,
                condition_of(options),
            )
            wrong = request.fault is Fault.STORED_WRONG
            return self._store.spoil(version) if wrong else version

        version, request = await self._exchange.ask(
            "complete multipart upload", url, act, what=upload_id
        )
        stored = version.checksum
        if request.fault is Fault.WRONG_ECHO and stored is not None:
            stored = checksum_of(stored.algorithm, b"other bytes")
        etag = "" if request.fault is Fault.NO_ETAG else version.etag
        return PutReceipt(etag, stored, version.version_id)

    async def abort_multipart_upload(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> None:
        def act(request: Request) -> None:
            self._store.abort(upload_id)

        await self._exchange.ask("abort multipart upload", url, act, what=upload_id)

    async def list_parts(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> Sequence[ListedPart] | None:
        found: list[tuple[int, HeldPart]] = []
        marker = 0
        looked = 0.0

        def act(request: Request) -> tuple[Sequence[tuple[int, HeldPart]], int]:
            nonlocal looked
            looked = self._world.server_time()
            return self._store.list_parts(upload_id, marker)

        while True:
            try:
                (page, marker), _ = await self._exchange.ask(
                    "list parts", url, act, what=f"{upload_id}>{marker}"
                )
            except NotFound:
                self._looked(upload_id, looked)
                return None
            self._looked(upload_id, looked)
            found += page
            if not marker:
                return [
                    ListedPart(number, len(part.data), part.etag, part.checksum)
                    for number, part in found
                ]

    def _looked(self, upload_id: str, at: float) -> None:
        upload = self._store.uploads.get(upload_id)
        if upload is not None:
            upload.listed = at

    async def list_uploads(
        self,
        prefix: S3Url,
        after: tuple[str, str] | None = None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> tuple[Sequence[OpenUpload], tuple[str, str] | None]:
        marker = (f"{prefix.bucket}/{after[0]}", after[1]) if after is not None else ("", "")

        def act(request: Request) -> Sequence[Upload]:
            return self._store.list_uploads(key_of(prefix), marker)

        page, _ = await self._exchange.ask(
            "list uploads", S3Url(prefix.bucket), act, what=f"{prefix.key} {after}"
        )
        found = [
            OpenUpload(
                S3Url(*upload.key.split("/", 1)),
                UploadId(upload.upload_id),
                datetime.fromtimestamp(upload.began, UTC),
                upload.initiator,
            )
            for upload in page
        ]
        whole = len(page) == self._store.rules.page
        return found, (found[-1].url.key, found[-1].upload_id) if whole else None

    async def copy_object(
        self,
        source: CopySource,
        target: S3Url,
        algorithm: ChecksumAlgorithm | None,
        *,
        keep_metadata: bool = True,
        keep_tags: bool = True,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        def act(request: Request) -> Version:
            read = self._store.read(key_of(source.url), source.options.version_id, source.etag)
            declared = checksum_of(algorithm.name if algorithm is not None else DEFAULT, read.data)
            metadata = read.metadata if keep_metadata else options.metadata
            return self._store.put(
                key_of(target), read.data, declared, condition_of(options), metadata=metadata
            )

        version, _ = await self._exchange.ask("copy object", target, act)
        return PutReceipt(version.etag, version.checksum, version.version_id)

    async def upload_part_copy(
        self,
        source: CopySource,
        target: S3Url,
        upload_id: UploadId,
        number: int,
        range: ByteRange,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PartReceipt:
        def act(request: Request) -> HeldPart:
            read = self._store.read(key_of(source.url), source.options.version_id, source.etag)
            data = read.data[range.start : range.stop]
            declared = checksum_of(algorithm.name, data) if algorithm is not None else None
            return self._store.put_part(upload_id, number, data, declared, request.began)

        part, _ = await self._exchange.ask(
            "upload part copy", target, act, what=f"{upload_id}#{number}"
        )
        told = part.checksum if algorithm is not None else None
        crc = int.from_bytes(base64.b64decode(told.value), "big") if told is not None else None
        return PartReceipt(
            number=number,
            offset=range.start,
            size=range.length,
            etag=part.etag,
            checksum=told,
            crc=crc,
        )

    async def get_tags(self, url: S3Url, *, options: ObjectOptions = PLAIN) -> Mapping[str, str]:
        def act(request: Request) -> Mapping[str, str]:
            self._store.read(key_of(url), options.version_id, None)
            return {}

        tags, _ = await self._exchange.ask("get object tagging", url, act)
        return tags

    async def delete_objects(
        self, urls: Sequence[S3Url], *, options: ObjectOptions = PLAIN
    ) -> None:
        def act(request: Request) -> None:
            for url in urls:
                self._store.delete(key_of(url))

        await self._exchange.ask("delete objects", S3Url(urls[0].bucket), act)

    async def aclose(self) -> None:
        """Nothing to close."""

    def __repr__(self) -> str:
        return "<SimulatedControlPlane>"
