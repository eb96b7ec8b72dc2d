"""ObjectOptions: what an object is stored with, and what S3 wants to hear with a request. PURE.

What lives here: values, their checks, and the header fields that they become. What must not:
sizes and limits (``config``), requests.

Which request takes which field: https://docs.aws.amazon.com/AmazonS3/latest/API/, the pages of
PutObject, CreateMultipartUpload, UploadPart, CompleteMultipartUpload, GetObject, HeadObject and
CopyObject.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NoReturn, Self
from urllib.parse import urlencode

from engine.errors import UsageError

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
MAX_METADATA = 2_048
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
MAX_TAGS = 10
MAX_TAG_NAME = 128
MAX_TAG_VALUE = 256
CUSTOMER_KEY_BYTES = 32
ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")

_ACCOUNT = re.compile(r"[0-9]{12}")
_META_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What a header field may hold (RFC 9110, 5.5); S3 takes no other metadata over HTTP as it is.
_TEXT = re.compile(r"[\t\x20-\x7e]*")
_SSE = "x-amz-server-side-encryption"
_COPY_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"


@dataclass(frozen=True, slots=True)
class Encryption:
    """Encryption at rest with a key that AWS holds.

    Attributes:
        algorithm: ``AES256`` (SSE-S3), ``aws:kms`` or ``aws:kms:dsse``.
        key_id: Id, alias or ARN of the KMS key; None for the account's own.
        context: Encryption context of KMS; it is logged by CloudTrail, so no secret.
        bucket_key: Whether S3 may use a key of the bucket for less calls to KMS; None as the
            bucket says.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html
    """

    algorithm: str = "AES256"
    key_id: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    bucket_key: bool | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ENCRYPTIONS:
            raise UsageError(
                f"unknown encryption {self.algorithm!r}", fix=f"One of {', '.join(ENCRYPTIONS)}"
            )
        if self.algorithm == "AES256" and (self.key_id or self.context or self.bucket_key):
            raise UsageError(
                "a KMS key, context or bucket key goes with aws:kms only",
                fix="Write the encryption as aws:kms",
            )

        _check_text("KMS key id", self.key_id)

    def headers(self) -> dict[str, str]:
        """The header fields that ask for it."""
        found = {_SSE: self.algorithm}
        if self.key_id is not None:
            found[f"{_SSE}-aws-kms-key-id"] = self.key_id
        if self.context:
            import json  # few have a context, and a start pays for it

            text = json.dumps(dict(self.context), separators=(",", ":"), sort_keys=True)
            found[f"{_SSE}-context"] = base64.b64encode(text.encode()).decode()
        if self.bucket_key is not None:
            found[f"{_SSE}-bucket-key-enabled"] = "true" if self.bucket_key else "false"
        return found


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key of the customer's own (SSE-C): S3 encrypts with it and does not keep it.

    It goes along with every request, so it is sent over https only.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != CUSTOMER_KEY_BYTES:
            raise UsageError(
                f"a customer key has {len(self.key)} bytes", fix=f"AES-256: {CUSTOMER_KEY_BYTES}"
            )

    def headers(self, *, of_copy_source: bool = False) -> dict[str, str]:
        """The header fields that carry it; a copy needs that of its source as well."""
        prefix = _COPY_SOURCE if of_copy_source else f"{_SSE}-customer-"
        digest = hashlib.md5(self.key, usedforsecurity=False).digest()
        return {
            f"{prefix}algorithm": "AES256",
            f"{prefix}key": base64.b64encode(self.key).decode(),
            f"{prefix}key-md5": base64.b64encode(digest).decode(),
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a CustomerKey is not pickled, it would lie there in clear: "
            "read it where it is kept, in the other process too"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """How objects are written and read, beyond their bytes. All of it is optional.

    Attributes:
        content_type: Of the object; S3's own default is ``binary/octet-stream``.
        expires: When caches are to take it for stale: a date as HTTP writes it (RFC 9110, 5.6.7).
        guess_content_type: Take it from a file's name where ``content_type`` is not given.
        storage_class: As S3 names it (``STANDARD_IA``, ``GLACIER_IR``, ...).
        metadata: User metadata, names without ``x-amz-meta-``; ASCII, as HTTP carries it.
        tags: Object tags.
        encryption: Encryption at rest with a key that AWS holds.
        customer_key: SSE-C instead; the same key is needed to read. https only.
        expected_bucket_owner: Account id; S3 refuses every request if the bucket has another.
        requester_pays: The caller pays for requests and bytes of a bucket that wants it so.
        if_none_match: Write only where nothing is; else ObjectExists. S3 sees to it itself, and
            the file system for a file; whether a file is there is also looked up before its object
            is fetched.
        if_match: Write only over the object with this ETag, or read only that; else ObjectChanged.
        version_id: Read this version.
        raw_encrypted: Read objects that a client encrypted as the bytes they are.
        preserve_mtime: Store a file's modification time in its metadata (``mtime``, seconds
            since 1970 with a fraction), and set a downloaded file's from there.

    Raises:
        UsageError: Values that S3 would refuse, or two that exclude each other.
    """

    content_type: str | None = None
    guess_content_type: bool = False
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    expires: str | None = None
    storage_class: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    encryption: Encryption | None = None
    customer_key: CustomerKey | None = None
    expected_bucket_owner: str | None = None
    requester_pays: bool = False
    if_none_match: bool = False
    if_match: str | None = None
    version_id: str | None = None
    raw_encrypted: bool = False
    preserve_mtime: bool = False

    def __post_init__(self) -> None:
        if self.encryption is not None and self.customer_key is not None:
            raise UsageError("one of encryption and customer_key, not both")
        if self.if_none_match and self.if_match is not None:
            raise UsageError("one of if_none_match and if_match, not both")
        if self.expected_bucket_owner and not _ACCOUNT.fullmatch(self.expected_bucket_owner):
            raise UsageError(
                f"not an account id: {self.expected_bucket_owner!r}", fix="Twelve digits"
            )
        for name, value in self._stored():
            _check_text(name, value)
        _check_text("if-match", self.if_match)
        self._check_tags()
        self._check_metadata()

    def _check_tags(self) -> None:
        if len(self.tags) > MAX_TAGS:
            raise UsageError(f"{len(self.tags)} tags, S3 allows {MAX_TAGS}")
        for name, value in self.tags.items():
            if not 0 < len(name) <= MAX_TAG_NAME or len(value) > MAX_TAG_VALUE:
                raise UsageError(
                    f"not a tag: {name[:60]!r}",
                    fix=f"Names have 1 to {MAX_TAG_NAME} characters, values {MAX_TAG_VALUE}",
                )

    def _check_metadata(self) -> None:
        for name, value in self.metadata.items():
            if not _META_NAME.fullmatch(name):
                raise UsageError(f"not a name of metadata: {name!r}")
            _check_text(f"metadata {name}", value)
        if len({name.lower() for name in self.metadata}) < len(self.metadata):
            raise UsageError("two names of metadata differ in case only; S3 knows no case there")
        size = sum(len(k) + len(v.encode()) for k, v in self.metadata.items())
        if size > MAX_METADATA:
            raise UsageError(f"{size} bytes of metadata, S3 allows {MAX_METADATA}")

    def over(self, defaults: ObjectOptions) -> ObjectOptions:
        """These options, and from ``defaults`` what they leave open.

        Metadata and tags are joined, the rest is taken one by one; so an owner to be expected
        or a payer that an engine was given holds for all its verbs.
        """
        if defaults is PLAIN:
            return self
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}
        for one, other in _EXCLUSIVE:
            if one in given or other in given:
                given.setdefault(one, _NOTHING[one])
                given.setdefault(other, _NOTHING[other])
        for name in ("metadata", "tags"):
            given[name] = {**getattr(defaults, name), **getattr(self, name)}
        return replace(defaults, **given)

    @property
    def conditional(self) -> bool:
        """Whether a write depends on what is there."""
        return self.if_none_match or self.if_match is not None

    # Header fields by kind of request.

    def for_put(self) -> dict[str, str]:
        """PutObject: all that an object is stored with, and the condition."""
        return {**self.for_create(), **self._conditions()}

    def for_create(self) -> dict[str, str]:
        """CreateMultipartUpload, CopyObject: all that an object is stored with."""
        if self is PLAIN:
            return {}
        found = {name: value for name, value in self._stored() if value is not None}
        found.update((f"x-amz-meta-{name.lower()}", text) for name, text in self.metadata.items())
        if self.tags:
            found["x-amz-tagging"] = urlencode(self.tags)
        if self.encryption is not None:
            found.update(self.encryption.headers())
        return {**found, **self.for_part()}

    def for_part(self) -> dict[str, str]:
        """UploadPart, GetObject, HeadObject, ListParts: the customer's key, owner and payer."""
        if self is PLAIN:
            return {}
        key = self.customer_key.headers() if self.customer_key is not None else {}
        return {**key, **self.for_bucket()}

    def for_complete(self) -> dict[str, str]:
        """CompleteMultipartUpload: the condition holds at the end."""
        return {**self.for_part(), **self._conditions()}

    def for_bucket(self) -> dict[str, str]:
        """Every other request: who owns the bucket, and who pays."""
        found = {}
        if self.expected_bucket_owner is not None:
            found["x-amz-expected-bucket-owner"] = self.expected_bucket_owner
        if self.requester_pays:
            found["x-amz-request-payer"] = "requester"
        return found

    def _conditions(self) -> dict[str, str]:
        if self.if_none_match:
            return {"if-none-match": "*"}
        if self.if_match is None:
            return {}
        # Tools print ETags without their quotes, which belong to them (RFC 9110, 8.8.3).
        quoted = self.if_match.startswith('"') or self.if_match == "*"
        return {"if-match": self.if_match if quoted else f'"{self.if_match}"'}

    def _stored(self) -> tuple[tuple[str, str | None], ...]:
        return (
            ("content-type", self.content_type),
            ("cache-control", self.cache_control),
            ("content-disposition", self.content_disposition),
            ("content-encoding", self.content_encoding),
            ("content-language", self.content_language),
            ("expires", self.expires),
            ("x-amz-storage-class", self.storage_class),
        )


def _check_text(name: str, value: str | None) -> None:
    if value is not None and not _TEXT.fullmatch(value):
        raise UsageError(
            f"the {name} holds characters that HTTP does not carry",
            fix="Visible ASCII and spaces only; encode the rest yourself",
        )


# Of each pair one may be given; a call's own puts the engine's other one aside.
_EXCLUSIVE = (("encryption", "customer_key"), ("if_none_match", "if_match"))
_NOTHING = {f.name: f.default for f in fields(ObjectOptions)}

PLAIN = ObjectOptions()
"""Nothing asked for. Compared by identity where a request is made, so use this one."""
