"""What the session may do on a bucket: write, list, read, parts, delete, on a key of our own.

The key is random and below ``_s3engine_doctor/``, so no object of anybody's is touched, and it is
taken away again on every way out. Whatever changes the bucket is shielded from cancellation, so
that it is known what has to be taken away. What must not live here: what an answer means
(``bucket_findings.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from engine.doctor.bucket_findings import (
    facts,
    fixes,
    list_denied,
    objects_of,
    other,
    outcome,
    unusable,
)
from engine.doctor.findings import Finding, Tell, failed, ok, skipped, warning
from engine.doctor.policies import folder
from engine.doctor.tools import Tools
from engine.errors import AccessDenied, EngineError, S3Error
from engine.protocols import ChecksumAlgorithm, ControlPlane, DataPlane
from engine.transfer import BytesSource
from engine.transfer.checksums import CHECKSUMS
from engine.transfer.sinks import MemorySink
from engine.types import S3Url, UploadId

T = TypeVar("T")

FOLDER = "_s3engine_doctor/"
_WORDS = b"written and deleted again by s3engine doctor\n"
_CHECKS = ("write", "list", "read", "parts", "delete")
_CHECKSUM = "crc64nvme"


async def probe(
    tools: Tools, data: DataPlane, control: ControlPlane, url: S3Url, tell: Tell
) -> None:
    """Try everything that the engine does below ``url``, and leave nothing behind."""
    key = folder(url).join(f"{FOLDER}{tools.random.getrandbits(64):016x}")
    bench = _Bench(tools, data, control, key, folder(url), CHECKSUMS.get(_CHECKSUM)())
    try:
        await _steps(bench, tell)
    finally:
        with anyio.CancelScope(shield=True):
            await bench.tidy()


@dataclass(slots=True)
class _Bench:
    """One probe under way.

    Attributes:
        written: Whether the object may be there.
        version: Its version, where the bucket keeps them.
    """

    tools: Tools
    data: DataPlane
    control: ControlPlane
    key: S3Url
    below: S3Url
    checksum: ChecksumAlgorithm
    written: bool = False
    version: str | None = None
    uploads: list[UploadId] = field(default_factory=list)

    async def put(self) -> None:
        self.written = True  # until the answer is known, it may be
        try:
            receipt = await self._call(
                "PutObject",
                lambda: self.data.put_object(self.key, BytesSource(_WORDS), self.checksum),
            )
        except S3Error:
            self.written = False
            raise
        self.version = receipt.version_id

    async def list(self) -> bool:
        """Whether the listing has the key, or works at all where the key was not written."""
        page, _ = await self._call("ListObjectsV2", lambda: self.control.list_page(self.key, None))
        return not self.written or any(info.url == self.key for info in page)

    async def read(self) -> bool:
        """Whether what comes back is what was written."""
        sink = MemorySink(len(_WORDS))
        await self._call(
            "GetObject",
            lambda: self.data.get_range(
                self.key, sink, 0, range=None, etag=None, algorithm=self.checksum
            ),
        )
        return bytes(sink.data) == _WORDS

    async def create(self) -> UploadId:
        upload = await self._call(
            "CreateMultipartUpload",
            lambda: self.control.create_multipart_upload(self.key, self.checksum),
        )
        self.uploads.append(upload)
        return upload

    async def list_parts(self, upload: UploadId) -> None:
        await self._call("ListParts", lambda: self.control.list_parts(self.key, upload))

    async def abort(self, upload: UploadId) -> None:
        await self._call(
            "AbortMultipartUpload",
            lambda: self.control.abort_multipart_upload(self.key, upload),
        )
        self.uploads.remove(upload)

    async def delete(self) -> None:
        await self._call("DeleteObject", lambda: self.control.delete_objects([self.key]))
        self.written = False

    async def tidy(self) -> None:
        """Take away what is left, on the way out."""
        for upload in tuple(self.uploads):
            await _quietly(self.abort(upload))
        if self.written:
            await _quietly(self.delete())

    async def _call(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        return await self.tools.call(what, call)


async def _steps(bench: _Bench, tell: Tell) -> None:
    with anyio.CancelScope(shield=True):
        denied = await _try(bench.put())
    region = bench.tools.endpoints.region
    stop = unusable(bench.key.bucket, region, denied)
    tell(stop or ok("bucket", f"{bench.key.bucket}, signed for {region}"))
    if stop is not None:
        for check in _CHECKS:
            tell(skipped(check, "the bucket is not usable"))
        return
    tell(outcome(bench.below, "write", denied, "s3:PutObject", "a tiny object"))
    tell(await _listing(bench))
    if not bench.written:
        tell(skipped("read", "nothing could be written"))
    else:
        tell(await _reading(bench))
    with anyio.CancelScope(shield=True):
        tell(await _parts(bench))
        tell(await _deletion(bench))


async def _listing(bench: _Bench) -> Finding:
    try:
        found = await bench.list()
    except AccessDenied as error:
        return list_denied(bench.below, error)
    except EngineError as error:
        return other("list", error)
    if not found:
        return warning("list", "the listing does not have what was written a moment ago")
    return ok("list", "ListObjectsV2")


async def _reading(bench: _Bench) -> Finding:
    try:
        same = await bench.read()
    except EngineError as error:
        return outcome(bench.below, "read", error, "s3:GetObject", "")
    if not same:
        return failed("read", "what comes back is not what was written", exit_code=1)
    return ok("read", "byte for byte what was written")


async def _parts(bench: _Bench) -> Finding:
    """Begin an upload in parts, look at it, abort it."""
    missing: list[str] = []
    try:
        upload = await bench.create()
    except EngineError as error:
        return outcome(bench.below, "parts", error, "s3:PutObject", "")
    try:
        await bench.list_parts(upload)
    except AccessDenied:
        missing.append("s3:ListMultipartUploadParts")
    except EngineError as error:
        await _quietly(bench.abort(upload))
        return other("parts", error)
    left: tuple[str, ...] = ()
    try:
        await bench.abort(upload)
    except AccessDenied:
        missing.append("s3:AbortMultipartUpload")
        left = (
            "left behind: an open upload without parts. Whoever may abort it can, by",
            f"aws s3api abort-multipart-upload --bucket {bench.key.bucket} --key {bench.key.key}",
            f"--upload-id {upload}",
        )
        bench.uploads.clear()  # asked and refused: asking again on the way out changes nothing
    except EngineError as error:
        return other("parts", error)
    if not missing:
        return ok("parts", "CreateMultipartUpload, ListParts, AbortMultipartUpload")
    return failed(
        "parts",
        f"{' and '.join(missing)} missing on {objects_of(bench.below)}",
        *fixes(bench.below, *missing),
        detail=left,
        missing=tuple(missing),
    )


async def _deletion(bench: _Bench) -> Finding:
    if not bench.written:
        return skipped("delete", "nothing could be written")
    try:
        await bench.delete()
    except AccessDenied as error:
        bench.written = False
        return failed(
            "delete",
            f"s3:DeleteObject is missing on {objects_of(bench.below)}",
            *fixes(bench.below, "s3:DeleteObject"),
            detail=(*facts(error), f"left behind: {bench.key}"),
            missing=("s3:DeleteObject",),
        )
    except EngineError as error:
        return other("delete", error, f"left behind, perhaps: {bench.key}")
    if bench.version not in (None, "null"):
        return warning(
            "delete",
            f"the bucket keeps versions: version {bench.version} of {bench.key} stays",
            "A lifecycle rule for old versions takes it away",
        )
    return ok("delete", "nothing is left behind")


async def _try(call: Awaitable[None]) -> EngineError | None:
    try:
        await call
    except EngineError as error:
        return error
    return None


async def _quietly(call: Awaitable[None]) -> None:
    """On the way out: what cannot be taken away was told, or the run was stopped."""
    await _try(call)
