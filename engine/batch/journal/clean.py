"""clean_run(): what a stopped run left open at S3 and on the disk is taken away, then its journal.

Rules of this file
- An upload is aborted if the journal names it; or if it was asked for and its id never came, and it
  is certainly ours: of the same key, by our session or begun in the same moments, without a part,
  and neither named by another journal nor asked for by one in those moments.
- A file is removed if its name is one of this run's, and it is in a folder that the run wrote to.
- The journal goes when nothing is left. A run that somebody works on is left alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from engine.batch.journal.instants import from_text, is_own
from engine.batch.journal.lock import RunLock
from engine.batch.journal.runs import DONE, JOURNAL, RunInfo, journals, lock_of, read_run
from engine.batch.journal.store import Store, damaged
from engine.errors import EngineError, JournalError, NotFound, TransferError
from engine.protocols import Clock
from engine.records import UploadIntent, UploadRecord
from engine.threads import ThreadDoor
from engine.transfer.context import TransferContext
from engine.transfer.listing import list_uploads
from engine.transfer.multipart import abort_until_empty
from engine.transfer.nameless import may_be_of
from engine.transfer.temporaries import PREFIX, SUFFIX
from engine.types import OpenUpload, S3Url, UploadId


@dataclass(slots=True)
class Cleaned:
    """What became of the rests of a run.

    Attributes:
        aborted: Uploads, by URL and id.
        removed: Files.
        left: What could not be taken away, and why; the journal is still there then.
    """

    aborted: list[tuple[S3Url, UploadId]] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Rests:
    """What a journal says is open; the run is ours as long as ``lock`` is."""

    path: Path
    lock: RunLock
    run_id: str
    uploads: list[tuple[S3Url, UploadId]]
    intents: list[tuple[S3Url, UploadIntent]]
    folders: list[Path]

    def release(self) -> None:
        self.lock.release()


@dataclass(frozen=True, slots=True)
class Others:
    """What the other journals of this user and host have at S3, with and without an id."""

    ids: frozenset[str]
    intents: tuple[tuple[S3Url, UploadIntent], ...]

    def may_be_theirs(self, upload: OpenUpload, clock: Clock) -> bool:
        """Whether another run has, or waits to hear of, this upload."""
        if upload.upload_id in self.ids:
            return True
        return any(may_be_of(upload, url, intent, clock) for url, intent in self.intents)


async def clean_run(
    info: RunInfo,
    context: TransferContext | None,
    door: ThreadDoor,
    now: datetime,
    *,
    dry_run: bool = False,
) -> Cleaned:
    """Take away what the run left.

    Args:
        context: To reach S3 with; None where the journal has no upload.
        dry_run: Only say what would be.

    Raises:
        RunInUse: Another process works on it.
        JournalDamaged, JournalVersion: Its journal cannot be read, and stays as it is.
        CredentialsError: S3 cannot be asked.
    """
    cleaned = Cleaned()
    rests = await door.run(_read, info.path, now, discard=_Rests.release)
    try:
        if context is not None:
            others = await door.run(others_of, info.path)
            await _abort_all(rests, others, context, cleaned, dry_run=dry_run)
        elif rests.uploads or rests.intents:
            raise JournalError(f"run {rests.run_id} has uploads at S3 by now", fix="Clean again")
        await door.run(_remove_files, rests, cleaned, dry_run)
        if not dry_run and not cleaned.left:
            await door.run(_remove_journal, rests.path)
    finally:
        await door.run(rests.release)
    return cleaned


async def _abort_all(
    rests: _Rests,
    others: Others,
    context: TransferContext,
    cleaned: Cleaned,
    *,
    dry_run: bool,
) -> None:
    found = list(rests.uploads)
    for url, intent in rests.intents:
        try:
            found += [(url, each) for each in await _nameless(url, intent, others, context)]
        except TransferError as error:
            cleaned.left.append((f"what may be open at {url}", str(error)))
    for url, upload_id in dict.fromkeys(found):
        try:
            if not dry_run:
                await abort_until_empty(url, upload_id, context)
        except TransferError as error:
            cleaned.left.append((f"upload {upload_id} of {url}", str(error)))
        else:
            cleaned.aborted.append((url, upload_id))


async def _nameless(
    url: S3Url, intent: UploadIntent, others: Others, context: TransferContext
) -> list[UploadId]:
    """Uploads that came of an intent. One that has a part is not: a part needs the id."""
    ours: list[UploadId] = []
    try:
        async with aclosing(list_uploads(url, context)) as listed:
            every = [upload async for upload in listed]
        # Behind the listing, whose Date says what time it is there.
        found = [upload for upload in every if may_be_of(upload, url, intent, context.clock)]
    except NotFound:
        return []  # the bucket is gone, and all in it
    for upload in found:
        if others.may_be_theirs(upload, context.clock):
            continue
        ask = partial(context.control.list_parts, url, upload.upload_id, options=context.options)
        parts, _ = await context.ask("list parts", url, ask)
        if parts == []:
            ours.append(upload.upload_id)
    return ours


def others_of(path: Path) -> Others:
    """Of the journals beside ``path``. In a thread."""
    ids: set[str] = set()
    intents: list[tuple[S3Url, UploadIntent]] = []
    for other in journals(path.parent):
        if other == path:
            continue
        with contextlib.suppress(JournalError):
            store = Store.look(other)
            try:
                theirs, asked = _read_uploads(store)
            finally:
                store.close()
            ids |= {upload_id for _, upload_id in theirs}
            intents += asked
    return Others(frozenset(ids), tuple(intents))


def _read(path: Path, now: datetime) -> _Rests:
    lock = RunLock.take(lock_of(path), path.name.partition("-")[0], now)
    try:
        store = Store.open(path)
        try:
            uploads, intents = _read_uploads(store)
            return _Rests(
                path=path,
                lock=lock,
                run_id=read_run(store).id,
                uploads=uploads,
                intents=intents,
                folders=_read_folders(store),
            )
        finally:
            store.close()
    except BaseException:
        lock.release()
        raise


def _read_uploads(
    store: Store,
) -> tuple[list[tuple[S3Url, UploadId]], list[tuple[S3Url, UploadIntent]]]:
    """Of all processes of the run: those with an id, and those that may have been begun."""
    uploads, intents = [], []
    rows = store.read(
        "SELECT url, session, creating_at, record FROM uploads JOIN objects "
        "ON objects.id = uploads.object ORDER BY uploads.id"
    )
    for text, session, at, record in rows:
        try:
            url = S3Url.parse(text)
            if record is not None:
                begun = msgspec.json.decode(record, type=UploadRecord)
                uploads.append((url, begun.upload_id))
                if not begun.lost:
                    continue
        except (EngineError, msgspec.MsgspecError, TypeError, AttributeError) as error:
            raise damaged(store.path, str(error)) from None
        asked = from_text(at, store.path)
        intent = UploadIntent(at=asked, session=str(session), own_clock=is_own(at))
        intents.append((url, intent))
    return uploads, intents


def _read_folders(store: Store) -> list[Path]:
    """Where the run wrote files."""
    rows = store.read(
        "SELECT name FROM objects WHERE operation = 'download' "
        "UNION SELECT name FROM done WHERE operation = 'download'"
    )
    folders = {os.path.dirname(name) for (name,) in rows if isinstance(name, bytes)}
    return [Path(os.fsdecode(folder)) for folder in sorted(folders)]


def _remove_files(rests: _Rests, cleaned: Cleaned, dry_run: bool) -> None:
    ours = f"{PREFIX}{rests.run_id}-"
    for folder in rests.folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # gone, and all in it
        for name in names:
            path = folder / name
            if not name.startswith(ours) or not name.endswith(SUFFIX):
                continue
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                if not dry_run:
                    path.unlink()
            except OSError as error:
                cleaned.left.append((str(path), error.strerror or str(error)))
            else:
                cleaned.removed.append(path)


def _remove_journal(path: Path) -> None:
    assert path.suffix in (JOURNAL, DONE), path
    try:
        path.unlink()
    except OSError as error:
        raise JournalError(f"cannot remove {path}: {error.strerror}") from None
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{path}{suffix}").unlink()
