"""Backlog: what the walk has found and no runner has taken, bounded. One feeds, many take.

What must not live here: what an item is, who runs. A stream of anyio gives control back to the loop
for every item, which costs as much as its signature.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Backlog(Generic[T]):
    """First come, first served."""

    def __init__(self) -> None:
        self._room = 0
        self._items: deque[T] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._feeder: asyncio.Future[None] | None = None
        self._over = False

    @property
    def waiting(self) -> int:
        """Items that nobody has taken."""
        return len(self._items)

    async def put(self, items: Sequence[T], room: int) -> None:
        """Add items, then wait until no more than ``room`` of them are left."""
        self._room = room
        self._items.extend(items)
        for _ in range(min(len(items), len(self._takers))):
            self._wake_one()
        while len(self._items) > self._room:
            self._feeder = asyncio.get_running_loop().create_future()
            try:
                await self._feeder
            finally:
                self._feeder = None

    def close(self) -> None:
        """Nothing will come any more; what is there is still taken."""
        self._over = True
        while self._takers:
            self._wake_one()

    async def take(self) -> T | None:
        """The next item; None after the last."""
        while not self._items:
            if self._over:
                return None
            place = asyncio.get_running_loop().create_future()
            self._takers.append(place)
            try:
                await place
            except asyncio.CancelledError:
                with suppress(ValueError):
                    self._takers.remove(place)
                if place.done() and not place.cancelled() and self._items:
                    self._wake_one()  # the item that it was woken for is another's
                raise
        item = self._items.popleft()
        feeder = self._feeder
        if feeder is not None and len(self._items) <= self._room and not feeder.done():
            feeder.set_result(None)
        return item

    def _wake_one(self) -> None:
        while self._takers:
            place = self._takers.popleft()
            if not place.done():
                place.set_result(None)
                return

    def __repr__(self) -> str:
        over = " over" if self._over else ""
        return f"<Backlog {len(self._items)}/{self._room} takers={len(self._takers)}{over}>"
