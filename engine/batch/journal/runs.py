"""Runs: where journals are kept, how one is found again, what there is.

What lives here: the folder, names of files, reading what a journal says of its run. What must not:
writing one (``journal.py``). Everything here blocks: it is for threads.

Names in the folder: ``<run id>-<identity>.journal`` while there is something to go on with,
``.done`` afterwards, and ``<identity>.lock`` while somebody works on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from engine.batch.journal.instants import from_text
from engine.batch.journal.lock import Heartbeat, holder_of
from engine.batch.journal.store import Store, cannot_keep, damaged
from engine.errors import JournalDamaged, JournalError, JournalVersion, UsageError

JOURNAL, DONE, LOCK = ".journal", ".done", ".lock"
# What is remembered of runs that ended well: for a month, and of some hundred.
KEPT_FOR = timedelta(days=30)
MAX_KEPT = 200
# Half-made files of processes that died.
_LEFT_AFTER = timedelta(days=1)
_RUN = re.compile("[A-Za-z0-9_]{1,64}")
_NAME = re.compile(r"(?P<run>[A-Za-z0-9_]+)-(?P<identity>[0-9a-f]{32})(?P<kind>\.journal|\.done)")

State = Literal["running", "stopped", "failed", "done", "damaged", "other version"]


class Run(Struct, frozen=True, kw_only=True):
    """What a journal says of its run.

    Attributes:
        command: Arguments after ``s3engine``, without secrets; empty where a program runs it.
        left_out: Flags of the command whose values are not kept.
        outcome: ``done``, ``failed``, ``stopped``, or empty where nobody could say.
        objects, bytes: That are done; ``planned_*`` are None until all have been found.
    """

    id: str
    identity: str
    command: tuple[str, ...]
    left_out: tuple[str, ...]
    cwd: str
    version: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    planned_objects: int | None
    planned_bytes: int | None
    objects: int
    bytes: int
    failed: int
    error: str


class SessionRow(Struct, frozen=True, kw_only=True):
    """A process that worked on a run.

    Attributes:
        id: Its run id, as its sessions of roles were named.
        ended_at: None where it ended without a goodbye.
    """

    number: int
    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str


class RunInfo(Struct, frozen=True, kw_only=True):
    """A run as ``s3engine runs`` lists it.

    Attributes:
        run: None where the journal cannot be read; ``problem`` says why.
        holder: Who works on it.
        uploads: Open ones that the journal names, or that may have been begun.
    """

    path: Path
    id: str
    state: State
    run: Run | None = None
    holder: Heartbeat | None = None
    uploads: int = 0
    sessions: int = 0
    problem: str = ""

    @property
    def left(self) -> int | None:
        """Objects that are not done; None where nobody has counted them."""
        if self.run is None or self.run.planned_objects is None:
            return None
        return max(0, self.run.planned_objects - self.run.objects)


def runs_folder(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/s3engine/runs``.

    https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        UsageError: There is no home.
    """
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # a relative one is to be ignored
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise UsageError(
                "there is no home folder to keep a journal in",
                fix="Set XDG_STATE_HOME, or keep none (--no-resume)",
            )
        state = os.path.join(home, ".local", "state")
    return Path(state) / "s3engine" / "runs"


def identity_of(text: str) -> str:
    """Names of files and the column have a digest: what identifies a run may hold a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def make_folder(folder: Path) -> None:
    """Raises JournalError where it cannot be made."""
    try:
        for each in (folder.parent, folder):
            each.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=0o700)
        if not folder.is_dir():
            raise NotADirectoryError(0, "it is not a folder")
    except OSError as error:
        raise cannot_keep(folder, error.strerror or str(error)) from None


def unfinished(folder: Path, identity: str) -> Path | None:
    """The journal of this work that can be gone on with; the newest, should there be more."""
    found = [path for path in _files(folder, JOURNAL) if _identity(path) == identity]
    return max(found, key=lambda path: path.stat().st_mtime_ns) if found else None


def read_run(store: Store, *, count: bool = True) -> Run:
    """What the journal says of itself.

    Args:
        count: What is done, where the run has not ended: for journals of millions a second.

    Raises:
        JournalDamaged: It says nothing, or no sense.
    """
    rows = store.read(
        "SELECT id, identity, command, left_out, cwd, version, started_at, ended_at, outcome, "
        "planned_objects, planned_bytes, objects, bytes, failed, error FROM run LIMIT 2"
    )
    if len(rows) != 1:
        raise damaged(store.path, "it names no run")
    names = Run.__struct_fields__
    fields = dict(zip(names, rows[0], strict=True))
    try:
        fields["command"] = json.loads(fields["command"])
        fields["left_out"] = json.loads(fields["left_out"])
        fields["cwd"] = os.fsdecode(fields["cwd"])
        fields["started_at"] = from_text(fields["started_at"], store.path)
        if fields["ended_at"] is not None:
            fields["ended_at"] = from_text(fields["ended_at"], store.path)
        if count and fields["outcome"] != "done":
            ((objects, size),) = store.read("SELECT count(*), total(size) FROM done")
            fields |= {"objects": objects, "bytes": int(size)}
        return msgspec.convert(fields, Run)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise damaged(store.path, str(error)) from None


def read_sessions(store: Store) -> list[SessionRow]:
    """All processes that worked on the run, in order. Raises JournalDamaged."""
    rows = store.read(
        "SELECT number, id, host, pid, version, started_at, ended_at, outcome "
        "FROM sessions ORDER BY number"
    )
    found = []
    for row in rows:
        fields = dict(zip(SessionRow.__struct_fields__, row, strict=True))
        fields["started_at"] = from_text(fields["started_at"], store.path)
        if fields["ended_at"] is not None:
            fields["ended_at"] = from_text(fields["ended_at"], store.path)
        try:
            found.append(msgspec.convert(fields, SessionRow))
        except msgspec.MsgspecError as error:
            raise damaged(store.path, str(error)) from None
    return found


def list_runs(folder: Path, now: datetime) -> list[RunInfo]:
    """All runs, the newest last. A journal that cannot be read is listed as that."""
    found = [look_at(path, now) for path in (*_files(folder, JOURNAL), *_files(folder, DONE))]
    return sorted(found, key=lambda info: info.run.started_at.isoformat() if info.run else "")


def journals(folder: Path) -> list[Path]:
    """Of runs that can be gone on with, or that somebody works on."""
    return _files(folder, JOURNAL)


def find_run(folder: Path, run: str, now: datetime) -> RunInfo:
    """The run with this id, or the only one whose id begins so.

    Raises:
        UsageError: There is none, or more than one.
    """
    names = [path for kind in (JOURNAL, DONE) for path in _files(folder, kind)]
    found = [path for path in names if path.name.partition("-")[0] == run]
    found = found or [path for path in names if run and path.name.startswith(run)]
    if not found:
        raise UsageError(f"no run {run!r} is known here", fix="s3engine runs lists them")
    if len(found) > 1:
        ids = ", ".join(sorted(path.name.partition("-")[0] for path in found))
        raise UsageError(f"{run!r} may be one of {ids}", fix="Write more of the id")
    return look_at(found[0], now)


def look_at(path: Path, now: datetime) -> RunInfo:
    """One journal; nothing of it is changed."""
    run_id = path.name.partition("-")[0]
    holder = holder_of(lock_of(path), now) if path.suffix == JOURNAL else None
    try:
        store = Store.look(path)
        try:
            run = read_run(store)
            ((uploads,),) = store.read("SELECT count(*) FROM uploads")
            ((sessions,),) = store.read("SELECT count(*) FROM sessions")
        finally:
            store.close()
    except JournalVersion as error:
        return RunInfo(path=path, id=run_id, state="other version", problem=str(error))
    except JournalDamaged as error:
        return RunInfo(path=path, id=run_id, state="damaged", problem=str(error))
    except JournalError as error:
        return RunInfo(path=path, id=run_id, state="damaged", problem=str(error), holder=holder)
    return RunInfo(
        path=path,
        id=run.id,
        state=_state(run, holder),
        run=run,
        holder=holder,
        uploads=uploads,
        sessions=sessions,
    )


def is_run_id(text: str) -> bool:
    """Whether it may be one in names of files."""
    return _RUN.fullmatch(text) is not None


def lock_of(path: Path) -> Path:
    """The file that is locked while somebody works on the journal ``path``."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return path.with_name(path.name + LOCK)  # one that a program chose the place of
    return path.with_name(match["identity"] + LOCK)


def sweep(folder: Path, now: datetime) -> None:
    """Remove what nobody will ask for any more: old summaries, files of processes that died."""
    with contextlib.suppress(OSError):
        done = sorted(_files(folder, DONE), key=_mtime, reverse=True)
        oldest = (now - KEPT_FOR).timestamp()
        for number, path in enumerate(done):
            if number >= MAX_KEPT or _mtime(path) < oldest:
                _remove(path)
        wanted = {_identity(path) for path in _files(folder, JOURNAL)}
        for path in folder.glob(f"*{LOCK}"):
            # Until then it names the run whose files the next process of the same removes.
            if path.stem not in wanted and _mtime(path) < oldest:
                _remove_lock(path)
        left = (now - _LEFT_AFTER).timestamp()
        for path in folder.glob(".new-*"):
            if _mtime(path) < left:
                _remove(path)


def _state(run: Run, holder: Heartbeat | None) -> State:
    if holder is not None:
        return "running"
    if run.outcome == "done":
        return "done"
    return "failed" if run.outcome == "failed" else "stopped"


def _files(folder: Path, kind: str) -> list[Path]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [
        folder / name
        for name in names
        if (match := _NAME.fullmatch(name)) is not None and match["kind"] == kind
    ]


def _identity(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return match["identity"] if match is not None else ""


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_lock(path: Path) -> None:
    """Of a process that died before there was anything to keep; not one that is held."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
