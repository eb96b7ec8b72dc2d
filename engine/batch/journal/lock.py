"""RunLock: one process works on a run.

What lives here: the file beside a journal that is locked while somebody works on it, and says who.
What must not: what is kept of the run.

Theory of operation
- The lock is flock(2) of the file: the kernel lets it go when the process dies, however it dies.
- On a file system that is shared by hosts flock may not reach the others, so the holder writes a
  heartbeat into the file. Who finds the lock free, and a heartbeat of another machine in it, waits
  until that is old enough.
- The file is removed by who holds the lock, so whoever gets one looks whether the name still leads
  to the file that it locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import final

import msgspec
from msgspec import Struct

from engine.errors import JournalError, RunInUse

# Seconds between two heartbeats, and after which the holder on another machine is taken for dead:
# six of them, so that a machine that pages or a disk that is slow is not.
HEARTBEAT = 5.0
DEAD_AFTER = 30.0
# Of a lock that is gone as soon as it is had: its holder removed it. It happens once, seldom twice.
_MAX_TRIES = 10
# Who lists the runs holds a lock for some microseconds: tries, and seconds between them.
_LOOKS, _LOOK = 3, 0.01
# A heartbeat has some 300 bytes; what is longer is not ours.
_MAX_HEARTBEAT = 4096


class Heartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Who works on a run, and how far it is.

    Attributes:
        machine: Tells kernels apart: containers on one have other host names and the same locks.
        at: When it was written.
        objects: That are done; ``planned`` is None until all have been found.
    """

    run: str
    pid: int
    host: str
    machine: str
    at: datetime
    objects: int = 0
    planned: int | None = None

    def age(self, now: datetime) -> float:
        """Seconds; 0 where the clock that wrote it was ahead."""
        return max(0.0, (now - self.at).total_seconds())


@final
class RunLock:
    """A run that is ours; made by ``take``. All methods block: they are for threads.

    Attributes:
        left_by: The last heartbeat of a holder that died, or None.
    """

    def __init__(self, path: Path, descriptor: int, left_by: Heartbeat | None) -> None:
        self.path = path
        self.left_by = left_by
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, run: str, now: datetime) -> RunLock:
        """Lock ``path``, which is made where it is not.

        Raises:
            RunInUse: Another process has it.
            JournalError: The file cannot be made.
        """
        for _ in range(_MAX_TRIES):
            descriptor = _open(path)
            try:
                lock = cls._locked(path, descriptor, now)
            except BaseException:
                os.close(descriptor)
                raise
            if lock is not None:
                lock.beat(heartbeat(run, now))
                return lock
            os.close(descriptor)
        raise JournalError(f"cannot lock {path}: it is removed again and again")

    @classmethod
    def _locked(cls, path: Path, descriptor: int, now: datetime) -> RunLock | None:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise in_use(path, _read(descriptor), now) from None
        except OSError as error:
            raise JournalError(
                f"cannot lock {path}: {error.strerror}",
                fix="Keep the journal on a file system that has locks, or none (--no-resume)",
            ) from None
        if not _leads_to(path, descriptor):
            return None
        left = _read(descriptor)
        if left is not None and left.machine != _machine() and left.age(now) < DEAD_AFTER:
            raise in_use(path, left, now)
        return cls(path, descriptor, left)

    def beat(self, beat: Heartbeat) -> None:
        """Say that we are at it. A disk that cannot take that is no reason to stop."""
        data = msgspec.json.encode(beat) + b"\n"
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, data, 0)
            os.ftruncate(self._descriptor, len(data))

    def release(self) -> None:
        """Let it go, and leave nothing behind."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if _leads_to(self.path, descriptor):
                os.unlink(self.path)
        os.close(descriptor)

    def drop(self) -> None:
        """Let it go as a process that dies does: the file stays, and names the run."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def heartbeat(run: str, now: datetime, objects: int = 0, planned: int | None = None) -> Heartbeat:
    """Of this process."""
    return Heartbeat(
        run=run,
        pid=os.getpid(),
        host=socket.gethostname(),
        machine=_machine(),
        at=now.astimezone(UTC),
        objects=objects,
        planned=planned,
    )


def holder_of(path: Path, now: datetime) -> Heartbeat | None:
    """Who works on the run behind ``path`` just now; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        beat = _read(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return beat or _nobody_known(now)
        if beat is not None and beat.machine != _machine() and beat.age(now) < DEAD_AFTER:
            return beat
        return None
    finally:
        os.close(descriptor)


def in_use(path: Path, beat: Heartbeat | None, now: datetime) -> RunInUse:
    """The error for whoever comes second."""
    if beat is None:
        return RunInUse(
            "this run is being worked on by another process",
            fix="Wait until that has ended",
            lock=path,
        )
    ours = beat.machine == _machine()
    fix = "Wait until that has ended, or stop it"
    if not ours:
        fix += f"; if that machine is gone, wait {DEAD_AFTER:.0f} s after its last heartbeat"
    return RunInUse(
        f"run {beat.run} is being worked on by pid {beat.pid} on host {beat.host} "
        f"(heartbeat {beat.age(now):.0f} s ago)",
        fix=fix,
    )


def _lock(descriptor: int) -> None:
    """Try again where it is held for a moment by somebody who lists the runs (``holder_of``)."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _nobody_known(now: datetime) -> Heartbeat:
    return Heartbeat(run="", pid=0, host="", machine="", at=now)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise JournalError(
            f"cannot keep a journal: {path}: {error.strerror}",
            fix="Set XDG_STATE_HOME to a folder that can be written, or keep none (--no-resume)",
        ) from None


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _read(descriptor: int) -> Heartbeat | None:
    try:
        data = os.pread(descriptor, _MAX_HEARTBEAT, 0)
        beat = msgspec.json.decode(data, type=Heartbeat)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None  # just made, or half written
    return beat if beat.at.tzinfo is not None else None


@lru_cache(maxsize=1)
def _machine() -> str:
    """What the kernel was given when it started; else the host's name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return socket.gethostname()
