"""An upload in parts is begun: asked for, named in a journal, and what came of lost answers undone.

Rules of this file
- It is not cut short: an upload whose id came too late would be nobody's.
- A journal hears that there may be an upload before S3 is asked for it, and its id before any part
  is sent.
- An upload whose answer was lost is not aborted by a guess: a listing tells uploads of one key
  apart by who began them and when, and another process of the same user or role may be at work on
  the same key. What may be left is told.

What must not live here: which uploads are certainly ours (``nameless.py``), and the end of an
upload (``multipart.py``).
"""

from __future__ import annotations

import contextlib
from typing import final

import anyio
from msgspec import structs

from engine.errors import ConnectionFailed, EngineError, TransferError
from engine.events import UploadLeft
from engine.protocols import ChecksumAlgorithm, ObjectJournal
from engine.records import UploadRecord
from engine.shield import to_the_end
from engine.transfer.context import TransferContext
from engine.transfer.look import may_have_worked
from engine.transfer.multipart import ABORT_SECONDS, STOP_SECONDS, leave_upload
from engine.transfer.nameless import Asking, abort_twins
from engine.types import S3Url, UploadId


async def create_upload(
    url: S3Url,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    record: UploadRecord | None = None,
) -> UploadId:
    """Begin an upload in parts to ``url``.

    Args:
        record: What the context's journal is to keep of it, but for the id.

    Raises:
        TransferError, CredentialsError: None was begun; or one may be there whose id was lost, and
            ``UploadLeft`` has told of it.
    """
    return await _NewUpload(url, algorithm, context, record).create()


@final
class _NewUpload:
    """One upload that is being begun, over all tries. The steps are in order of their time."""

    def __init__(
        self,
        url: S3Url,
        algorithm: ChecksumAlgorithm | None,
        context: TransferContext,
        record: UploadRecord | None,
    ) -> None:
        self._url = url
        self._algorithm = algorithm
        self._context = context
        self._record = record
        self._journal: ObjectJournal | None = context.journal if record is not None else None
        self._asking = Asking(self._journal, context.clock)
        self._upload_id: UploadId | None = None
        self._named = False  # in the journal
        self._lost = 0  # tries that may have begun an upload whose id nobody has

    async def create(self) -> UploadId:
        context = self._context
        if context.lease is not None:
            await context.lease.ready()  # may take a minute, and there is nothing yet to be lost
        await self._asking.tell()
        try:
            with context.own_uploads.creating(self._url):
                # A journal knows that there may be an upload: then nobody waits long for its id.
                grace = None if self._journal is None else STOP_SECONDS
                await to_the_end(self._begin(), grace)
        except BaseException as error:
            await self._leave(error)
            raise
        finally:
            self._tell_lost()
        if self._upload_id is None:
            raise ConnectionFailed(
                f"create multipart upload of {self._url} took over {ABORT_SECONDS:.0f} s"
            )
        return self._upload_id

    async def _begin(self) -> None:
        """What is not cut short."""
        with anyio.move_on_after(ABORT_SECONDS):
            run = self._context.retrier.run
            upload_id, _ = await run("create multipart upload", self._url, self._ask)
            self._upload_id = upload_id
            self._context.own_uploads.begun(upload_id)
        if self._upload_id is None or self._journal is None or self._record is None:
            return
        begun = structs.replace(self._record, upload_id=self._upload_id, lost=self._lost)
        await self._journal.upload_begun(begun)
        self._named = True
        if self._lost:
            await self._abort_twins(self._upload_id)
            if not self._lost:  # else a later process looks again: one may still be on its way
                await self._journal.upload_begun(structs.replace(begun, lost=0))

    async def _ask(self) -> UploadId:
        """One try."""
        context = self._context
        await self._asking.tell()
        self._lost += 1  # until it is known; nobody hears of a try that is out of time
        try:
            async with context.limiter.turn(self._url):
                upload_id = await context.control.create_multipart_upload(
                    self._url, self._algorithm, options=context.options
                )
        except EngineError as error:
            if not may_have_worked(error):
                self._lost -= 1
            raise
        self._lost -= 1
        return upload_id

    async def _abort_twins(self, upload_id: UploadId) -> None:
        """Abort what came of earlier tries, as far as it is certainly that."""
        with anyio.move_on_after(ABORT_SECONDS), contextlib.suppress(TransferError):
            self._lost -= await abort_twins(self._url, upload_id, self._context)

    async def _leave(self, error: BaseException) -> None:
        """It ended by ``error``: no upload stays that nobody knows of, and the journal does not
        look for one where there is none."""
        if self._upload_id is not None:
            await leave_upload(self._url, self._upload_id, error, self._context, named=self._named)
        elif self._journal is not None and isinstance(error, EngineError) and not self._lost:
            await self._journal.ended()

    def _tell_lost(self) -> None:
        for _ in range(self._lost):
            self._context.emit(
                UploadLeft(self._url, "", "the answer that had its upload id was lost")
            )

    def __repr__(self) -> str:
        return f"<_NewUpload {self._url} id={self._upload_id} lost={self._lost}>"
