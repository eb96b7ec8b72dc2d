"""What is kept of an object that is under way, so that another process can go on with it. PURE.

What lives here: values. What must not: where they are kept (``batch.journal``), and what is made of
them (``transfer``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.types import Checksum, UploadId

if TYPE_CHECKING:
    from os import stat_result


def file_version(status: stat_result) -> str:
    """What tells one version of a file from another without reading it (``ByteSource.version``)."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


class UploadIntent(Struct, frozen=True, kw_only=True):
    """An upload in parts that may have been begun, by a process that died before it knew the id.

    Attributes:
        at: Just before it was asked for, by a server's clock.
        own_clock: By this machine's, because no server had been heard yet.
        session: Run id of that process: a role's session is named ``s3engine-<run id>``, and
            ListMultipartUploads tells it as the initiator.
    """

    at: datetime
    session: str
    own_clock: bool = False


class UploadRecord(Struct, frozen=True, kw_only=True):
    """An upload in parts that was begun.

    Attributes:
        size: Of the source, in bytes.
        version: What the source was when it was opened (``ByteSource.version``); another one is
            another source, of which no part may be taken.
        part_size: That of the plan; parts of another plan would not fit together.
        algorithm: Of the parts' checksums; empty without them.
        lost: Tries of the request that began it whose answers were lost: each may have begun
            another one, and the record stands for an intent too.
    """

    upload_id: UploadId
    size: int
    version: str
    part_size: int
    algorithm: str = ""
    lost: int = 0


class DownloadRecord(Struct, frozen=True, kw_only=True):
    """A download that was begun.

    Attributes:
        temporary: Name of the file beside the target that takes the bytes.
        etag, size, version_id, checksum: Of the object; another ETag is another object, of which
            no range may be taken.
        part_size: That of the plan.
        algorithm: Of the ranges' CRCs; empty without them: then no range can be looked at again,
            and all are fetched again.
    """

    temporary: str
    etag: str
    size: int
    part_size: int
    version_id: str | None = None
    checksum: Checksum | None = None
    algorithm: str = ""


class KeptRange(Struct, frozen=True, gc=False):
    """Bytes ``start`` up to ``stop`` that are in the temporary file, and their CRC."""

    start: int
    stop: int
    crc: int
