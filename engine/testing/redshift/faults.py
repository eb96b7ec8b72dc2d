"""Faults that a test orders from the double: which statement, which fault, once.

What lives here: the plan. What must not: the harm itself, which ``proxy.py`` and ``copy.py`` do.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from engine.errors import UsageError

KINDS = (
    "drop-before-copy",
    "drop-after-copy",
    "drop-before-commit",
    "drop-after-commit",
    "copy-delay",
    "drop-rows",
    "1023",
)


@dataclass(slots=True)
class Fault:
    """One ordered fault.

    Attributes:
        kind: One of ``KINDS``.
        nth: Which statement from now on meets it, from 1.
        seconds: How long ``copy-delay`` waits before the first S3 request.
        rows: How many rows ``drop-rows`` loses from the end of a COPY.
    """

    kind: str
    nth: int = 1
    seconds: float = 0.0
    rows: int = 0


class Faults:
    """The plan of one double. Safe to fill from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self._met: list[Fault] = []

    def __repr__(self) -> str:
        return f"<Faults {len(self._waiting)} waiting, {len(self._met)} met>"

    def add(self, kind: str, *, nth: int = 1, seconds: float = 0.0, rows: int = 0) -> None:
        """Order a fault; it happens once, at the ``nth`` COPY (or COMMIT) from now on.

        ``drop-*`` close the client's connection: before or after the statement ran in the
        database. ``drop-after-commit`` is the COMMIT whose answer is lost. ``drop-rows`` loses
        the last ``rows`` rows of a COPY, which then reports the smaller number.
        ``1023`` answers a COPY with Redshift's serializable isolation violation.

        Args:
            kind: One of ``KINDS``.
            nth: Counted from 1.
            seconds: For ``copy-delay``.
            rows: For ``drop-rows``.

        Raises:
            UsageError: No such fault, or a number that makes no sense for it.
        """
        if kind not in KINDS:
            raise UsageError(f"no such fault: {kind!r}", fix=f"Known: {', '.join(KINDS)}")
        if nth < 1 or seconds < 0 or (kind == "drop-rows") != (rows > 0):
            raise UsageError(f"the numbers do not fit fault {kind!r}", fix="See Faults.add")
        with self._lock:
            self._waiting.append(Fault(kind, nth, seconds, rows))

    def clear(self) -> None:
        """Forget the faults that have not happened yet."""
        with self._lock:
            self._waiting.clear()

    @property
    def met(self) -> tuple[Fault, ...]:
        """The faults that have happened, in order."""
        return tuple(self._met)

    def take(self, kind: str) -> Fault | None:
        """Count one statement for ``kind``; the fault if it is due now."""
        due = None
        with self._lock:
            for fault in [f for f in self._waiting if f.kind == kind]:
                fault.nth -= 1
                if fault.nth == 0 and due is None:
                    due = fault
                    self._waiting.remove(fault)
                    self._met.append(fault)
        return due
