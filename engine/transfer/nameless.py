"""Uploads that were begun, and whose id nobody has: the answer was lost, or who waited for it died.

Rules of this file
- Aborted is what is certainly ours: to the same key, begun by the same session of a role; or, where
  the store names no session, just after a journal says that it was asked for.
- One that has a part is not ours: a part cannot be sent without the id.
- A request may outlive its process: what a look may have come too early for is looked for again
  when the run is at its end, and by whoever goes on with a run that failed (``is_over``).
- One that another task of this engine has, or may be about to hear of, is left to it; so is what
  the journal of another run names, or may be about to name.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import final

from engine.errors import AccessDenied, CredentialsError, NotFound, TransferError
from engine.events import UploadLeft
from engine.protocols import Clock, ObjectJournal
from engine.records import UploadIntent
from engine.transfer.context import TransferContext
from engine.transfer.listing import list_uploads
from engine.types import OpenUpload, S3Url, UploadId

# Seconds around an intent in which the store may have begun its upload: its clock tells whole
# seconds and ours is as good as the last answer's Date; the request has so long to be repeated.
_BEFORE, _AFTER = 2.0, 32.0
# Seconds by which the store's clock may turn out to be another than was thought; then a journal is
# told once more that an upload is asked for.
_CORRECTED = 1.0
# Of the session of a role, which the store tells as who began an upload.
_SESSION = "/s3engine-"


@final
class Asking:
    """Tells a journal that an upload is asked for, before each try.

    Where a store names no session, an upload is found by its time alone. A machine that slept, or
    whose clock was set, learns by a refused try what time it is: the one that follows is an hour
    away from the first.
    """

    def __init__(self, journal: ObjectJournal | None, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._told: float | None = None

    async def tell(self) -> None:
        """On disk when this returns. Raises JournalError."""
        if self._journal is None:
            return
        at = self._clock.of_servers() or self._clock.now()
        zero = at.timestamp() - self._clock.monotonic()
        if self._told is None or abs(zero - self._told) > _CORRECTED:
            await self._journal.upload_creating()
            self._told = zero


async def abort_nameless(
    url: S3Url,
    intent: UploadIntent,
    context: TransferContext,
    known: UploadId | None = None,
) -> None:
    """Abort what came of a CreateMultipartUpload of a process that died, if anything did. Where the
    role may not look, or not abort, it is told: ``UploadLeft`` without an id.

    Args:
        known: What is gone on with.

    Raises:
        TransferError, CredentialsError: S3 cannot be asked.
    """

    def choose(found: list[OpenUpload]) -> list[OpenUpload]:
        return [
            one
            for one in found
            if may_be_of(one, url, intent, context.clock) and one.upload_id != known
        ]

    try:
        await _abort(url, choose, context)
    except AccessDenied as error:
        reason = f"it may have been begun by a process that died; {error.headline}"
        context.emit(UploadLeft(url, "", reason))


async def drop_nameless(url: S3Url, context: TransferContext) -> None:
    """Abort what came of all intents that the journal of the context has of an object. Where S3
    cannot be asked, that is told, and the journal keeps them."""
    journal = context.journal
    assert journal is not None, "an intent is one of a journal"
    try:
        for intent in journal.intents:
            await abort_nameless(url, intent, context)
    except (TransferError, CredentialsError) as error:
        reason = f"it may have been begun by a process that died; {error.headline}"
        context.emit(UploadLeft(url, "", reason))
    else:
        await journal.ended()


async def abort_twins(url: S3Url, upload_id: UploadId, context: TransferContext) -> int:
    """Abort what came of earlier tries of the CreateMultipartUpload that made ``upload_id``; how
    many that were. None where the store does not tell our session, or another task asks for an
    upload to the same key. To be called while the upload counts as being created.

    Raises:
        TransferError, CredentialsError: S3 cannot be asked.
    """

    def twins(found: list[OpenUpload]) -> list[OpenUpload]:
        if context.own_uploads.creates(url) > 1:
            return []
        ours = {one.initiator for one in found if one.upload_id == upload_id}
        return [
            one
            for one in found
            if one.url == url
            and one.upload_id != upload_id
            and one.initiator in ours
            and _SESSION in one.initiator
        ]

    try:
        return await _abort(url, twins, context)
    except AccessDenied:
        return 0  # who asked tells


async def _abort(
    url: S3Url,
    choose: Callable[[list[OpenUpload]], list[OpenUpload]],
    context: TransferContext,
) -> int:
    journal = context.journal
    control, options, run = context.control, context.options, context.retrier.run
    aborted = 0
    try:
        async with aclosing(list_uploads(url, context)) as listed:
            found = [upload async for upload in listed]
        chosen = choose(found)
        theirs = await journal.of_others(chosen) if journal is not None else frozenset[UploadId]()
        for upload in chosen:
            if context.own_uploads.has(upload.upload_id) or upload.upload_id in theirs:
                continue
            named = url, upload.upload_id
            parts, _ = await run(
                "list parts", url, partial(control.list_parts, *named, options=options)
            )
            if parts is not None and not parts:  # None: it is gone
                abort = partial(control.abort_multipart_upload, *named, options=options)
                await run("abort multipart upload", url, abort)
                aborted += 1
    except NotFound:
        pass  # the bucket is gone, and all in it
    return aborted


def is_over(intent: UploadIntent, clock: Clock, ago: float) -> bool:
    """Whether a look that was made ``ago`` seconds before now found all that can come of the
    intent. The request of a process that died may be on its way for a while: what its machine had
    taken from it is sent, and sent again."""
    at = clock.as_servers(intent.at) if intent.own_clock else intent.at
    now = clock.of_servers() or clock.now()
    return (now - at).total_seconds() - ago > _AFTER


def may_be_of(upload: OpenUpload, url: S3Url, intent: UploadIntent, clock: Clock) -> bool:
    """Whether ``upload`` is what came of the intent, if it has no parts: by the session of a role
    that began it, else by its time. To be asked when the store has been heard: an intent by this
    machine's clock is moved as far as that is off now."""
    if upload.url != url:
        return False
    if _SESSION in upload.initiator:
        return upload.initiator.endswith(_SESSION + intent.session)
    if upload.initiated is None:
        return False
    at = clock.as_servers(intent.at) if intent.own_clock else intent.at
    after = (upload.initiated - at).total_seconds()
    return -_BEFORE <= after <= _AFTER
