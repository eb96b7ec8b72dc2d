"""Frozen values that every room shares. No behaviour beyond parsing and printing.

Most are msgspec's structs: a frozen dataclass takes five times as long to make, and a listing makes
two for every key. They hold nothing that could lead back to them, so the garbage collector is told
to leave them alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType, NoReturn, Self

import msgspec
from msgspec import Struct

from engine.errors import UsageError

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
TiB = 1024 * GiB

UploadId = NewType("UploadId", str)
"""S3's id of one multipart upload. It has no expiry and is not bound to credentials."""

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; upper case and
# underscore are allowed because buckets made before 2018 in us-east-1 may have them.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MAX_KEY_BYTES = 1024


class S3Url(Struct, frozen=True, gc=False):
    """A bucket and a key, written ``s3://bucket/key``. An empty key is the bucket itself.

    Keys are taken as they are: ``//``, ``.``, ``..``, ``+``, ``%`` and ``#`` mean themselves.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str | S3Url) -> S3Url:
        """Read ``s3://bucket/key``.

        Raises:
            UsageError: Not an s3:// URL, an impossible bucket name, or a key over 1,024 bytes.
        """
        if isinstance(text, S3Url):
            return text
        if not text.startswith("s3://"):
            raise UsageError(f"not an S3 URL: {text!r}", fix="Write it as s3://bucket/key")
        bucket, _, key = text[len("s3://") :].partition("/")
        if bucket.startswith("arn:"):
            raise UsageError(
                f"an ARN instead of a bucket: {text!r}",
                fix="Write an access point by its alias, which ends in -s3alias and is taken as a "
                "bucket; aws s3control get-access-point shows it",
            )
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(
                f"not a bucket name: {bucket!r} in {text!r}", fix="Write it as s3://bucket/key"
            )
        try:
            encoded = key.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the key of {text!r} is not valid Unicode", fix="S3 keys are UTF-8; rename it"
            ) from None
        if len(encoded) > _MAX_KEY_BYTES:
            raise UsageError(
                f"the key of {text[:60]!r}... has {len(encoded)} bytes",
                fix=f"S3 allows {_MAX_KEY_BYTES}",
            )
        return cls(bucket, key)

    def join(self, relative: str) -> S3Url:
        """The URL of ``relative`` under this prefix, with exactly one slash between them."""
        prefix = self.key if not self.key or self.key.endswith("/") else self.key + "/"
        key = prefix + relative
        if len(key) <= _MAX_KEY_BYTES and key.isascii():
            return S3Url(self.bucket, key)  # nothing of it can be wrong
        return S3Url.parse(f"s3://{self.bucket}/{prefix}{relative}")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class ByteRange(Struct, frozen=True, gc=False):
    """Bytes ``start`` up to, not including, ``stop`` of an object."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise UsageError(f"not a byte range: {self.start}..{self.stop}")

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def header(self) -> str:
        """The Range header (RFC 9110, 14.1.2): both ends included."""
        return f"bytes={self.start}-{self.stop - 1}"


def not_pickled(what: str) -> str:
    """Why ``what`` refuses to be pickled."""
    return (
        f"{what} is not pickled, it would hold keys in clear: open an engine in the other process, "
        "or give it those of this one (`s3engine credentials serve`)"
    )


@dataclass(frozen=True, slots=True)
class Credentials:
    """One frozen set of AWS credentials. Workers hold the whole set, never single fields.

    Attributes:
        expires_at: End of life by the issuer's clock; None for long-term keys.
        issued_at: The issuer's clock when it answered (its Date header); with ``expires_at``
            it gives the true lifetime whatever our own clock says.
        generation: Counts the sets that one broker has issued; 0 outside a broker.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    issued_at: datetime | None = None
    generation: int = 0

    @property
    def lifetime(self) -> float | None:
        """Seconds from issue to expiry by the issuer's clock; None if it never expires."""
        if self.expires_at is None:
            return None
        if self.issued_at is None:
            return (self.expires_at - datetime.now(self.expires_at.tzinfo)).total_seconds()
        return (self.expires_at - self.issued_at).total_seconds()

    def __reduce__(self) -> NoReturn:
        """Not pickled, alone or inside something else: a pickle would hold the keys in clear."""
        raise TypeError(not_pickled("Credentials"))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class CallerIdentity(Struct, frozen=True):
    """Whose credentials they are, as GetCallerIdentity says.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    """

    account: str
    arn: str
    user_id: str = ""

    @property
    def is_root(self) -> bool:
        """The account's root user, who may not assume roles."""
        return self.arn.endswith(":root")

    @property
    def is_session(self) -> bool:
        """A session of a role, so that the next role is chained."""
        return ":assumed-role/" in self.arn


class Checksum(Struct, frozen=True, gc=False):
    """A checksum as S3 writes it: algorithm name (lower case) and Base64 of the digest.

    ``full_object`` is False for the composite form of a multipart upload (``...-N``), which
    covers the part checksums and not the bytes.
    """

    algorithm: str
    value: str
    full_object: bool = True

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class ObjectInfo(Struct, frozen=True, gc=False):
    """What S3 says of one stored object. ``size`` is in bytes.

    ``headers`` is the head of the answer, names in lower case; a listing has none.
    ``storage_class`` is None where nothing is said, which at AWS means STANDARD.
    """

    url: S3Url
    size: int
    etag: str
    checksum: Checksum | None = None
    last_modified: datetime | None = None
    version_id: str | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    storage_class: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectInfo) and self._shown() == other._shown()

    def __repr__(self) -> str:
        shown = zip(_SHOWN, self._shown(), strict=True)
        return f"ObjectInfo({', '.join(f'{name}={value!r}' for name, value in shown)})"

    def _shown(self) -> tuple[object, ...]:
        """All but the header fields, which differ by date and request."""
        return tuple(getattr(self, name) for name in _SHOWN)


_SHOWN = tuple(name for name in ObjectInfo.__struct_fields__ if name != "headers")


class StoredPart(Struct, frozen=True, gc=False):
    """A part that a stored object was written in. ``size`` is in bytes.

    Attributes:
        count: How many parts the object has.
        checksum: Of the part's bytes; None where the store keeps none. S3 keeps one for the parts
            of objects with a composite checksum.
    """

    number: int
    size: int
    count: int
    checksum: Checksum | None = None


class ListedPart(Struct, frozen=True, gc=False):
    """A part that an open upload has. ``size`` is in bytes.

    Attributes:
        checksum: Of the part's bytes; None where the store keeps none.
    """

    number: int
    size: int
    etag: str
    checksum: Checksum | None = None


class OpenUpload(Struct, frozen=True, gc=False):
    """An upload in parts that was begun and has not ended.

    Attributes:
        initiated: When it was begun, by the store's clock; None where it does not say.
        initiator: Who began it: the ARN of a user or of a session of a role, or another id of the
            store's own; empty where it does not say.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_MultipartUpload.html
    """

    url: S3Url
    upload_id: UploadId
    initiated: datetime | None = None
    initiator: str = ""


class PutReceipt(Struct, frozen=True, gc=False):
    """S3's acknowledgement of a whole object."""

    etag: str
    checksum: Checksum | None
    version_id: str | None = None


class PartReceipt(Struct, frozen=True, gc=False):
    """S3's acknowledgement of one part.

    ``crc`` is the checksum as an integer, to combine; both are None where no sum was asked for.
    """

    number: int
    offset: int
    size: int
    etag: str
    checksum: Checksum | None
    crc: int | None


class RangeReceipt(Struct, frozen=True, gc=False):
    """One range that arrived whole. ``crc`` covers its bytes; ``object`` is the whole object's."""

    range: ByteRange | None
    size: int
    crc: int | None
    object: ObjectInfo


class TransferResult(Struct, frozen=True, gc=False):
    """What became of one object.

    Attributes:
        parts: Parts sent or ranges fetched; 1 for a single request.
        checksum: The full-object checksum, or None where the store keeps none.
        verified: Whether that checksum was compared with the bytes moved. A store that keeps
            no checksum gives False, which is not an error.
        seconds: Wall time from the first request to the last answer.
        version_id: Of the object written or read; None where the bucket keeps no versions.
        resumed: An earlier process of the run moved it, and no request was made.
    """

    url: S3Url
    path: str
    size: int
    etag: str
    parts: int
    checksum: Checksum | None
    verified: bool
    seconds: float
    version_id: str | None = None
    resumed: bool = False
