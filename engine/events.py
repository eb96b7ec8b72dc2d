"""What happened, as frozen values. One stream of them feeds progress, logs, metrics and reports.

What must not live here: a decision. An event is told after the fact and cannot change it.

Progress has one meaning in both directions. Bytes count when the far end has them: S3 has
acknowledged the request, or the whole range is in the file. Each byte of an object counts once,
however often it was sent or fetched: the sizes of an object's ``BytesMoved`` add up to that of its
``ObjectDone``, behind which none comes. Of an object that failed some may have counted. How much
there is in all is told by ``WalkDone``, when the manifest has been read to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from engine.types import ByteRange, S3Url


class BytesMoved(Struct, frozen=True):
    """``size`` more bytes of one object are at the far end, for the first time."""

    url: S3Url
    size: int


class PartDone(Struct, frozen=True):
    """One part or range is acknowledged; ``range`` is None for an object moved whole."""

    url: S3Url
    range: ByteRange | None
    attempts: int


class ObjectDone(Struct, frozen=True):
    """One object is whole at its destination."""

    url: S3Url
    path: str
    operation: str
    size: int
    parts: int
    seconds: float


class ObjectFailed(Struct, frozen=True):
    """One object could not be moved; nothing of it is visible. ``code`` is the error's own."""

    url: S3Url
    path: str
    operation: str
    error: str
    code: str = ""


class WalkDone(Struct, frozen=True):
    """A manifest is read to its end: so many objects, some moved by now, are to be moved in all.
    ``size`` is that of all of them; None where that of some is not known before they are moved."""

    objects: int
    size: int | None


class UploadLeft(Struct, frozen=True):
    """An upload that failed could not be aborted: its parts stay at S3, and are billed.

    ``upload_id`` is empty where the answer that had it was lost: then it may have been begun, and
    has no parts. A lifecycle rule that aborts incomplete uploads removes it.
    """

    url: S3Url
    upload_id: str
    reason: str


class UploadKept(Struct, frozen=True):
    """An upload stopped half-way: its parts stay at S3, and a journal has its id for who goes on
    with it."""

    url: S3Url
    upload_id: str
    reason: str


class DownloadKept(Struct, frozen=True):
    """So for a download: what has arrived stays in the file ``temporary``."""

    url: S3Url
    temporary: str
    reason: str


class TakenUp(Struct, frozen=True):
    """An earlier process left an object half-way: ``parts`` of its ``of`` parts or ranges,
    ``size`` bytes, are there, have been compared, and count as moved."""

    url: S3Url
    parts: int
    of: int
    size: int


class StartedOver(Struct, frozen=True):
    """An earlier process left an object half-way, and nothing of that can be used."""

    url: S3Url
    reason: str


class ObjectKnown(Struct, frozen=True):
    """An object was moved by an earlier process of the run: no request is made for it. It counts
    as done, and its bytes as moved."""

    url: S3Url
    path: str
    operation: str
    size: int


class FileSkipped(Struct, frozen=True):
    """A file or folder below a folder that is uploaded was left out; that is no failure."""

    path: str
    reason: str


class Retried(Struct, frozen=True):
    """A request is made again after ``delay`` seconds."""

    operation: str
    url: S3Url | None
    attempt: int
    delay: float
    error: str


class BucketElsewhere(Struct, frozen=True):
    """A bucket is in another region than was asked for; requests go there. Told once a bucket.

    ``asked_from`` is who asked for ``asked``; empty where nobody did.
    """

    bucket: str
    region: str
    asked: str
    asked_from: str


class ClockCorrected(Struct, frozen=True):
    """A server called this machine's clock wrong; requests go by the server's. ``seconds`` were
    added: more than 0 where this machine's is behind. Told once an engine."""

    seconds: float


class LeaseRenewed(Struct, frozen=True):
    """The broker holds a new set of credentials. ``seconds`` is how long getting it took."""

    source: str
    generation: int
    expires_at: datetime | None
    seconds: float


class LeaseRenewalFailed(Struct, frozen=True):
    """A renewal failed; the old set is served as long as it lives.

    ``retry_in`` is in seconds; None where nobody is served and trying again would not help.
    """

    source: str
    generation: int
    error: str
    retry_in: float | None


class LeaseServedStale(Struct, frozen=True):
    """A renewal is due and fails; the old set, which lives ``remaining`` seconds, is served on.
    Told once a set."""

    source: str
    generation: int
    remaining: float


class LeaseExpired(Struct, frozen=True):
    """A set came to its end before there was a newer one. ``reported``: a server said so."""

    source: str
    generation: int
    reported: bool


class LoadStep(Struct, frozen=True):
    """A load has come to ``step``: counting, staging, copying, reconciling, sweeping."""

    load_id: str
    step: str
    detail: str = ""


Event = (
    BytesMoved
    | PartDone
    | ObjectDone
    | ObjectFailed
    | WalkDone
    | Retried
    | UploadLeft
    | UploadKept
    | DownloadKept
    | TakenUp
    | StartedOver
    | ObjectKnown
    | FileSkipped
    | BucketElsewhere
    | ClockCorrected
    | LeaseRenewed
    | LeaseRenewalFailed
    | LeaseServedStale
    | LeaseExpired
    | LoadStep
)

Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener of those who do not listen."""
