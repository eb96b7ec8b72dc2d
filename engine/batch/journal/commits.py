"""Commits: rows of a journal, written in groups.

What lives here: what is written with what. A trip to a thread and a transaction cost the same for
one row and for hundreds; so rows that come while others are being written go together, as small
files do (``transfer.writer``). What must not: what the rows mean, the file (``store.py``).

Rules of this file
- When ``commit`` returns, the row has been handed to the system, or is on the disk where that was
  asked for; or the error is raised.
- Rows are written in the order in which they came.
- A row is never taken back: whoever is cancelled no longer waits for it, and it is written with the
  next ones.
- There is no task: of those who wait, one leads. Who leads takes along all that is there, and at
  its end wakes one who leads next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

from engine.batch.journal.store import Row
from engine.errors import JournalError
from engine.threads import ThreadDoor

Write = Callable[[Sequence[Row], bool], None]


class _Trip:
    """Rows on their way, in one transaction."""

    __slots__ = ("done", "durable", "error", "last", "rows", "write")

    def __init__(self, rows: list[Row], last: int, durable: bool, write: Write) -> None:
        self.rows = rows
        self.last = last
        self.durable = durable
        self.write = write
        self.done = False
        self.error: JournalError | None = None

    def go(self) -> None:
        """In a thread."""
        try:
            self.write(self.rows, self.durable)
        except JournalError as error:
            self.error = error
        self.done = True


class _Waiter:
    __slots__ = ("error", "last", "turn")

    def __init__(self, last: int, turn: asyncio.Future[None]) -> None:
        self.last = last
        self.turn = turn
        self.error: JournalError | None = None


@final
class Commits:
    """Rows that wait, and who waits for them; for one event loop.

    Args:
        write: Writes rows in one transaction, durably or not; in a thread.

    Attributes:
        batch: Number of the rows that wait: another one as soon as somebody has taken them.
        written, trips, durable: Rows and transactions so far, and how many of these went to the
            disk.
        lost: Rows that could not be written; ``trouble`` says why the last of them was not.
    """

    def __init__(self, door: ThreadDoor, write: Write) -> None:
        self._door = door
        self._write = write
        self._rows: list[Row] = []
        self._wants_disk = False
        self._added = 0
        self._over = 0
        self._leading = False
        self._waiters: deque[_Waiter] = deque()
        self.batch = 0
        self.written = self.trips = self.durable = self.lost = 0
        self.trouble: JournalError | None = None

    @property
    def waiting(self) -> int:
        """Rows that nobody has taken yet."""
        return len(self._rows)

    @property
    def leading(self) -> bool:
        """Whether rows are being written."""
        return self._leading

    def add(self, row: Row) -> None:
        """A row that goes with the next that is committed."""
        self._rows.append(row)
        self._added += 1

    async def commit(self, *rows: Row, durable: bool = False) -> None:
        """Rows, written when this returns, and with them all that came before.

        Raises:
            JournalError: They are not.
        """
        self._rows += rows
        self._added += len(rows)
        self._wants_disk |= durable
        await self.flush()

    async def flush(self) -> None:
        """Wait until all that has come is written.

        Raises:
            JournalError: It is not.
        """
        last = self._added
        while self._over < last:
            if self._leading:
                await self._wait(last)
            else:
                await self._lead()

    async def _lead(self) -> None:
        trip = _Trip(self._rows, self._added, self._wants_disk, self._write)
        self._rows, self._wants_disk, self._leading = [], False, True
        self.batch += 1
        try:
            await self._door.run(trip.go)
        finally:
            self._leading = False
            if trip.done:
                self._end(trip)
            else:  # whoever led was cancelled before a thread began
                self._rows = trip.rows + self._rows
                self._wants_disk |= trip.durable
            self._wake_one()
        if trip.error is not None:
            raise trip.error

    def _end(self, trip: _Trip) -> None:
        self._over = trip.last
        self.trips += 1
        if trip.error is None:
            self.written += len(trip.rows)
            self.durable += trip.durable
        else:
            self.lost += len(trip.rows)
            self.trouble = trip.error
        for waiter in self._waiters:
            if waiter.last <= trip.last:
                waiter.error = trip.error
                if not waiter.turn.done():
                    waiter.turn.set_result(None)

    def _wake_one(self) -> None:
        """One of those who wait is to lead."""
        for waiter in self._waiters:
            if not waiter.turn.done():
                waiter.turn.set_result(None)
                return

    async def _wait(self, last: int) -> None:
        """Until the rows up to ``last`` are written, or it is our turn to lead."""
        waiter = _Waiter(last, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and not self._leading:
                self._forget(waiter)
                self._wake_one()  # it was to lead
            raise
        finally:
            self._forget(waiter)
        if waiter.error is not None:
            raise waiter.error

    def _forget(self, waiter: _Waiter) -> None:
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)

    def __repr__(self) -> str:
        return f"<Commits waiting={len(self._rows)} written={self.written} lost={self.lost}>"
