"""How many requests should be under way: up while that moves more, down where fewer move as much.

PURE: told what was done in which time, it says a number. What must not live here: a clock, a slot,
SlowDown (``throttle.py``: S3 means a prefix, not a run).

Theory of operation
Round trips, not CPU, decide on real networks. So the first one that is known sets where the number
begins: as many as fill the way there. From then on it is doubled as long as each doubling brings a
sixth more; the first that does not is taken back, and another is tried much later, because networks
change. A loop that was at work for a part of the time only has room for so many times more, which
says how far to go at once: until it is at work for ``aim``, ``MAX_STEP`` times as many at most.
More than that would have each request wait for the loop, and connections stand open unused.
Threads that move the bytes of big objects are looked at as the loop is.
Where less is moved than before by the same number, fewer are tried: a server or a link may have
become smaller, and some do less the more is asked of them. That is kept, and gone on with, where it
brings more; taken back where it brings less.
"""

from __future__ import annotations

from typing import final

# Doubled, the number has to move 1.15 times as much, or it is taken back; for other steps in
# proportion.
WORTH = 0.2
STEP, MAX_STEP = 2.0, 2.5
# Of a window's time. More requests could bring a loop that is so busy two fifths more at best, and
# each new connection costs it as much as two small objects.
BUSY = 0.7
# Where a step goes to: small objects, and parts of big ones. What goes further brings little: of
# 2 GiB in parts at 30 ms, over two cores that the server needs too, connections did 0.70 of what
# they allow where steps went to 1, 0.88 to 0.75, 0.89 to 0.93 to 0.68, and 0.94 to 0.62, each for
# 2 to 5 % more time. Small objects at 100 ms would take up to 16 % more.
AIM, AIM_BIG = 0.75, 0.62
# A part of 8 MiB takes a tenth of a second over one connection to S3 (85 MB/s), small objects less.
# At this round trip the way takes about as long as the bytes, and twice as many fill it. Seconds.
# Where parts begin with a fifth more, at 100 ms, two cores are the limit: connections that were
# opened do 0.86 of what they allow and not 0.94, for 2 to 4 % less time.
FAR, FAR_BIG = 0.05, 0.06
# Windows until the next try, after one that brought nothing; twice as many after the second.
REST = 20
# Of what used to be moved, twice in a row; then so many of the requests are left. They have to move
# so much of what was moved before, and are better where they move so much more.
FALLEN, FEWER = 0.75, 0.65
KEPT, BETTER = 0.95, 1.05
FLOOR = 4
# Of a window in what is usual.
_SHARE = 0.2


@final
class Climber:
    """The number of one kind of requests.

    Args:
        start: Where it begins.
        cap: Where it ends.
        far: The round trip at which it begins with twice as many.
        aim: The part of a window's time in which the loop may be at work after a step.
    """

    def __init__(self, start: int, cap: int, far: float = FAR, aim: float = AIM) -> None:
        self._far = far
        self.aim = aim
        self.number = self._start = min(start, cap)
        self._cap = cap
        self._floor = min(FLOOR, self.number)
        self._before: float | None = None
        self._lower = self.number
        self._worth = 0.0
        self._rest = 0
        self._usual: float | None = None
        self._fallen = 0
        self._again = self._settling = self._greets = False
        self._more: int | None = None

    def begin(self, round_trip: float) -> int:
        """The number for a server that is ``round_trip`` seconds away."""
        if self.number == self._start:
            self.number = self._lower = min(
                int(self._start * (1 + round_trip / self._far)), self._cap
            )
        return self.number

    def window(
        self, work: float, seconds: float, *, saturated: bool, load: float | None = None
    ) -> int:
        """The number for the next window.

        Args:
            work: What was done in this one: bytes, and something for each request.
            saturated: Whether requests waited for a slot; else more slots would bring nothing.
            load: Which part of its time the loop was at work, or those that move bytes for it;
                None where that is not known.
        """
        busy = load is not None and load >= BUSY
        rate = work / seconds
        if saturated and busy and self._tries_more:
            return self._judge_busy(rate)
        if not saturated or busy:
            self._before = self._usual = self._more = None
            return self.number
        if self._more is not None:
            return self._judge_fewer(rate)
        if self._has_fallen(rate):
            return self._try_fewer(rate)
        if self._rest:
            self._rest -= 1
            return self.number
        if self._before is not None and rate < self._before * self._worth:
            return self._take_back()
        if self._before is not None:
            self._again = False
        self._before, self._lower, self._greets = rate, self.number, True
        step = STEP if load is None else min(max(self.aim / max(load, 0.01), 1.0), MAX_STEP)
        self._go_to(min(int(step * self.number), self._cap))
        self._worth = (self.number / self._lower) ** WORTH
        if self.number == self._lower:
            self._before = None  # nothing was tried
        return self.number

    def is_little(self, rate: float) -> bool:
        """Whether fewer would be tried where no more than this is moved."""
        return self._usual is not None and rate < FALLEN * self._usual

    @property
    def tries_fewer(self) -> bool:
        return self._more is not None

    @property
    def _tries_more(self) -> bool:
        return self._before is not None and self._more is None and self.number > self._lower

    def _judge_busy(self, rate: float) -> int:
        """More have made the loop busy: in the first window with the handshakes of their
        connections, perhaps, and what they bring is not seen yet."""
        before = self._before
        assert before is not None
        if self._greets:
            self._greets = False
        elif rate < before * self._worth:
            return self._take_back()
        else:
            self._before = self._usual = None
        return self.number

    def _take_back(self) -> int:
        self._go_to(self._lower)
        self._before, self._rest = None, REST * (1 + self._again)
        self._again = True
        return self.number

    def _go_to(self, number: int) -> None:
        if number != self.number:
            self.number, self._usual, self._fallen = number, None, 0

    def _has_fallen(self, rate: float) -> bool:
        """Whether the same number has moved much less than usual, twice."""
        usual = self._usual
        if usual is None or rate >= FALLEN * usual:
            self._fallen = 0
            self._usual = rate if usual is None else usual + _SHARE * (rate - usual)
            return False
        self._fallen += 1
        return self._fallen > 1

    def _try_fewer(self, rate: float) -> int:
        number = max(self._floor, int(FEWER * self.number))
        if number == self.number:
            self._usual, self._fallen = rate, 0
            return number
        self._before, self._more, self._settling = rate, self.number, True
        self._go_to(number)
        return number

    def _judge_fewer(self, rate: float) -> int:
        if self._settling:  # most of it were requests of the number before
            self._settling = False
            return self.number
        before, more = self._before, self._more
        assert before is not None and more is not None
        self._before = self._more = None
        self._rest = REST
        if rate < KEPT * before:
            self._go_to(more)
        elif rate > BETTER * before:
            return self._try_fewer(rate)
        return self.number

    def __repr__(self) -> str:
        return f"<Climber {self.number}/{self._cap}>"
