"""Slots: how many requests may be under way, and how many bytes they may hold. First come, first
served. What must not live here: how many that should be (``climber.py``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import final

from msgspec import Struct

# Of all slots, what each of two kinds gets at least while both want them: two fifths, and what is
# lost where a slot that comes free is given on a moment later.
LEAST_SHARE = 0.42


class SlotStatistics(Struct, frozen=True):
    """Requests under way and waiting, and the bytes that those under way hold at most."""

    in_flight: int
    waiting: int
    memory: int
    capacity: int


@final
class Memory:
    """The budget of bytes that several ``Slots`` take from.

    Who holds some of it never waits for more of it, so that all of it comes back. A queue whose
    head finds none is next: what comes back is kept for it.

    Attributes:
        held, most: Bytes now, and the most so far.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = self.most = 0
        self._queues: list[Slots] = []
        self._next: Slots | None = None

    def join(self, queue: Slots) -> None:
        """Serve ``queue`` when bytes come back."""
        self._queues.append(queue)

    def fits(self, weight: int, queue: Slots) -> bool:
        """Whether ``queue`` may take so many; if not it is its turn before the others'."""
        if not weight:
            return True
        if self._next is not None and self._next is not queue:
            return False
        if self.held + weight > self.total:
            self._next = queue
            return False
        return True

    def take(self, weight: int) -> None:
        self.held += weight
        self.most = max(self.most, self.held)

    def served(self, queue: Slots) -> None:
        """``queue`` does not wait for bytes, or not any more."""
        if self._next is queue:
            self._next = None
            self._serve()

    def give(self, weight: int) -> None:
        self.held -= weight
        assert self.held >= 0, "more bytes given back than taken"
        if weight:
            self._serve()

    def _serve(self) -> None:
        for queue in self._queues:
            if queue.busy:
                queue.serve()

    def __repr__(self) -> str:
        return f"<Memory {self.held}/{self.total} most={self.most}>"


@final
class Slots:
    """A semaphore of requests and bytes whose capacity may change while it is in use.

    Its own and not ``anyio.CapacityLimiter``: that one counts requests only, and gives control
    back to the loop for every slot, which costs as much as a signature.

    Args:
        memory: Bytes of its own, or a budget that is shared.
        limit: Bytes that it may take of a budget.

    Attributes:
        pressed: Whether the loop is the limit: requests beyond those that keep it busy only wait
            for it, each the longer. Of both kinds that share; that is so until it is known.
    """

    def __init__(self, capacity: int, memory: int | Memory, limit: int | None = None) -> None:
        self.capacity = capacity
        self._memory = Memory(memory) if isinstance(memory, int) else memory
        self._memory.join(self)
        self._limit = self._memory.total if limit is None else limit
        self._in_flight = 0
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._other: Slots | None = None
        self._total: int | None = None
        self.pressed = True

    def share_with(self, other: Slots, total: int | None) -> None:
        """Neither gets less than ``LEAST_SHARE`` while both want slots.

        Args:
            total: Of both together; None for what both have.
        """
        self._other, other._other = other, self
        self._total = other._total = total

    def press(self, pressed: bool) -> None:
        """It was found out whether the loop is the limit."""
        self.pressed = pressed
        if self._other is not None:
            self._other.pressed = pressed

    async def acquire(self, weight: int) -> int:
        """Wait for a slot and ``weight`` bytes; returns what ``release`` is to be given."""
        weight = min(weight, self._limit)  # what does not fit at all goes alone
        if not self._waiting and self._fits(weight):
            self._take(weight)
            return weight
        place = asyncio.get_running_loop().create_future()
        entry = (weight, place)
        self._waiting.append(entry)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(weight)  # it came together with the cancellation
            else:
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(entry)
                self.serve()
            raise
        return weight

    def take_anyway(self, weight: int) -> int:
        """``acquire`` of what cannot wait; the others do, the longer."""
        self._take(weight)
        return weight

    def release(self, weight: int) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        self._held -= weight
        assert self._in_flight >= 0 and self._held >= 0, "more slots given back than taken"
        other = self._other
        if other is not None and other._waiting and other._in_flight <= self._in_flight:
            other.serve()
        self._memory.give(weight)
        self.serve()
        if other is not None and other._waiting:
            other.serve()

    def resize(self, capacity: int) -> None:
        """Another number of slots from now on; those under way are left alone."""
        self.capacity = capacity
        self.serve()

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._in_flight

    @property
    def busy(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    @property
    def shares(self) -> bool:
        """Whether the other kind wants slots, too."""
        return self._other is not None and self._other.wanted > 0

    @property
    def wanted(self) -> int:
        """Slots that are taken or waited for."""
        return self._in_flight + len(self._waiting)

    def statistics(self) -> SlotStatistics:
        return SlotStatistics(self._in_flight, len(self._waiting), self._held, self.capacity)

    def serve(self) -> None:
        """Let those go on whose turn it is."""
        while self._waiting:
            weight, place = self._waiting[0]
            if not (place.done() or self._fits(weight)):
                return
            self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._take(weight)
        self._memory.served(self)

    def _fits(self, weight: int) -> bool:
        if not self._has_room():
            self._memory.served(self)
            return False
        if weight and self._held + weight > self._limit:
            self._memory.served(self)
            return False
        return self._memory.fits(weight, self)

    def _has_room(self) -> bool:
        other = self._other
        if other is not None and self._total is not None and other.wanted:
            if self._in_flight + other._in_flight >= self._of_both(other):
                return False
        return self._in_flight < self.fair

    @property
    def fair(self) -> int:
        """How many there may be beside what the other kind has a right to."""
        other = self._other
        if other is None or not (wanted := other.wanted):
            return self.capacity
        total = float(self._of_both(other))
        share = self.capacity / (self.capacity + other.capacity)
        share = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
        if self.pressed:
            # The shares, and for no kind more than it has alone.
            total = min(total, self.capacity / share, other.capacity / (1 - share))
        return max(round(total * share), 1, int(min(self.capacity, total - wanted)))

    @property
    def grows(self) -> bool:
        """Whether more capacity would let more go: where the loop is the limit, not of a kind that
        has more than its share already."""
        other = self._other
        if other is None or not other.wanted or not self.pressed:
            return True
        return self.capacity <= (1 - LEAST_SHARE) * (self.capacity + other.capacity)

    def _of_both(self, other: Slots) -> int:
        """How many there may be of both kinds together."""
        both = self.capacity + other.capacity
        return both if self._total is None else min(self._total, both)

    def _take(self, weight: int) -> None:
        self._in_flight += 1
        self._held += weight
        self._memory.take(weight)
        self._memory.served(self)

    def __repr__(self) -> str:
        return f"<Slots {self.statistics()}>"
