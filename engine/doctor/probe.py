"""What the session may do on a bucket: write, list, read, parts, delete, on a key of our own.

The key is random and below ``_s3engine_doctor/``, so no object of anybody's is touched, and it is
taken away again on every way out. Whatever changes the bucket is shielded from cancellation, so
that it is known what has to be taken away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from engine.doctor.findings import Finding, Tell, failed, failed_with, ok, skipped, warning
from engine.doctor.policies import folder
from engine.doctor.tools import Tools
from engine.errors import AccessDenied, EngineError, NotFound, RedirectRefused, S3Error
from engine.protocols import ChecksumAlgorithm, ControlPlane, DataPlane
from engine.transfer import BytesSource
from engine.transfer.checksums import CHECKSUMS
from engine.transfer.sinks import MemorySink
from engine.types import S3Url, UploadId

T = TypeVar("T")

FOLDER = "_s3engine_doctor/"
_WORDS = b"written and deleted again by s3engine doctor\n"
# Codes and statuses of "this store has no such thing".
_NOT_HERE = frozenset({"NotImplemented", "MethodNotAllowed"})
_NOT_HERE_STATUS = frozenset({405, 501})
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

    @property
    def resource(self) -> str:
        return f"arn:aws:s3:::{self.below.bucket}/{self.below.key}*"

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
    stop = _bucket(bench, denied)
    tell(stop or ok("bucket", f"{bench.key.bucket}, signed for {bench.tools.endpoints.region}"))
    if stop is not None:
        for check in _CHECKS:
            tell(skipped(check, "the bucket is not usable"))
        return
    tell(_outcome(bench, "write", denied, "s3:PutObject", "a tiny object"))
    tell(await _listing(bench))
    if not bench.written:
        tell(skipped("read", "nothing could be written"))
    else:
        tell(await _reading(bench))
    with anyio.CancelScope(shield=True):
        tell(await _parts(bench))
        tell(await _deletion(bench))


def _bucket(bench: _Bench, error: EngineError | None) -> Finding | None:
    """What the first answer says of the bucket itself; None where it can be worked with."""
    if error is None or isinstance(error, AccessDenied):
        return None
    bucket, region = bench.key.bucket, bench.tools.endpoints.region
    there = error.facts.get("bucket_region")
    if there and there != region:
        return failed(
            "bucket",
            f"{bucket} is in {there}, you asked for {region}",
            f"--region {there} (or AWS_REGION={there})",
            exit_code=1,
        )
    if isinstance(error, NotFound):
        return failed("bucket", f"{bucket}: {error.headline}", error.fix, exit_code=1)
    if isinstance(error, S3Error) and not isinstance(error, RedirectRefused):
        return None
    return failed_with("bucket", error)


async def _listing(bench: _Bench) -> Finding:
    try:
        found = await bench.list()
    except AccessDenied as error:
        return failed(
            "list",
            f"s3:ListBucket is missing on arn:aws:s3:::{bench.key.bucket}",
            *_fix(bench, "s3:ListBucket"),
            detail=(
                *_facts(error),
                "Without it S3 answers 403, not 404, for a key that is not there",
            ),
            missing=("s3:ListBucket",),
        )
    except EngineError as error:
        return _other("list", error)
    if not found:
        return warning("list", "the listing does not have what was written a moment ago")
    return ok("list", "ListObjectsV2")


async def _reading(bench: _Bench) -> Finding:
    try:
        same = await bench.read()
    except EngineError as error:
        return _outcome(bench, "read", error, "s3:GetObject", "")
    if not same:
        return failed("read", "what comes back is not what was written", exit_code=1)
    return ok("read", "byte for byte what was written")


async def _parts(bench: _Bench) -> Finding:
    """Begin an upload in parts, look at it, abort it."""
    missing: list[str] = []
    try:
        upload = await bench.create()
    except EngineError as error:
        return _outcome(bench, "parts", error, "s3:PutObject", "")
    try:
        await bench.list_parts(upload)
    except AccessDenied:
        missing.append("s3:ListMultipartUploadParts")
    except EngineError as error:
        await _quietly(bench.abort(upload))
        return _other("parts", error)
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
        return _other("parts", error)
    if not missing:
        return ok("parts", "CreateMultipartUpload, ListParts, AbortMultipartUpload")
    return failed(
        "parts",
        f"{' and '.join(missing)} missing on {bench.resource}",
        *_fix(bench, *missing),
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
            f"s3:DeleteObject is missing on {bench.resource}",
            *_fix(bench, "s3:DeleteObject"),
            detail=(*_facts(error), f"left behind: {bench.key}"),
            missing=("s3:DeleteObject",),
        )
    except EngineError as error:
        return _other("delete", error, f"left behind, perhaps: {bench.key}")
    if bench.version not in (None, "null"):
        return warning(
            "delete",
            f"the bucket keeps versions: version {bench.version} of {bench.key} stays",
            "A lifecycle rule for old versions takes it away",
        )
    return ok("delete", "nothing is left behind")


def _outcome(
    bench: _Bench, check: str, error: EngineError | None, action: str, done: str
) -> Finding:
    """What a request that needs one action came to."""
    if error is None:
        return ok(check, done)
    if isinstance(error, AccessDenied):
        return failed(
            check,
            f"{action} is missing on {bench.resource}",
            *_fix(bench, action),
            detail=_facts(error),
            missing=(action,),
        )
    return _other(check, error)


def _other(check: str, error: EngineError, *detail: str) -> Finding:
    """A store that lacks the call, or a failure in its own words."""
    if isinstance(error, S3Error) and (
        error.s3_code in _NOT_HERE or error.status in _NOT_HERE_STATUS
    ):
        return skipped(check, f"this store has no such call ({error.s3_code})")
    return failed_with(check, error, *detail)


def _fix(bench: _Bench, *actions: str) -> tuple[str, ...]:
    fixes = [
        f"In the identity policy of the role: allow {', '.join(actions)}",
        f"Where bucket {bench.key.bucket} is of another account than the role: in its bucket "
        "policy too",
    ]
    if not {"s3:PutObject", "s3:GetObject"}.isdisjoint(actions):
        fixes.append("Where it encrypts by a KMS key: kms:GenerateDataKey, kms:Decrypt on the key")
    return tuple(fixes)


def _facts(error: S3Error) -> tuple[str, ...]:
    request_id = error.facts.get("request_id")
    said = f"aws: {error.s3_code} ({error.status})"
    return (f"{said}, request id {request_id}" if request_id else said,)


async def _try(call: Awaitable[None]) -> EngineError | None:
    try:
        await call
    except EngineError as error:
        return error
    return None


async def _quietly(call: Awaitable[None]) -> None:
    """On the way out: what cannot be taken away was told, or the run was stopped."""
    await _try(call)
