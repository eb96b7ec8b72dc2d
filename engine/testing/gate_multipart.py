"""Multipart uploads as the gate remembers them, and what Complete must agree with.

What lives here: the parts of open uploads with their checksums, and S3's rules of Complete.
What must not: the bytes; moto has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal
from xml.etree import ElementTree

from engine.testing import gate_checksum as checksum
from engine.testing.gate_errors import AwsError

MIN_PART = 5 * 1024 * 1024
MAX_PARTS = 10_000
SumHabit = Literal["asked", "composite", "wrong"]
"""How the store sums what was sent in parts: as it is asked to, over the parts' checksums whatever
it is asked, or with a result that is not true."""
MAX_UPLOADS = 100_000  # open at once; a test that leaks more has another problem


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store holds.

    Attributes:
        digest: By the algorithm that the object will keep.
        told: Algorithm and value that were answered when it came.
    """

    size: int
    etag: str
    digest: bytes
    told: tuple[str, str]


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part as the document of Complete names it."""

    number: int
    etag: str
    checksums: Mapping[str, str]


@dataclass(slots=True)
class Upload:
    """An open upload.

    Attributes:
        declared: The algorithm that Create named, or None.
        initiated, initiator: When it was begun, by the gate's clock, and the ARN of who did.
    """

    bucket: str
    key: str
    declared: str | None
    kind: str
    initiated: datetime | None = None
    initiator: str = ""
    parts: dict[int, Part] = field(default_factory=dict)

    @property
    def algorithm(self) -> str:
        """The algorithm whose value the object will keep."""
        return self.declared or checksum.DEFAULT

    def check_part(self, number: int | None, algorithm: str | None) -> None:
        """Whether a part of this number and checksum may be sent.

        Raises:
            AwsError: InvalidArgument for the number, InvalidRequest for another algorithm.
        """
        if number is None or not 1 <= number <= MAX_PARTS:
            raise AwsError(
                "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive"
            )
        if self.declared is not None and algorithm != self.declared:
            raise AwsError(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {self.declared}, "
                f"actual checksum Type: {algorithm or 'null'}",
            )

    def complete_by_habit(
        self, named: list[NamedPart], headers: Mapping[str, str], habit: SumHabit
    ) -> checksum.StoredChecksum:
        """``complete``, at a store that may have a mind of its own."""
        if habit == "composite" and self.algorithm != "crc64nvme":
            self.kind = checksum.COMPOSITE
            own = {k: v for k, v in headers.items() if not k.lower().startswith(checksum.HEADER)}
            return self.complete(named, own)
        found = self.complete(named, headers)
        if habit == "wrong":
            nothing = checksum.encode(checksum.new_digest(self.algorithm).digest())
            return replace(found, value=nothing)
        return found

    def complete(
        self, named: list[NamedPart], headers: Mapping[str, str]
    ) -> checksum.StoredChecksum:
        """Check everything that Complete says; the checksum that the object gets.

        Raises:
            AwsError: InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest, InvalidRequest.
        """
        self._check_parts(named)
        parts = [self.parts[n.number] for n in named]
        if any(part.size < MIN_PART for part in parts[:-1]):
            raise AwsError("EntityTooSmall")
        size = sum(part.size for part in parts)
        declared_size = headers.get("x-amz-mp-object-size")
        if declared_size is not None and declared_size != str(size):
            raise AwsError(
                "InvalidRequest",
                f"The provided 'x-amz-mp-object-size' header value {declared_size} does not match "
                f"what was computed: {size}",
            )
        kind = headers.get("x-amz-checksum-type", self.kind)
        if kind != self.kind:
            raise AwsError(
                "InvalidRequest",
                f"The upload was created with the {self.kind} checksum type; complete has {kind}",
            )
        value = checksum.whole_object(
            self.algorithm, self.kind, [(part.digest, part.size) for part in parts]
        )
        for algorithm in checksum.ALGORITHMS:
            told = headers.get(checksum.HEADER + algorithm)
            if told is not None and (algorithm, told) != (self.algorithm, value):
                raise AwsError(
                    "BadDigest",
                    f"The {algorithm} you specified did not match the calculated checksum.",
                )
        kept = tuple((part.size, checksum.encode(part.digest)) for part in parts)
        return checksum.StoredChecksum(self.algorithm, value, self.kind, "", kept, in_parts=True)

    def _check_parts(self, named: list[NamedPart]) -> None:
        if not named:
            raise AwsError("MalformedXML")
        numbers = [part.number for part in named]
        if numbers != sorted(set(numbers)):
            raise AwsError("InvalidPartOrder")
        for part in named:
            held = self.parts.get(part.number)
            if held is None or held.etag.strip('"') != part.etag.strip('"'):
                raise AwsError("InvalidPart", PartNumber=str(part.number))
            right = {held.told, (self.algorithm, checksum.encode(held.digest))}
            if not right.issuperset(part.checksums.items()):
                raise AwsError("InvalidPart", PartNumber=str(part.number))
            if self.kind == checksum.COMPOSITE and not part.checksums:
                raise AwsError(
                    "InvalidRequest",
                    f"The upload was created using a {self.algorithm} checksum. The complete "
                    "request must include the checksum for each part. It was missing for part "
                    f"{part.number} in the request.",
                )
        if self.declared is not None and numbers != list(range(1, len(numbers) + 1)):
            # "the part numbers must be consecutive ... otherwise HTTP 500", says the user guide.
            raise AwsError("InternalError")


class Uploads:
    """All open uploads. Used in the gate's loop only."""

    def __init__(self) -> None:
        self._open: dict[str, Upload] = {}

    def __len__(self) -> int:
        return len(self._open)

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()

    def add(self, upload_id: str, upload: Upload) -> None:
        """Note a new upload."""
        if len(self._open) >= MAX_UPLOADS:
            self._open.pop(next(iter(self._open)))
        self._open[upload_id] = upload

    def find(self, upload_id: str, bucket: str, key: str) -> Upload:
        """The open upload of that id, bucket and key.

        Raises:
            AwsError: NoSuchUpload.
        """
        upload = self._open.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise AwsError("NoSuchUpload", UploadId=upload_id)
        return upload

    def of_bucket(self, bucket: str, prefix: str) -> list[tuple[str, str, Upload]]:
        """Key, id and upload of those that are open, by key and then by age."""
        found = [
            (upload.key, upload_id, upload)
            for upload_id, upload in self._open.items()
            if upload.bucket == bucket and upload.key.startswith(prefix)
        ]
        return sorted(found, key=lambda row: row[0].encode())  # stable: the oldest first

    def remove(self, upload_id: str) -> None:
        """It was completed or aborted."""
        self._open.pop(upload_id, None)


def declared_upload(bucket: str, key: str, headers: Mapping[str, str]) -> Upload:
    """The upload that a CreateMultipartUpload request asks for.

    Raises:
        AwsError: InvalidRequest for an algorithm or a type that S3 does not have.
    """
    algorithm = headers.get("x-amz-checksum-algorithm", "").lower() or None
    if algorithm is not None and algorithm not in checksum.ALGORITHMS:
        raise AwsError("InvalidRequest", "Checksum algorithm provided is unsupported.")
    told = headers.get("x-amz-checksum-type", "").upper()
    if told and algorithm is None:
        raise AwsError(
            "InvalidRequest", "The x-amz-checksum-type header can only be used with an algorithm"
        )
    kind = told or checksum.default_kind(algorithm or checksum.DEFAULT)
    if not checksum.may_be(algorithm or checksum.DEFAULT, kind):
        raise AwsError(
            "InvalidRequest", f"The {kind} checksum type cannot be used with {algorithm}."
        )
    return Upload(bucket, key, algorithm, kind)


def read_complete(document: bytes) -> list[NamedPart]:
    """The parts that the document of Complete names.

    Raises:
        AwsError: MalformedXML.
    """
    try:
        root = ElementTree.fromstring(document)
        return [
            _read_part({_local(e.tag): (e.text or "").strip() for e in element})
            for element in root
            if _local(element.tag) == "Part"
        ]
    except (ElementTree.ParseError, KeyError, ValueError):
        raise AwsError("MalformedXML") from None


def complete_document(named: list[NamedPart]) -> bytes:
    """The document for moto: numbers and ETags, without the checksums that moto does not know."""
    parts = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{part.etag}</ETag></Part>"
        for part in named
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def _read_part(fields: Mapping[str, str]) -> NamedPart:
    checksums = {
        name.removeprefix("Checksum").lower(): value
        for name, value in fields.items()
        if name.startswith("Checksum")
    }
    etag = fields["ETag"].replace("&quot;", '"').strip('"')
    return NamedPart(int(fields["PartNumber"]), f'"{etag}"', checksums)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
