"""Journal: what is done and what is under way, in a file, for whoever comes after a crash.

What lives here: the life of a run's journal. What must not: SQL of objects (``objects.py``), when
rows are written (``commits.py``), where files are (``runs.py``).

Rules of this file
- What would be forgotten for good is on disk before it happens: an upload that is begun, a
  temporary file that is made. Whoever asks for that gets the error when it cannot be.
- Everything else is written as soon as the writer is free, and what cannot be written is counted:
  it is moved again, or asked of S3. A disk that is full does not end a run that gets on.
- Nothing of credentials, no external id, no key of a customer comes here.

Theory of operation
- There is no file until there is something to keep: a part, a thousand objects, or a second of
  work. What ends before that is begun again at no cost.
- One process works on a run, see ``lock.py``. A task says so every 5 s, and takes along what nobody
  else has written for a quarter of a second. There is no other.
- A run that ended well becomes a summary; of one that stopped or failed everything stays.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, final

import anyio
import anyio.abc

from engine.batch.journal.beginning import (
    Before,
    Beginning,
    Opened,
    begin,
    make_file,
    put_away,
)
from engine.batch.journal.commits import Commits
from engine.batch.journal.entries import is_still, key_of, seen
from engine.batch.journal.instants import as_text
from engine.batch.journal.lock import HEARTBEAT, heartbeat
from engine.batch.journal.objects import Found, KeptObject, Key
from engine.batch.journal.runs import identity_of, runs_folder
from engine.batch.journal.store import DONE, Row
from engine.batch.manifest import ManifestEntry
from engine.clock import LoopClock
from engine.errors import JournalError
from engine.protocols import Clock
from engine.redact import redact
from engine.shield import to_the_end
from engine.threads import ThreadDoor
from engine.types import OpenUpload, S3Url, TransferResult, UploadId

# How late what is done may be written: objects, and seconds.
LATE_OBJECTS, LATE = 500, 0.25
# What is not worth a file: less than so many objects, in less than so many seconds.
FEW_OBJECTS, SHORT = 1000, 1.0
# Rows that wait while others are written; then whoever brings more waits too.
MAX_WAITING = 4 * LATE_OBJECTS
_END_SESSION = "UPDATE sessions SET ended_at = ?, outcome = ? WHERE number = ?"
_END_RUN = (
    "UPDATE run SET ended_at = ?, outcome = ?, failed = ?, error = ?, "
    "(objects, bytes) = (SELECT count(*), CAST(total(size) AS INTEGER) FROM done)"
)
_PLANNED = "UPDATE run SET planned_objects = ?, planned_bytes = ?"


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """Of one journal, since it was opened.

    Attributes:
        objects: That are done, by this process.
        known: That were done by earlier ones, and are still.
        rows, commits: Written, and in how many transactions; ``durable`` of these were waited for
            until they were on the disk.
        waiting: Rows that are not written yet.
        lost: Rows that could not be written.
    """

    objects: int
    known: int
    rows: int
    commits: int
    durable: int
    waiting: int
    lost: int


@final
class Journal:
    """What a run has done, kept in a file, so that the same run can go on after any death.

    Made by ``open``, used as ``async with Journal.open(...) as journal``, for one event loop.

    Attributes:
        run_id: Of the run, which may have had many processes.
        session: Run id of this process.
        path: Where it is kept, or would be.
        before: What earlier processes left; None for a run that begins.
    """

    def __init__(self, asked: Beginning, door: ThreadDoor | None, clock: Clock | None) -> None:
        self._asked = asked
        self._own_door = ThreadDoor() if door is None else None
        self._door = door or self._own_door or ThreadDoor()
        self._own_clock = LoopClock() if clock is None else None
        self.clock: Clock = clock or self._own_clock or LoopClock()
        self._started_at = datetime.now(UTC)
        self.session = asked.session
        self._opened: Opened | None = None
        self._commits = Commits(self._door, self._write)
        self._under_way: dict[Key, KeptObject] = {}
        self._staying: dict[Key, Found] = {}  # of objects that are done
        self._tasks: anyio.abc.TaskGroup | None = None
        self._news = anyio.Event()
        self._began = self._oldest = 0.0
        self._batch = -1
        self._objects = self._known = self._number = self._failed = 0
        self._planned: tuple[int, int | None] | None = None
        self._finished = self._abandoned = False
        self._looks = False  # whether files are looked at before what is done is written

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        identity: str,
        session: str | None = None,
        command: Sequence[str] = (),
        left_out: Sequence[str] = (),
        cwd: str | None = None,
        folder: Path | None = None,
        door: ThreadDoor | None = None,
        clock: Clock | None = None,
    ) -> Journal:
        """The journal of a run, which begins or goes on.

        Args:
            path: The file; None keeps it in ``folder``, where the same identity finds it again.
            identity: What is moved where, as a text that is the same whenever the work is; a digest
                of it is kept.
            session: Run id of this process, and of the run if it begins; else a new one.
            command: Arguments that begin or resume it, without secrets (``without_secrets``).
            left_out: Flags of the command whose values must be given again.
            cwd: Where the command is to be run; else the current folder.
            folder: Else ``$XDG_STATE_HOME/s3engine/runs``.
            door: To threads; else one of its own.
            clock: Else the loop's.

        Raises, when the block is entered:
            RunInUse: Another process works on the run.
            JournalDamaged, JournalVersion: The journal cannot be gone on with; it stays as it is.
            JournalError: None can be kept there, or it is of another run.
        """
        asked = Beginning(
            path=Path(os.path.abspath(path)) if path is not None else None,
            folder=folder if folder is not None else runs_folder(os.environ),
            identity=identity_of(identity),
            session=session or secrets.token_hex(4),
            command=tuple(command),
            left_out=tuple(left_out),
            cwd=cwd or os.getcwd(),
        )
        return cls(asked, door, clock)

    async def __aenter__(self) -> Self:
        if self._own_clock is not None:
            self._own_clock.settle()
        self._started_at = now = self.clock.now()
        self._opened = await self._door.run(begin, self._asked, now, discard=Opened.drop)
        self._began, self._number = self.clock.monotonic(), self._opened.number
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._keep)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        try:
            # Without the error: the task group would put it into a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            if not self._abandoned:
                await to_the_end(self._close(exc))

    # ---- what there is --------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self._opened.run if self._opened is not None else self.session

    @property
    def path(self) -> Path | None:
        return self._opened.path if self._opened is not None else self._asked.path

    @property
    def before(self) -> Before | None:
        return self._opened.before if self._opened is not None else None

    @property
    def resumed(self) -> bool:
        """Whether earlier processes left something to go on with."""
        return self.before is not None

    @property
    def follows(self) -> bool:
        """Whether an earlier process of the run died, and may have left temporary files: also one
        that had no journal yet."""
        return self._opened is not None and self._opened.follows

    @property
    def kept(self) -> bool:
        """Whether there is a file, from which another process can go on."""
        return self._opened is not None and self._opened.store is not None

    @property
    def trouble(self) -> JournalError | None:
        """Why something could not be written, of late."""
        return self._commits.trouble

    def statistics(self) -> JournalStatistics:
        """Counts, just now."""
        commits = self._commits
        return JournalStatistics(
            objects=self._objects,
            known=self._known,
            rows=commits.written,
            commits=commits.trips,
            durable=commits.durable,
            waiting=commits.waiting,
            lost=commits.lost,
        )

    # ---- what a run asks and tells -----------------------------------------------------------

    async def known(self, entries: Sequence[ManifestEntry]) -> list[tuple[int, str] | None]:
        """Size in bytes and ETag of each entry that is done and needs no look at S3: its file is
        what was sent or written, and the listing names the same object. None for the others.

        Raises:
            JournalDamaged: It can no longer be read.
        """
        if not self.resumed:
            return [None] * len(entries)
        found = await self._door.run(self._look_up, entries)
        self._known += sum(each is not None for each in found)
        return found

    async def object(self, entry: ManifestEntry) -> KeptObject:
        """What is kept of one object under way; for those that are moved in parts."""
        key = key_of(entry)
        kept = self._under_way.get(key)
        if kept is None:
            found = self._ready().found.pop(key, None) or self._staying.pop(key, None)
            kept = KeptObject(self, key, found)
            self._under_way[key] = kept
        return kept

    async def of_others(self, uploads: Sequence[OpenUpload]) -> frozenset[UploadId]:
        """See ``Desk``; few runs ever ask."""
        from engine.batch.journal.clean import others_of

        if self.path is None or not uploads:
            return frozenset()
        others = await self._door.run(others_of, self.path)
        return frozenset(one.upload_id for one in uploads if others.may_be_theirs(one, self.clock))

    def may_come(self) -> list[tuple[S3Url, KeptObject]]:
        """Where an upload may have been begun, by the request of a process that died, since it was
        looked for; or that was not looked for at all. To be asked when all else is done, and each
        to be told that it ``ended``."""
        found = self._ready().found
        for key in [key for key, left in found.items() if left.only_intents]:
            self._staying[key] = found.pop(key)
        staying, self._staying = self._staying, {}
        return [(S3Url.parse(key[0]), KeptObject(self, key, left)) for key, left in staying.items()]

    def has_left(self, entry: ManifestEntry) -> bool:
        """Whether earlier processes left something of an object half-way."""
        found = self._ready().found
        return bool(found) and key_of(entry) in found

    async def done(self, entry: ManifestEntry, result: TransferResult, version: str = "") -> None:
        """An object is whole at its destination.

        Args:
            version: Of the local file, by ``file_version``: what was sent, or what was written. A
                file that was written is looked at where this is empty; an upload without is not
                kept, since nothing could tell whether its source is still the same.
        """
        self._objects += 1
        key = key_of(entry)
        if entry.operation == "copy":
            version = entry.etag or ""
        row: Row = (DONE, (*key, result.size, result.etag, version))
        self._looks |= not version
        rows = [row] if version or entry.operation != "upload" else []
        under_way = self._under_way.pop(key, None) if self._under_way else None
        if under_way is not None and under_way.is_kept:
            await under_way.ended()
            if (stays := under_way.stays()) is not None:
                self._staying[key] = stays
            await self.now(rows)  # in one transaction with it
            return
        self.later(rows)
        if self._is_due():
            await self.now([])

    def planned(self, objects: int, size: int | None) -> None:
        """All has been found: so many objects, and bytes where they are known."""
        self._planned = (objects, size)
        self.later([(_PLANNED, (objects, size))])

    def finish(self, failed: int = 0) -> None:
        """The run has come to its end, with so many objects that could not be moved. Without it
        the run counts as stopped."""
        self._finished = True
        self._failed += failed

    def abandon(self) -> None:
        """Let everything go as a process that dies does: for tests of that. Blocks."""
        self._abandoned = True
        opened = self._ready()
        if opened.store is not None:
            opened.store.drop()
        opened.lock.drop()

    # ---- for the objects under way ----------------------------------------------------------

    def number(self) -> int:
        self._number += 1
        return self._number

    def later(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._commits.add(row)
        if self._batch != self._commits.batch:  # the first that waits
            self._batch, self._oldest = self._commits.batch, self.clock.monotonic()
            self._news.set()

    async def now(self, rows: Sequence[Row]) -> None:
        try:
            await self._commits.commit(*rows)
        except JournalError:
            pass  # counted, see ``trouble``

    async def on_disk(self, rows: Sequence[Row]) -> None:
        await self._commits.commit(*rows, durable=True)

    # ---- inside ---------------------------------------------------------------------------

    def _ready(self) -> Opened:
        assert self._opened is not None, "a journal is used inside of its block"
        return self._opened

    def _is_due(self) -> bool:
        """Whether what waits is to be written by whoever comes along."""
        commits = self._commits
        if commits.leading:
            return commits.waiting >= MAX_WAITING
        if not self.kept:
            old = self.clock.monotonic() - self._began >= SHORT
            return self._objects > 0 and (old or commits.waiting >= FEW_OBJECTS)
        late = self.clock.monotonic() - self._oldest >= LATE
        return late or commits.waiting >= LATE_OBJECTS

    async def _keep(self) -> None:
        """Say that we are there, and write what nobody else has."""
        beat_at = self.clock.monotonic() + HEARTBEAT
        while True:
            with anyio.move_on_after(max(0.0, beat_at - self.clock.monotonic())):
                await self._news.wait()
                self._news = anyio.Event()
                await anyio.sleep(LATE if self.kept else max(LATE, self._short_of()))
            if self._commits.waiting and self._is_due():
                await self.now([])
            if self.clock.monotonic() >= beat_at:
                await self._beat()
                beat_at = self.clock.monotonic() + HEARTBEAT

    def _short_of(self) -> float:
        return self._began + SHORT - self.clock.monotonic()

    async def _beat(self) -> None:
        opened = self._ready()
        objects = self._objects + self._known
        planned = self._planned[0] if self._planned is not None else None
        beat = heartbeat(opened.run, self.clock.now(), objects, planned)
        await self._door.run(opened.lock.beat, beat)

    def _write(self, rows: Sequence[Row], durable: bool) -> None:
        """In a thread; only one at a time."""
        opened = self._ready()
        if opened.store is None:
            opened.store = make_file(self._asked, opened, self._started_at)
        opened.store.write([seen(row) for row in rows] if self._looks else rows, durable)

    def _look_up(self, entries: Sequence[ManifestEntry]) -> list[tuple[int, str] | None]:
        """In a thread."""
        store = self._ready().store
        assert store is not None, "what is resumed has a file"
        found: list[tuple[int, str] | None] = [None] * len(entries)
        for row in store.known([key_of(entry) for entry in entries]):
            if 0 <= row.number < len(entries) and is_still(entries[row.number], row):
                found[row.number] = (row.size, row.etag)
        return found

    async def _close(self, error: BaseException | None) -> None:
        opened, self._tasks = self._ready(), None
        try:
            if opened.store is None and not self._is_worth_a_file():
                return
            await self._say_goodbye(opened, error)
        finally:
            done = self._finished and not self._failed and error is None
            await self._door.run(partial(opened.shut, done=done))
            if self._own_door is not None:
                self._own_door.close()

    def _is_worth_a_file(self) -> bool:
        """Of a run that has none when it ends: it was short, or it ended well."""
        something = self._objects > 0 and not (self._finished and not self._failed)
        return something and self.clock.monotonic() - self._began >= SHORT

    async def _say_goodbye(self, opened: Opened, error: BaseException | None) -> None:
        now = self.clock.now()
        outcome = "stopped" if not self._finished or error else "failed" if self._failed else "done"
        text = redact(str(error)) if isinstance(error, Exception) else ""
        at = as_text(now)
        rows: list[Row] = [
            (_END_RUN, (at, outcome, self._failed, text)),
            (_END_SESSION, (at, outcome, opened.session_number)),
        ]
        try:
            await self._commits.commit(*rows, durable=True)
            if outcome == "done":
                await self._door.run(self._put_away, opened, now)
        except JournalError:
            pass  # counted; the run itself ended as it ended

    def _put_away(self, opened: Opened, now: datetime) -> None:
        """In a thread: a summary stays."""
        assert opened.store is not None
        opened.store.shrink()
        opened.store.close()
        opened.store = None
        if self._asked.path is None:
            put_away(opened.path, now)

    def __repr__(self) -> str:
        state = f"resumed, {len(self._under_way)} under way" if self.resumed else "new"
        kept = "kept" if self.kept else "nothing to keep yet"
        return f"<Journal {self.run_id} {state} done={self._objects} known={self._known} {kept}>"
