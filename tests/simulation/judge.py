"""The five sentences, applied to one process of a schedule.

(a) what is said to be done is done; (b) all else is a named error, and nothing wrong is to be seen;
(c) it ends in time; (d) after a death the same commands go on, and nothing is left behind; (e) no
secret is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.batch.journal.runs import lock_of, read_run
from engine.batch.journal.store import Store
from engine.events import DownloadKept, Event, UploadKept, UploadLeft
from engine.testing.simulation import FINAL, Fault, Upload, World
from tests.simulation.jobs import Job, Outcome, Read

# Faults of one process that a request which is tried eight times must survive, wherever they hit.
_HEALED = 6
_SLOW = (Fault.STALL, Fault.SLOW, Fault.RETRY_AFTER, Fault.LATE)
_NO_FAULT = (Fault.NONE.value, Fault.SLOW.value)


@dataclass(slots=True)
class Process:
    """What is known of one process when it is over.

    Attributes:
        number: 1 is the first.
        died: It was killed.
        deaths: Of those before it.
        last: Nothing failed any more: whatever was left must be gone after it.
        disturbed: Others changed something, or sessions ended early, or files failed.
        patient: Requests are tried eight times.
        began: Virtual seconds.
        hits: Faults of requests, by kind and verb.
    """

    number: int
    deaths: int
    last: bool
    began: float
    died: bool = False
    disturbed: bool = False
    patient: bool = True
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    events: Sequence[Event] = ()
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    fetches: int = 0
    renewed_early: int = 0


class Judge:
    """Says what is wrong, as ``(sentence) text``.

    Args:
        journalled: Names of the jobs that keep a journal.
        repeatable: Whether the same command may be given again and succeed.

    Attributes:
        excused: Temporary files that may stay.
    """

    def __init__(
        self,
        world: World,
        root: Path,
        jobs: Sequence[Job],
        journalled: Iterable[str],
        *,
        repeatable: bool,
    ) -> None:
        self._world = world
        self._root = root
        self._jobs = jobs
        self._journalled = frozenset(journalled)
        self._repeatable = repeatable
        self._told: set[str] = set()
        self._nameless: list[str] = []
        self.excused: set[Path] = set()

    def of(self, process: Process) -> Iterator[str]:
        """What is wrong after a process."""
        for job in self._jobs:
            outcome = process.outcomes.get(job.name)
            sentence = "a" if outcome is not None and outcome.good else "b"
            for wrong in job.check(outcome):
                yield f"({sentence}) {wrong}"
        self._hear(process.events)
        if process.died:
            return
        yield from self._left_uploads(process)
        yield from self._left_files(process)
        yield from self._healed(process)
        yield from self._renewals(process)

    def excuse(self, state: Path) -> None:
        """After a power cut. A job that had ended by an error before, without a journal, is one of
        which nobody knows any more; a file that it renamed on a disk that failed has its old name
        again.

        Args:
            state: Where the journals are.
        """
        for job in self._jobs:
            journal = state / f"{job.name}.journal"
            if job.name in self._journalled and not (
                _is_kept(journal) or lock_of(journal).exists()
            ):
                for folder in job.folders():
                    self.excused.update(folder.glob(".s3engine-*"))

    # (d) what is left behind.

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, UploadLeft) and not event.upload_id:
                self._nameless.append(f"{event.url.bucket}/{event.url.key}")
            elif isinstance(event, UploadLeft):
                self._told.add(event.upload_id)

    def _left_uploads(self, process: Process) -> Iterator[str]:
        kept = {event.upload_id for event in process.events if isinstance(event, UploadKept)}
        nameless = list(self._nameless)
        for upload in self._world.store.open_uploads():
            if upload.upload_id in self._told or _is_late(upload):
                continue
            if upload.upload_id in kept and not process.last:
                continue
            if upload.key in nameless:
                nameless.remove(upload.key)
                continue
            if process.deaths and not (process.last and self._has_journal(upload.key)):
                continue  # of a process that died, and a journal may name it yet
            if process.number > 1 and not process.last:
                continue  # one that was kept before
            parts = sorted(upload.parts)
            yield f"(d) upload {upload.upload_id} of {upload.key} stays: parts {parts}"

    def _has_journal(self, key: str) -> bool:
        name = key.partition("/")[2]
        return any(name in job.keys() for job in self._jobs if job.name in self._journalled)

    def _left_files(self, process: Process) -> Iterator[str]:
        kept = {one.temporary for one in process.events if isinstance(one, DownloadKept)}
        for path in self._root.rglob(".s3engine-*"):
            if path in self.excused or (str(path) in kept and not process.last):
                continue
            over = process.last or self._is_over(path, process)
            if process.deaths and not (over and self._is_journalled(path)):
                continue
            if process.number > 1 and not over:
                continue
            yield f"(d) a temporary file stays: {path.name[:20]} in {path.parent.name}"

    def _is_over(self, path: Path, process: Process) -> bool:
        """Whether all that write to the folder are done."""
        outcomes = process.outcomes
        return all(
            job.name in outcomes and not job.failed(outcomes[job.name])
            for job in self._jobs
            if path.parent in job.folders()
        )

    def _is_journalled(self, path: Path) -> bool:
        """Whether all that write to the folder keep a journal."""
        writers = [job for job in self._jobs if path.parent in job.folders()]
        return bool(writers) and all(job.name in self._journalled for job in writers)

    # (a) what must succeed.

    def _healed(self, process: Process) -> Iterator[str]:
        if not self._repeatable or not (process.last or self._is_mild(process)):
            return
        flipped = any(fault == Fault.FLIPPED_DOWN.value for fault, _ in process.hits)
        for job in self._jobs:
            outcome = process.outcomes.get(job.name)
            if outcome is None or not job.can_repeat() or (flipped and isinstance(job, Read)):
                continue
            failed = job.failed(outcome)
            if failed:
                how = "the same command does not go on" if process.last else "it was not healed"
                yield f"({'d' if process.last else 'a'}) {how}: {job.kind} {job.name}: {failed}"

    def _is_mild(self, process: Process) -> bool:
        """Whether nothing happened that the engine may not get over."""
        if process.disturbed or not process.patient:
            return False
        faults = Counter[str]()
        for (fault, verb), count in process.hits.items():
            faults[fault] += count
            # An upload has to begin within half a minute; so has it to be aborted.
            if verb.endswith("multipart upload") and fault in {one.value for one in _SLOW}:
                return False
        if any(faults[one.value] for one in FINAL if one is not Fault.EXPIRED):
            return False
        hits = sum(count for fault, count in faults.items() if fault not in _NO_FAULT)
        once = all(faults[one.value] <= 1 for one in (Fault.FLIPPED_DOWN, Fault.EXPIRED))
        return hits <= _HEALED and once

    def _renewals(self, process: Process) -> Iterator[str]:
        """No storm at the source of credentials: one call a session, and one a reason."""
        sessions = self._world.sessions
        seconds = self._world.now() - process.began
        faults = sum(
            count
            for (fault, _), count in process.hits.items()
            if fault in (Fault.EXPIRED.value, Fault.DENIED.value)
        )
        most = 1 + seconds // (0.45 * sessions.lifetime) + faults + process.renewed_early
        if sessions.denied_verbs:
            most *= 2  # each session that worked is asked once whether it was revoked
        if process.fetches > most:
            yield f"(c) {process.fetches} calls for credentials, {most:.0f} had a reason"


def _is_kept(journal: Path) -> bool:
    """Whether a run that is not over has a file. The summary of one that ended well keeps its place
    until the next has something worth keeping."""
    if not journal.exists():
        return False
    store = Store.look(journal)
    try:
        return read_run(store).outcome != "done"
    finally:
        store.close()


def _is_late(upload: Upload) -> bool:
    """Whether all that is left came behind the last look."""
    return upload.state == "aborted" and all(
        part.landed > upload.listed for part in upload.parts.values()
    )
