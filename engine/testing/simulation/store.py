"""S3 in memory, as far as the engine uses it: what is stored, what is refused and by which code.

What lives here: state and the rules of S3. What must not: time that a request takes, faults, and
the engine's errors. One call is one request, carried out at one instant.

https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import NamedTuple, final

from engine.testing.simulation.sums import DEFAULT, checksum_of, composite_of
from engine.types import Checksum


class Refused(Exception):
    """The answer is an error: its code and its status."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.retry_after: float | None = None


@dataclass(slots=True)
class Version:
    """One version of an object.

    Attributes:
        parts: Bytes of each part; one where it was written whole.
        part_sums: Their checksums, where the store keeps them.
        by: Who wrote it: ``engine``, or somebody else.
        upload_id: Of the upload that it was made of, or empty.
    """

    data: bytes
    etag: str
    checksum: Checksum | None
    version_id: str
    at: float
    by: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    part_sums: tuple[Checksum | None, ...] = ()
    upload_id: str = ""


class HeldPart(NamedTuple):
    """A part of an upload."""

    data: bytes
    etag: str
    checksum: Checksum | None
    landed: float


@dataclass(slots=True)
class Upload:
    """One multipart upload, also after its end.

    Attributes:
        state: ``open``, ``aborted`` (parts may still land), ``completed``.
        ended: When it was aborted or completed.
        listed: When its parts were last listed in an answer that came.
    """

    key: str
    upload_id: str
    algorithm: str
    began: float
    initiator: str
    metadata: Mapping[str, str]
    parts: dict[int, HeldPart] = field(default_factory=dict)
    state: str = "open"
    ended: float = 0.0
    listed: float = -1.0
    receipt: Version | None = None

    @property
    def holds(self) -> bool:
        """Whether there is something of it that is paid for."""
        return self.state == "open" or (self.state == "aborted" and bool(self.parts))


@dataclass(frozen=True, slots=True)
class Condition:
    """Of a write."""

    if_match: str | None = None
    if_none_match: bool = False


@dataclass(frozen=True, slots=True)
class StoreRules:
    """How this store differs from others.

    Attributes:
        sums: It keeps checksums.
        full: Of objects made of parts it keeps that of all bytes; else that of the parts' sums.
        tells_parts: HEAD answers for a part.
        tells_initiators: ListMultipartUploads says who began them.
        completes_again: A Complete that is sent once more is answered as the first one was.
        min_part: Bytes of the smallest part but the last.
        page: Keys, parts and uploads in a page of a listing.
    """

    sums: bool = True
    full: bool = True
    tells_parts: bool = True
    tells_initiators: bool = True
    completes_again: bool = False
    min_part: int = 1024
    page: int = 3


@final
class Store:
    """All buckets of one store; keys are ``bucket/key``.

    Args:
        now: The store's clock, in seconds.
    """

    def __init__(self, rules: StoreRules, now: Callable[[], float]) -> None:
        self.rules = rules
        self.now = now
        self.history: dict[str, list[Version | None]] = {}
        self.uploads: dict[str, Upload] = {}
        self._keys: list[str] = []
        self._count = 0

    # What is there.

    def current(self, key: str) -> Version | None:
        """The newest version; None where there is none, or it was deleted."""
        versions = self.history.get(key)
        return versions[-1] if versions else None

    def read(self, key: str, version_id: str | None, if_match: str | None) -> Version:
        """The version that a GET or HEAD is about."""
        found = self.current(key)
        if version_id is not None:
            named = [one for one in self.history.get(key, ()) if one is not None]
            found = next((one for one in named if one.version_id == version_id), None)
        if found is None:
            raise Refused("NoSuchKey", 404)
        if if_match is not None and if_match.strip('"') != found.etag.strip('"'):
            raise Refused("PreconditionFailed", 412)
        return found

    def list_page(
        self, prefix: str, token: str | None
    ) -> tuple[Sequence[tuple[str, Version]], str]:
        """One page in order of the keys, and the token of the next; empty after the last."""
        found: list[tuple[str, Version]] = []
        start = bisect_right(self._keys, token[2:]) if token is not None else 0
        for key in self._keys[start:]:
            version = self.current(key)
            if not key.startswith(prefix) or version is None:
                continue
            if len(found) == self.rules.page:
                return found, f"t-{found[-1][0]}"
            found.append((key, version))
        return found, ""

    # Writes.

    def put(
        self,
        key: str,
        data: bytes,
        declared: Checksum | None,
        condition: Condition,
        *,
        metadata: Mapping[str, str] | None = None,
        by: str = "engine",
    ) -> Version:
        """PutObject, and what others write."""
        stored = self._summed(data, declared)
        self._check(key, condition)
        etag = f'"{md5(data, usedforsecurity=False).hexdigest()}"'
        return self._add(
            key,
            Version(
                data,
                etag,
                stored,
                self._id("v"),
                self.now(),
                by,
                metadata or {},
                (len(data),),
                (stored,),
            ),
        )

    def put_in_parts(self, key: str, parts: Sequence[bytes], *, full: bool, by: str) -> Version:
        """What somebody else wrote in parts."""
        data = b"".join(parts)
        stored = checksum_of(DEFAULT, data) if full else composite_of("crc32c", parts)
        return self._add(key, self._of_parts(parts, stored, by, {}, ""))

    def spoil(self, version: Version) -> Version:
        """The store has kept other bytes than it was sent, and tells the checksum of these."""
        data = version.data
        version.data = bytes((data[0] ^ 1,)) + data[1:] if data else b"x"
        stored = version.checksum
        if stored is not None:
            other = stored if stored.full_object else None
            name = stored.algorithm
            version.checksum = (
                checksum_of(name, version.data) if other else composite_of(name, [version.data])
            )
        version.by = "fault"
        return version

    def delete(self, key: str) -> None:
        """DeleteObject; what is not there is deleted too."""
        if self.current(key) is not None:
            self.history[key].append(None)

    # Uploads in parts.

    def create(
        self, key: str, algorithm: str, initiator: str, metadata: Mapping[str, str]
    ) -> Upload:
        upload = Upload(key, self._id("u"), algorithm, self.now(), initiator, metadata)
        self.uploads[upload.upload_id] = upload
        return upload

    def put_part(
        self, upload_id: str, number: int, data: bytes, declared: Checksum | None, began: float
    ) -> HeldPart:
        """UploadPart. One whose request ``began`` before the abort may land after it."""
        upload = self._upload(upload_id, began)
        stored = self._summed(data, declared)
        etag = f'"{md5(data, usedforsecurity=False).hexdigest()}"'
        part = HeldPart(data, etag, stored, self.now())
        upload.parts[number] = part
        return part

    def list_parts(self, upload_id: str, marker: int) -> tuple[Sequence[tuple[int, HeldPart]], int]:
        """One page, and the marker of the next; 0 after the last."""
        upload = self.uploads.get(upload_id)
        if upload is None or not upload.holds:
            raise Refused("NoSuchUpload", 404)
        rest = [(n, upload.parts[n]) for n in sorted(upload.parts) if n > marker]
        page = rest[: self.rules.page]
        return page, page[-1][0] if len(rest) > len(page) else 0

    def list_uploads(self, prefix: str, marker: tuple[str, str]) -> Sequence[Upload]:
        """One page of the open uploads behind ``marker``, by key and id."""
        found = (one for one in self.uploads.values() if one.holds and one.key.startswith(prefix))
        order = sorted(found, key=lambda one: (one.key, one.upload_id))
        return [one for one in order if (one.key, one.upload_id) > marker][: self.rules.page]

    def complete(
        self,
        upload_id: str,
        parts: Sequence[tuple[int, str, Checksum | None]],
        declared: Checksum | None,
        size: int | None,
        condition: Condition,
    ) -> Version:
        """CompleteMultipartUpload."""
        upload = self.uploads.get(upload_id)
        if upload is not None and upload.receipt is not None and self.rules.completes_again:
            return upload.receipt
        if upload is None or upload.state != "open":
            raise Refused("NoSuchUpload", 404)
        held = self._chosen(upload, parts)
        data = b"".join(part.data for part in held)
        if size is not None and size != len(data):
            raise Refused("InvalidRequest", 400)
        stored: Checksum | None = None
        if self.rules.sums and self.rules.full:
            stored = checksum_of(upload.algorithm or DEFAULT, data)
            if declared is not None and declared != stored:
                raise Refused("BadDigest", 400)
        elif self.rules.sums:
            stored = composite_of(upload.algorithm or DEFAULT, [part.data for part in held])
        self._check(upload.key, condition)
        made = self._of_parts([p.data for p in held], stored, "engine", upload.metadata, upload_id)
        upload.state, upload.ended, upload.receipt = "completed", self.now(), made
        upload.parts.clear()
        return self._add(upload.key, made)

    def abort(self, upload_id: str) -> None:
        """AbortMultipartUpload."""
        upload = self.uploads.get(upload_id)
        if upload is None or not upload.holds:
            raise Refused("NoSuchUpload", 404)
        upload.state, upload.ended = "aborted", self.now()
        upload.parts.clear()

    def open_uploads(self) -> Iterator[Upload]:
        """Those of which something is left."""
        return (upload for upload in self.uploads.values() if upload.holds)

    # How.

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count:05d}"

    def _add(self, key: str, version: Version) -> Version:
        if key not in self.history:
            self.history[key] = []
            self._keys.insert(bisect_right(self._keys, key), key)
        self.history[key].append(version)
        return version

    def _summed(self, data: bytes, declared: Checksum | None) -> Checksum | None:
        if declared is None:
            return checksum_of(DEFAULT, data) if self.rules.sums else None
        if checksum_of(declared.algorithm, data) != declared:
            raise Refused("BadDigest", 400)
        return declared if self.rules.sums else None

    def _check(self, key: str, condition: Condition) -> None:
        there = self.current(key)
        if condition.if_none_match and there is not None:
            raise Refused("PreconditionFailed", 412)
        if condition.if_match is not None:
            if there is None:
                raise Refused("NoSuchKey", 404)
            if there.etag.strip('"') != condition.if_match.strip('"'):
                raise Refused("PreconditionFailed", 412)

    def _upload(self, upload_id: str, began: float) -> Upload:
        upload = self.uploads.get(upload_id)
        late = upload is not None and upload.state == "aborted" and began < upload.ended
        if upload is None or not (upload.state == "open" or late):
            raise Refused("NoSuchUpload", 404)
        return upload

    def _chosen(
        self, upload: Upload, parts: Sequence[tuple[int, str, Checksum | None]]
    ) -> list[HeldPart]:
        numbers = [number for number, _, _ in parts]
        if not numbers:
            raise Refused("MalformedXML", 400)
        if numbers != sorted(set(numbers)):
            raise Refused("InvalidPartOrder", 400)
        held = []
        for number, etag, checksum in parts:
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise Refused("InvalidPart", 400)
            if checksum is not None and part.checksum is not None and part.checksum != checksum:
                raise Refused("InvalidPart", 400)
            held.append(part)
        if any(len(part.data) < self.rules.min_part for part in held[:-1]):
            raise Refused("EntityTooSmall", 400)
        return held

    def _of_parts(
        self,
        parts: Sequence[bytes],
        stored: Checksum | None,
        by: str,
        metadata: Mapping[str, str],
        upload_id: str,
    ) -> Version:
        digests = b"".join(md5(part, usedforsecurity=False).digest() for part in parts)
        etag = f'"{md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'
        kept = stored is not None and not stored.full_object
        sums = tuple(
            checksum_of(stored.algorithm, part) if kept and stored is not None else None
            for part in parts
        )
        return Version(
            b"".join(parts),
            etag,
            stored,
            self._id("v"),
            self.now(),
            by,
            metadata,
            tuple(len(part) for part in parts),
            sums,
            upload_id,
        )
