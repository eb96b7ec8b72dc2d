"""Limiter: how many requests are under way at once, up and down with what they bring.

What lives here: small and big requests kept apart, and the windows in which they are measured.
What must not: waiting (``slots.py``), deciding (``climber.py``), a second try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, final

from engine.config import TransferConfig
from engine.errors import S3Error
from engine.pace import Pace
from engine.protocols import Clock
from engine.retry import asks_for_less
from engine.transfer.climber import AIM, AIM_BIG, FAR, FAR_BIG, STEP, Climber
from engine.transfer.load import Load
from engine.transfer.slots import Memory, Slots, SlotStatistics
from engine.transfer.slow_parts import SlowParts
from engine.transfer.throttle import Throttle, Throttles
from engine.types import KiB, MiB, S3Url

# Requests in flight at the start: round trips, not CPU, decide on real networks. Small objects
# are bound by latency, big ones by the link.
START_SMALL = 64
START_BIG = 16
# S3 takes 3,500 writes and 5,500 reads a second and prefix; 512 at 100 ms are 5,000.
MAX_IN_FLIGHT = 512
# What one request holds: two pieces (``_wire.rings``), one where its body is no larger, or as many
# bytes as a small body has (``_wire.pieces``).
SLOT_MEMORY, PIECE, OWN_SIZE = MiB, 512 * KiB, 64 * KiB
# A window is long enough to be measured, and for every request that was under way to be followed by
# another: the first are of connections that were being opened.
WINDOW_SECONDS = 0.2
# What was quick and has become slow is not waited for as long.
SLOW_WINDOW_SECONDS = 1.0
# Parts of one object under way at once, in parts and in bytes: what a crash may waste is what they
# had moved, half of it on average. Six seconds of a gigabit; so many are under way only where they
# are worth it.
MAX_PARTS, MAX_PART_BYTES = 64, 512 * MiB
IDLE_SECONDS = 10.0
# Of a window's time, from where on the loop is the limit, and below which it is not any more.
PRESSED, RELIEVED = 0.9, 0.7
# A request is work too, or a thousand empty objects would count as none.
REQUEST_WORK = 32 * KiB
_ANY_NUMBER = 1 << 30
# With a limit of bandwidth: what a request is worth having for, in bytes a second, so that a part
# of 8 MiB is on its way for half a minute; and at least, so that all turns come within a second.
PACED_SHARE, LEAST_SHARE = 256 * KiB, 16 * KiB
# Of a window: the limit is what decides, and more requests would only share it.
PACED = 0.2
# Requests that wait for a prefix which S3 has asked us to be slow with: so many objects of other
# prefixes are opened in their place.
MAX_HELD_BACK = 256


class LimiterStatistics(NamedTuple):
    """Requests under way and waiting, by kind; parts of streams that are kept; small bodies that
    wait to be sent or written; pieces that wait for their reader."""

    small: SlotStatistics
    big: SlotStatistics
    streams: SlotStatistics
    bodies: SlotStatistics
    pieces: SlotStatistics


class _Kind:
    """One kind of requests: its slots, and what they did in this window."""

    def __init__(
        self,
        start: int,
        cap: int,
        memory: Memory,
        round_trip: Callable[[], float],
        load: Load,
        pace: Pace | None,
        far: float,
        aim: float,
    ) -> None:
        self._pace = pace
        self._waited = 0.0
        if pace is not None:
            start = min(start, max(1, pace.limit // PACED_SHARE))
            cap = min(cap, max(1, pace.limit // LEAST_SHARE))
        self.climber = Climber(start, cap, far, aim)
        self.slots = Slots(self.climber.number, memory)
        self.most = self.climber.number
        self._load = load
        self._since = 0.0
        self._work = 0.0
        self._done = 0
        self._saturated = False
        self._most_in_flight = 0
        # How far it is nobody knows while all begin at once: the first answers wait for the
        # connections of the others, and the least of many is near the truth.
        self._first = 0
        self._round_trip: Callable[[], float] | None = round_trip if pace is None else None

    def begin(self) -> None:
        """As soon as it is known how far the server is, the number is set by that."""
        if self._round_trip is not None and (seconds := self._round_trip()):
            self._round_trip = None
            self._set(self.climber.begin(seconds))

    def held_back(self) -> None:
        """Somebody did not even ask for a slot."""
        self._saturated = True

    def done(self, size: int, now: float) -> None:
        """A request came to its end; at the end of a window the number is looked at."""
        if self._round_trip is not None:
            self._first += 1
            if self._first >= self.climber.number // 2:
                self.begin()
        self._work += size + REQUEST_WORK
        self._done += 1
        # The one that is done has given its slot back already.
        self._most_in_flight = max(self._most_in_flight, self.slots.in_flight + 1)
        self._saturated = self._saturated or (self.slots.busy and self.slots.grows)
        seconds = now - self._since
        if seconds < WINDOW_SECONDS:
            return
        if self._done < 2 * self._most_in_flight and not self._looks_bad(seconds):
            return
        load = self._load.share(seconds)
        least = RELIEVED if self.slots.pressed else PRESSED
        self.slots.press(load is not None and load >= least)
        saturated = not self._was_paced(seconds) and self._saturated
        if load is not None and self.slots.shares:
            # The loop waits for the interpreter lock of the other kind's threads, which is not
            # counted: it seems to have more time to spare than it has.
            load = max(load, self.climber.aim / STEP)
        if seconds < IDLE_SECONDS:  # else nothing was to be done for a while
            self._set(self.climber.window(self._work, seconds, saturated=saturated, load=load))
        self._since, self._work, self._done, self._saturated = now, 0.0, 0, False
        self._most_in_flight = 0

    def _was_paced(self, seconds: float) -> bool:
        """Whether the limit of bandwidth was what decided in this window."""
        if self._pace is None:
            return False
        before, self._waited = self._waited, self._pace.waited
        return self._waited - before > PACED * seconds

    def _looks_bad(self, seconds: float) -> bool:
        """Whether so little was done that it is not waited for more."""
        if seconds < SLOW_WINDOW_SECONDS or 2 * self._done < self._most_in_flight:
            return False
        if self.climber.is_little(self._work / seconds):
            return True
        return self.climber.tries_fewer and self._done >= self._most_in_flight

    def _set(self, number: int) -> None:
        self.most = max(self.most, number)
        if number != self.slots.capacity:
            self.slots.resize(number)


class Turn:
    """A request that S3 may have asked us to wait with; it takes no slot."""

    __slots__ = ("_began", "_limiter", "_throttle", "_url")

    def __init__(self, limiter: Limiter, url: S3Url) -> None:
        self._limiter = limiter
        self._url = url
        self._throttle: Throttle | None = None
        self._began = 0.0

    async def __aenter__(self) -> None:
        await self._take()
        while not self._may_go():
            self._release()
            assert self._throttle is not None
            await self._throttle.enter()
            try:
                await self._take()
            except BaseException:
                self._throttle.leave()
                raise
            if not self._throttle.paused:
                break
            self._throttle.leave()
        self._began = self._limiter.clock.monotonic()

    def _may_go(self) -> bool:
        """Whether S3 has not asked to be asked less; else it is known what to wait for."""
        throttles = self._limiter.throttles
        self._throttle = throttles.of(self._url) if throttles else None
        return self._throttle is None or self._throttle.enter_now()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()
        if self._throttle is not None:
            self._throttle.leave()
            if error is None:
                self._throttle.worked()
        if error is None:
            self._done()
        elif isinstance(error, S3Error) and asks_for_less(error):
            self._limiter.refused(self._url, error, self._began)

    async def _take(self) -> None:
        """Wait for what the request needs of ours."""

    def _release(self) -> None:
        """Give that back."""

    def _done(self) -> None:
        """It has worked."""


def _memory_of(size: int) -> int:
    """Bytes that a request holds for a body of ``size``."""
    if size <= OWN_SIZE:
        return size
    return PIECE if size <= PIECE else SLOT_MEMORY


@final
class Slot(Turn):
    """One request's place. A holder makes one request and waits for nothing else."""

    __slots__ = ("_kind", "_needs", "_size", "_weight")

    def __init__(self, limiter: Limiter, url: S3Url, kind: _Kind, size: int, held: bool) -> None:
        super().__init__(limiter, url)
        self._needs = 0 if held else _memory_of(size)
        self._kind = kind
        self._size = size
        self._weight = 0

    async def _take(self) -> None:
        self._weight = await self._kind.slots.acquire(self._needs)

    def _release(self) -> None:
        self._kind.slots.release(self._weight)

    def _done(self) -> None:
        self._kind.done(self._size, self._limiter.clock.monotonic())


@final
class Limiter:
    """Slots for requests of small objects, and for parts and ranges of big ones.

    ``max_concurrency`` of the configuration fixes the number; else it climbs.

    Args:
        round_trip: Says how far the server is, in seconds; 0 while that is not known.
        movers: Seconds that threads were at work which move parts and ranges of big objects.
        pace: The limit of bandwidth; None for none.
    """

    def __init__(
        self,
        config: TransferConfig,
        clock: Clock,
        round_trip: Callable[[], float] = float,
        movers: Callable[[], Sequence[float]] = tuple,
        pace: Pace | None = None,
    ) -> None:
        self.clock = clock
        self.pace = pace
        self.throttles = Throttles(clock)
        self.slow_parts = SlowParts(None if pace is None else self._share)
        fixed = config.max_concurrency
        # One budget for all buffers.
        self.memory = memory = Memory(config.max_memory)
        cap = fixed or MAX_IN_FLIGHT
        self._parts = config.parts_at_first
        self._parts_grow = config.max_parts_in_flight is None
        self._small = _Kind(fixed or START_SMALL, cap, memory, round_trip, Load(), pace, FAR, AIM)
        # Half of it at most: small and big objects may be under way together.
        most = min(cap, max(1, config.max_memory // 2 // SLOT_MEMORY))
        load = Load(helpers=movers)
        self._big = _Kind(
            fixed or START_BIG, most, memory, round_trip, load, pace, FAR_BIG, AIM_BIG
        )
        self._small.slots.share_with(self._big.slots, fixed)
        # Of bytes alone: parts that are kept until they are sent; small bodies that have been read
        # and not sent, or received and not written; pieces that a reader has not taken.
        self.max_stream_memory = config.max_memory // 4
        self.streams = Slots(_ANY_NUMBER, memory, self.max_stream_memory)
        self.bodies = Slots(_ANY_NUMBER, memory, config.max_memory // 2)
        self.pieces = Slots(_ANY_NUMBER, memory, self.max_stream_memory)

    def slot(self, url: S3Url, *, big: bool, size: int, held: bool = False) -> Slot:
        """A slot for one request of ``size`` bytes; ``big`` is a part or range of an object, and
        ``held`` says that somebody has the memory of its body already."""
        return Slot(self, url, self._big if big else self._small, size, held)

    def turn(self, url: S3Url) -> Turn:
        """For a request that moves no bytes and needs no slot; S3 may want it to wait, too."""
        return Turn(self, url)

    def refused(self, url: S3Url, error: S3Error, began: float) -> None:
        """S3 has asked for fewer requests."""
        under_way = self._small.slots.in_flight + self._big.slots.in_flight + 1
        self.throttles.refused(url, error, began, under_way)

    @property
    def max_objects(self) -> int:
        """How many objects are worth opening at once: some more than there are slots, so that a
        slot that comes free is used at once."""
        return self._worth_opening(self._small.most)

    @property
    def max_small_objects(self) -> int:
        """How many of those may be small. Beside big ones they have fewer slots, and those that
        were opened all the same would only wait for one, each the longer."""
        slots = self._small.slots
        return self._worth_opening(slots.fair if slots.shares else self._small.most)

    def _worth_opening(self, slots: int) -> int:
        held_back = min(self.throttles.waiting, MAX_HELD_BACK) if self.throttles else 0
        return slots + max(1, slots // 8) + held_back

    def one_more_part(self, under_way: int, part_size: int) -> bool:
        """Whether one more part of an object is worth having under way beside so many.

        As many times the first number as there are times the first number of slots.

        Args:
            part_size: Bytes of it that a death wastes.
        """
        if not self._parts_grow:
            return under_way < self._parts
        self._big.begin()
        most = min(MAX_PARTS, MAX_PART_BYTES // max(1, part_size))
        worth = max(1, self._parts * self._big.climber.number // START_BIG)
        if under_way < min(worth, most):
            return True
        if under_way < most:
            self._big.held_back()
        return False

    def _share(self, size: int) -> float:
        """Seconds that a part takes beside as many requests as there have ever been."""
        assert self.pace is not None
        return size * (self._small.most + self._big.most) / self.pace.limit

    def statistics(self) -> LimiterStatistics:
        return LimiterStatistics(
            self._small.slots.statistics(),
            self._big.slots.statistics(),
            self.streams.statistics(),
            self.bodies.statistics(),
            self.pieces.statistics(),
        )

    def __repr__(self) -> str:
        return f"<Limiter {self.statistics()}>"
