"""The seams. Rooms above the line know these and nothing of each other.

An implementation inherits its protocol and is ``@final``; every method here is abstract. Plain
inheritance would let a class without a method pass the type checker and answer None.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn, Protocol

from msgspec import Struct

from engine.options import PLAIN, ObjectOptions
from engine.records import DownloadRecord, KeptRange, UploadIntent, UploadRecord
from engine.types import (
    ByteRange,
    Checksum,
    Credentials,
    ListedPart,
    ObjectInfo,
    OpenUpload,
    PartReceipt,
    PutReceipt,
    RangeReceipt,
    S3Url,
    StoredPart,
    UploadId,
    not_pickled,
)


class Clock(Protocol):
    """Monotonic seconds of the event loop, and the wall clock as servers correct it."""

    @abstractmethod
    def monotonic(self) -> float: ...
    @abstractmethod
    def now(self) -> datetime: ...
    @abstractmethod
    def learn(self, server_time: datetime) -> float: ...
    @abstractmethod
    def heard(self, server_time: datetime) -> None: ...
    @abstractmethod
    def of_servers(self) -> datetime | None: ...
    @abstractmethod
    def as_servers(self, at: datetime) -> datetime: ...


class CredentialProvider(Protocol):
    """Gets one set of credentials from where they come from. No caching: the broker caches.

    Attributes:
        renews: Whether asking again can ever give another set.
        is_role: Whether its sets are sessions of a role. STS then gives at most an hour to the
            next role (role chaining).
        recheck: Seconds after which a set that has no end is asked for again, because the file
            or the variable it is from may have changed; None for never.
    """

    renews: bool = True
    is_role: bool = True
    recheck: float | None = None

    @abstractmethod
    async def fetch(self) -> Credentials:
        """Raises CredentialsError; ``retryable`` says whether asking again may help."""

    @abstractmethod
    def describe(self) -> str:
        """For people: what and where, no secret (``instance role etl-host (IMDSv2)``)."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(not_pickled(type(self).__name__))


class Lease(Protocol):
    """A worker's handle on live credentials."""

    @abstractmethod
    async def ready(self) -> Credentials:
        """The current set; waits only while there is none that is safe to use.

        Raises:
            CredentialsError: None could be had.
        """

    @abstractmethod
    async def at_least(self, seconds: float) -> Credentials:
        """A set with at least ``seconds`` to live, renewed first if need be.

        Raises:
            CredentialsError: Not even a new set lives that long.
        """

    @abstractmethod
    def remaining(self, credentials: Credentials) -> float:
        """Seconds that ``credentials`` still live by our own clock; ``inf`` for long-term keys."""

    @abstractmethod
    def age(self, credentials: Credentials) -> float:
        """Seconds since ``credentials`` came; ``inf`` for a set that is not the current one."""

    @abstractmethod
    def report_expired(self, credentials: Credentials) -> None:
        """A server said that this set has expired. One renewal, however many say so."""

    @abstractmethod
    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        """A server took a request signed with this set.

        Args:
            sent_at: When it was sent or a little before, on the loop's clock; None is just now.
        """

    @abstractmethod
    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        """A server answered AccessDenied. Whether to ask once more with the then current set.

        A session that worked and is denied everything has been revoked; one early renewal tells.
        A set that never worked, or that works for others, is not renewed: then it is the
        permission that lacks.

        Args:
            unknown_key: The server does not know the key at all: it was deleted or rotated, and
                its source is asked once whether it has another.
        """

    def __reduce__(self) -> NoReturn:
        raise TypeError(not_pickled(type(self).__name__))


class ChecksumAlgorithm(Protocol):
    """A checksum whose parts can be combined to that of the whole."""

    name: str
    header: str

    @abstractmethod
    def update(self, data: memoryview | bytes, crc: int = 0) -> int: ...
    @abstractmethod
    def combine(self, first: int, second: int, second_length: int) -> int: ...
    @abstractmethod
    def encode(self, crc: int) -> str: ...


class ByteSource(Protocol):
    """Where the bytes of an upload come from. Methods may block: planes call them in threads."""

    size: int
    name: str
    descriptor: int | None = None
    """Of an open file that holds the bytes at the same offsets, for the kernel to send; or None."""
    memory: memoryview | None = None
    """The bytes themselves, where they are in memory: then nothing is read in a thread."""
    mtime_ns: int | None = None
    """Of the file, where it is one: when it was last modified."""
    version: str = ""
    """What tells this source from another, or from itself after a change; empty where nothing does:
    an upload of it is never taken up again."""
    summed: tuple[str, int] = ("", 0)
    """Name of an algorithm and the sum of all the bytes by it, where somebody has made it."""

    @abstractmethod
    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``. Raises SourceChanged if the source is shorter."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """Raises SourceChanged if the source is no longer what it was when it was opened."""


class ByteSink(Protocol):
    """Where the bytes of a download go. ``write_at`` may block: planes call it in threads."""

    memory: memoryview | None = None
    """Memory that takes the bytes at their offsets: then it is filled in place."""
    descriptor: int | None = None
    """Of an open file that takes the bytes at the same offsets, readable and writable, for the
    kernel to fill; or None."""
    lands: int = -1
    """Bytes of the one object that it takes; -1 where that is not known, or not one object."""
    room: memoryview | None = None
    """Memory around ``memory`` that may be overwritten, too, so that an answer of ``lands`` bytes
    is received as it comes, its head included; ``landed`` is called then. Not looked at before the
    answer comes."""

    @abstractmethod
    def write_at(self, offset: int, view: memoryview) -> None: ...

    def landed(self, start: int) -> None:
        """All bytes are in ``room``, from ``start`` on: there ``memory`` is now."""
        return


class DataPlane(Protocol):
    """S3's data verbs: one request each, never repeated here. The plane chooses how bytes move.

    ``algorithm`` None sends and computes no checksum. ``options`` is what the object
    is stored with, and what S3 wants to hear with every request.
    """

    @abstractmethod
    async def put_object(
        self,
        url: S3Url,
        source: ByteSource,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt: ...

    @abstractmethod
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
        """Send a part. ``crc`` is what ``sum_part`` said of it; None has it summed here."""

    @abstractmethod
    async def sum_part(
        self, source: ByteSource, offset: int, length: int, algorithm: ChecksumAlgorithm
    ) -> int | None:
        """The CRC of a part that is sent later, so that its connection need not wait for it. None
        where it costs nothing to have it then."""

    @abstractmethod
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

        With ``etag`` the request carries If-Match; an overwrite raises ObjectChanged.
        """

    @abstractmethod
    def round_trip(self) -> float:
        """Seconds from a request to the first byte of its answer, the least so far; 0 while there
        was none, or where the plane does not know."""

    @abstractmethod
    async def open_ahead(self, url: S3Url, connections: int) -> None:
        """Have so many connections open for requests of ``url`` that will come; returns when they
        are. A plane that opens its own when it needs them does nothing; none fails."""

    @abstractmethod
    async def aclose(self) -> None: ...


class CopySource(Struct, frozen=True):
    """What a copy within S3 reads.

    Attributes:
        etag: Pins the version: a copy of another one is refused.
        options: What S3 wants to hear of the source: its version, the customer's key, owner.
    """

    url: S3Url
    etag: str | None = None
    options: ObjectOptions = PLAIN


class ControlPlane(Protocol):
    """S3's other verbs: one request each, never repeated here."""

    @abstractmethod
    async def head_object(
        self, url: S3Url, *, options: ObjectOptions = PLAIN, checksum: bool = True
    ) -> ObjectInfo:
        """``checksum``: whether to ask for the stored one; some stores refuse the question."""

    @abstractmethod
    async def head_part(
        self, url: S3Url, number: int, *, etag: str, options: ObjectOptions = PLAIN
    ) -> StoredPart | None:
        """Part ``number`` of a stored object, as it was written; None where the store does not
        tell parts. With ``etag`` an overwrite raises ObjectChanged."""

    @abstractmethod
    async def list_page(
        self, prefix: S3Url, token: str | None, *, options: ObjectOptions = PLAIN
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """One page of a listing, and the token of the next; None after the last."""

    @abstractmethod
    async def create_multipart_upload(
        self, url: S3Url, algorithm: ChecksumAlgorithm | None, *, options: ObjectOptions = PLAIN
    ) -> UploadId: ...
    @abstractmethod
    async def complete_multipart_upload(
        self,
        url: S3Url,
        upload_id: UploadId,
        parts: Sequence[PartReceipt],
        checksum: Checksum | None,
        size: int,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt: ...
    @abstractmethod
    async def abort_multipart_upload(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> None: ...
    @abstractmethod
    async def list_parts(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> Sequence[ListedPart] | None:
        """All parts that S3 has of an upload, by their numbers; None once it is gone."""

    @abstractmethod
    async def list_uploads(
        self,
        prefix: S3Url,
        after: tuple[str, str] | None = None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> tuple[Sequence[OpenUpload], tuple[str, str] | None]:
        """One page of the open uploads to keys with this prefix, by key and then by age; and the
        key and upload id that the next page comes after, None behind the last."""

    @abstractmethod
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
        """Copy a whole object, at most ``StoreLimits.max_copy_size`` bytes, within S3.

        Args:
            algorithm: Of the checksum that S3 is to keep of the copy.
            keep_metadata: Metadata, content type and their kin are the source's, and those of
                ``options`` are not looked at; else they are those of ``options`` alone.
            keep_tags: The same for tags.
        """

    @abstractmethod
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
        """Copy a range as part ``number``. Checksum and ``crc`` are None where S3 says none."""

    @abstractmethod
    async def get_tags(
        self, url: S3Url, *, options: ObjectOptions = PLAIN
    ) -> Mapping[str, str]: ...
    @abstractmethod
    async def delete_objects(
        self, urls: Sequence[S3Url], *, options: ObjectOptions = PLAIN
    ) -> None: ...
    @abstractmethod
    async def aclose(self) -> None: ...


class ObjectJournal(Protocol):
    """What is kept of one object under way, for whoever comes after a crash.

    Attributes:
        upload, parts: An upload that an earlier process began, and the parts that it knew of.
        intents: Uploads that earlier processes may have begun, without an id that is known.
        download, ranges: As ``upload`` and ``parts``.
    """

    upload: UploadRecord | None
    parts: Mapping[int, PartReceipt]
    intents: Sequence[UploadIntent]
    download: DownloadRecord | None
    ranges: Sequence[KeptRange]

    @abstractmethod
    async def upload_creating(self) -> None:
        """An upload is about to be begun, and may exist from now on without an id that we know.
        On disk when this returns. Told once more if the clock was corrected since."""

    @abstractmethod
    async def upload_begun(self, record: UploadRecord) -> None:
        """On disk when this returns: no part is sent for an upload that no journal names."""

    @abstractmethod
    async def part_done(self, receipt: PartReceipt) -> None:
        """S3 has a part. Survives the death of the process, not that of the machine: S3 tells of
        its parts itself."""

    @abstractmethod
    async def download_begun(self, record: DownloadRecord) -> None:
        """As ``upload_begun``; before the temporary file is made."""

    @abstractmethod
    async def range_done(self, kept: KeptRange) -> None:
        """As ``part_done``: what is on disk is looked at again before it is taken."""

    @abstractmethod
    async def of_others(self, uploads: Sequence[OpenUpload]) -> frozenset[UploadId]:
        """Which of these another run has, or waits to hear of, as far as its journal says."""

    @abstractmethod
    async def ended(self) -> None:
        """Nothing of the object is open any more: it is whole, or aborted, or removed. Kept with
        the next that is written, so that it goes together with what became of the object."""


class Executor(Protocol):
    """How SQL is run. Text results only: Redshift's binary numeric misleads PostgreSQL drivers."""

    @abstractmethod
    async def execute(self, sql: str, public_sql: str | None = None) -> None:
        """Run one statement. Raises DatabaseError, which names ``public_sql`` and never ``sql``."""

    @abstractmethod
    async def fetch_strings(self, sql: str) -> list[tuple[str | None, ...]]: ...
    @abstractmethod
    async def aclose(self) -> None: ...
