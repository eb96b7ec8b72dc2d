"""How a journal begins: its lock, its file where there is one, what earlier processes left in it.

Everything here blocks: it is for threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.batch.journal.instants import as_text
from engine.batch.journal.lock import Heartbeat, RunLock, heartbeat
from engine.batch.journal.objects import Found, Key, find_all, last_number
from engine.batch.journal.runs import (
    DONE,
    JOURNAL,
    Run,
    SessionRow,
    is_run_id,
    lock_of,
    make_folder,
    read_run,
    read_sessions,
    sweep,
    unfinished,
)
from engine.batch.journal.store import Row, Store, cannot_keep
from engine.errors import JournalError
from engine.version import VERSION

_RUN = "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, NULL, '', NULL, NULL, 0, 0, 0, '')"
_GOES_ON = "UPDATE run SET ended_at = NULL, outcome = '', failed = 0, error = ''"
_SESSION = "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, NULL, '')"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a journal is asked for. ``path`` None keeps it in ``folder``, by its identity."""

    path: Path | None
    folder: Path
    identity: str
    session: str
    command: tuple[str, ...]
    left_out: tuple[str, ...]
    cwd: str


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier processes left.

    Attributes:
        last: The last of them.
        seen_at: When that one was last heard of: its end, or its last heartbeat where it ended
            without a goodbye.
        objects, bytes: That are done.
        half_way: Objects that were under way.
        sessions: How many processes have worked on the run.
    """

    last: SessionRow | None
    seen_at: datetime | None
    objects: int
    bytes: int
    half_way: int
    sessions: int


@dataclass(slots=True)
class Opened:
    """A journal that is ours. ``store`` is None until there is something to keep."""

    lock: RunLock
    path: Path
    run: str
    store: Store | None
    before: Before | None
    found: dict[Key, Found]
    number: int
    session_number: int
    replaces: bool
    follows: bool
    """Whether an earlier process of the run died, with a file or before it had one."""

    def drop(self) -> None:
        """Nobody wants it: the lock goes as it came."""
        self.shut(done=False)

    def shut(self, *, done: bool) -> None:
        """Let go of the file and the lock.

        Args:
            done: All was moved. Else the lock of a run without a file goes on naming it, for who
                comes to remove what a process of it left when it died.
        """
        if self.store is not None:
            with contextlib.suppress(JournalError):
                self.store.close()
        if self.follows and self.store is None and not done:
            self.lock.drop()
        else:
            self.lock.release()


def begin(asked: Beginning, now: datetime) -> Opened:
    """Take the lock, and open the journal where there is one to go on with.

    Raises:
        RunInUse: Another process works on the run.
        JournalDamaged, JournalVersion: The journal cannot be gone on with.
        JournalError: None can be kept there, or it is of something else.
    """
    if asked.path is None:
        make_folder(asked.folder)
        new = asked.folder / f"{asked.session}-{asked.identity}{JOURNAL}"
    else:
        new = asked.path
    lock = RunLock.take(lock_of(new), asked.session, now)
    try:
        if asked.path is None:
            there = unfinished(asked.folder, asked.identity)
        else:
            there = new if os.path.lexists(new) else None
        if there is not None:
            return _go_on(asked, there, new, lock, now)
    except BaseException:
        lock.release()
        raise
    return _fresh(asked, new, lock, now)


def _fresh(
    asked: Beginning, path: Path, lock: RunLock, now: datetime, summary: Run | None = None
) -> Opened:
    """A run without a file. One whose process died before it had any goes on by its own id, which
    is in the names of the files that it left."""
    run = asked.session
    left = lock.left_by.run if lock.left_by is not None else ""
    follows = is_run_id(left) and (summary is None or summary.id != left)
    if follows and asked.path is None:
        named = asked.folder / f"{left}-{asked.identity}{JOURNAL}"
        if follows := not named.with_suffix(DONE).exists():  # else it ended well
            path = named
    if follows:
        run = left
        lock.beat(heartbeat(run, now))
    return Opened(
        lock=lock,
        path=path,
        run=run,
        store=None,
        before=None,
        found={},
        number=0,
        session_number=1,
        replaces=summary is not None and asked.path is not None,
        follows=follows,
    )


def _go_on(asked: Beginning, path: Path, new: Path, lock: RunLock, now: datetime) -> Opened:
    store = Store.open(path)
    try:
        run = read_run(store)
        if run.identity != asked.identity:
            raise JournalError(
                f"{path} is the journal of another run ({run.id}), which moved something else",
                fix="Name another file, or the same work as before",
            )
        if run.outcome == "done":
            store.close()
            if asked.path is None:
                put_away(path, run.ended_at or now)
            return _fresh(asked, new, lock, now, run)
        sessions = read_sessions(store)
        found = find_all(store)
        number = sessions[-1].number + 1 if sessions else 1
        store.write([(_GOES_ON, ()), _session_row(asked, number, now)], False)
        opened = Opened(
            lock=lock,
            path=path,
            run=run.id,
            store=store,
            before=_before(run, sessions, lock.left_by, len(found)),
            found=found,
            number=last_number(store),
            session_number=number,
            replaces=False,
            follows=True,
        )
    except BaseException:
        with contextlib.suppress(JournalError):
            store.close()
        raise
    lock.beat(heartbeat(run.id, now, run.objects, run.planned_objects))
    return opened


def _before(
    run: Run, sessions: list[SessionRow], left_by: Heartbeat | None, half_way: int
) -> Before:
    last = sessions[-1] if sessions else None
    seen_at = run.ended_at
    if seen_at is None and left_by is not None:
        seen_at = left_by.at
    return Before(
        last=last,
        seen_at=seen_at,
        objects=run.objects,
        bytes=run.bytes,
        half_way=half_way,
        sessions=len(sessions),
    )


def make_file(asked: Beginning, opened: Opened, started_at: datetime) -> Store:
    """The file of a run that has something to keep by now.

    Raises:
        JournalError: It cannot be made.
    """
    if opened.replaces:  # the summary of an earlier run of the same
        try:
            os.unlink(opened.path)
        except OSError as error:
            raise cannot_keep(opened.path, error.strerror or str(error)) from None
        opened.replaces = False
    run: Row = (
        _RUN,
        (
            opened.run,
            asked.identity,
            _json(asked.command),
            _json(asked.left_out),
            os.fsencode(asked.cwd),
            VERSION,
            as_text(started_at),
        ),
    )
    session = _session_row(asked, opened.session_number, started_at)
    store = Store.create(opened.path, [run, session])
    if asked.path is None:
        sweep(asked.folder, started_at)
    return store


def put_away(path: Path, ended_at: datetime) -> None:
    """A run that ended well is remembered for a while."""
    with contextlib.suppress(OSError):
        os.utime(path, (ended_at.timestamp(), ended_at.timestamp()))
        os.replace(path, path.with_suffix(DONE))


def _session_row(asked: Beginning, number: int, at: datetime) -> Row:
    values = (number, asked.session, socket.gethostname(), os.getpid(), VERSION, as_text(at))
    return (_SESSION, values)


def _json(texts: tuple[str, ...]) -> str:
    """Not by msgspec: an argument may be the name of a file, of any bytes."""
    return json.dumps(texts)
