"""Throttles: what S3 has asked us to be slow with, each prefix by itself.

What lives here: who may ask S3 for a prefix that it has refused requests of. What must not: how
many requests a run has under way in all (``climber.py``), a second try (``engine.retry``).

S3 counts requests by partition, a range of keys that it makes and moves as it sees fit: 3,500
writes and 5,500 reads a second each, fewer while it splits one. Where the borders are nobody is
told, so the folder of a refused key stands for its partition, and where many folders of one parent
are refused, the parent does.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html

Theory of operation
A prefix that was never refused has no state and no limit of its own. The first refusal makes a
throttle: a seventh fewer requests at once, then back to the number that was refused within two
seconds, slower the nearer it comes, and from there on past it, faster the longer nothing is refused
(the curve of CUBIC, RFC 9438). Answers to requests that began before the last step say nothing new.
Where most is refused the number is halved, and the one that used to work is kept: S3 is out, and
will have the capacity that it had.
Retry-After holds for the whole prefix: nobody asks before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import final

from engine.errors import S3Error
from engine.protocols import Clock
from engine.retry import MAX_RETRY_AFTER
from engine.types import S3Url

# The second where most was refused since the last time.
SHED, SHED_OUT = 0.86, 0.5
# Who is refused below the number that it had before makes room: others have come.
ROOM = 0.92
FLOOR = 2
# Seconds until the refused number is reached again; how fast it is left behind, per second cubed.
PLATEAU, GROWTH = 2.0, 0.07
# Throttles that are kept, and for how many seconds after the last refusal. By then the curve is far
# above any number of requests.
MAX_THROTTLES, FORGET = 32, 60.0
# A prefix that does nothing but refuse for so long is given up by whoever asks. Seconds.
PATIENCE = 45.0
# While somebody waits it is looked so often whether the number has grown. Seconds.
_LOOK = 0.05


@final
class Recovery:
    """How many requests at once, in time. PURE.

    Args:
        number: That was refused.
    """

    def __init__(self, number: float, now: float) -> None:
        self._most = self._low = number
        self._since = now
        self.shed(now, worked=True)

    def at(self, now: float) -> float:
        """The number by now."""
        passed = max(0.0, now - self._since)
        if passed < PLATEAU:
            return self._most - (self._most - self._low) * (1 - passed / PLATEAU) ** 3
        return self._most * (1 + GROWTH * (passed - PLATEAU) ** 3)

    def shed(self, now: float, *, worked: bool, used: float = float("inf")) -> None:
        """The number was refused.

        Args:
            worked: Most of the requests since the last time were not.
            used: Requests that there really were.
        """
        number = min(self.at(now), used)
        if worked:
            self._most = max(number * (ROOM if number < 0.97 * self._most else 1), FLOOR)
        self._low = max(number * (SHED if worked else SHED_OUT), FLOOR)
        self._most = max(self._most, self._low)
        self._since = now

    def hold(self, until: float) -> None:
        """Nothing is learned before ``until``."""
        self._since = max(self._since, until)

    def __repr__(self) -> str:
        return f"<Recovery {self._low:.0f}..{self._most:.0f}>"


@final
class Throttle:
    """Of one prefix. Who enters leaves."""

    def __init__(self, number: float, clock: Clock, on_wait: Callable[[], None]) -> None:
        self.in_flight = 0
        self.refused_at = clock.monotonic()
        self._clock = clock
        self._on_wait = on_wait
        self._recovery = Recovery(number, self.refused_at)
        self._paused_until = 0.0
        self._most = 0
        self._worked = self._refusals = 0
        self._refusing_since: float | None = None
        self._refusal: S3Error | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        """Requests at once, by now."""
        return int(self._recovery.at(self._clock.monotonic()))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def paused(self) -> bool:
        """Whether S3 has said when to ask again, and it is not yet time."""
        return self._clock.monotonic() < self._paused_until

    def enter_now(self) -> bool:
        """Whether there was a place, which is taken then."""
        if self._waiting or not self._admits():
            return False
        self._take()
        return True

    async def enter(self) -> None:
        """Wait for a place.

        Raises:
            S3Error: S3 has refused everything for ``PATIENCE`` seconds.
        """
        if self.enter_now():
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._arm()
        self._on_wait()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()  # it came together with the cancellation
            else:
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        assert self.in_flight >= 0, "more places given back than taken"
        self._serve()

    def worked(self) -> None:
        """A request was not refused."""
        self._worked += 1
        self._refusing_since = None

    def refused(self, error: S3Error, began: float) -> None:
        """A request that was made at ``began`` was refused; after long enough it is final."""
        now = self._clock.monotonic()
        if self._refusing_since is None:
            self._refusing_since = now
        if began >= self.refused_at or self._refusal is None:
            if self._refusal is not None:
                used = max(self._most, FLOOR)
                worked = self._worked > self._refusals
                self._recovery.shed(now, worked=worked, used=used)
            self._worked = self._refusals = 0
            self._most, self.refused_at = self.in_flight, now
        self._refusals += 1
        if error.retry_after:
            until = now + min(error.retry_after, MAX_RETRY_AFTER)
            self._paused_until = max(self._paused_until, until)
            self._recovery.hold(self._paused_until)
        if now - self._refusing_since >= PATIENCE:
            error.most_attempts = 1
        self._refusal = error

    def idle_since(self, moment: float) -> bool:
        """Whether nobody needs it, and nothing was refused after ``moment``."""
        return not (self.in_flight or self._waiting) and self.refused_at < moment

    def _admits(self) -> bool:
        return not self.paused and self.in_flight < self.number

    def _take(self) -> None:
        self.in_flight += 1
        self._most = max(self._most, self.in_flight)

    def _serve(self) -> None:
        while self._waiting and self._admits():
            place = self._waiting.popleft()
            if not place.done():
                self._take()
                place.set_result(None)

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            seconds = max(self._paused_until - self._clock.monotonic(), _LOOK)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        since, refusal = self._refusing_since, self._refusal
        if since is not None and refusal is not None:
            if self._clock.monotonic() - since >= PATIENCE:
                self._give_up(refusal)
        self._serve()
        self._arm()

    def _give_up(self, refusal: S3Error) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(_final(refusal))

    def __repr__(self) -> str:
        return f"<Throttle {self.in_flight}/{self.number} waiting={len(self._waiting)}>"


@final
class Throttles:
    """All of one engine; none, most of the time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all: dict[tuple[str, str], Throttle] = {}
        self._listeners: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def waiting(self) -> int:
        """Requests that wait, over all prefixes."""
        return sum(throttle.waiting for throttle in self._all.values())

    def of(self, url: S3Url) -> Throttle | None:
        """The throttle that a request for ``url`` is subject to, if any."""
        for prefix in _folders(url.key):
            found = self._all.get((url.bucket, prefix))
            if found is not None:
                return found
        return None

    def refused(self, url: S3Url, error: S3Error, began: float, in_flight: int) -> None:
        """S3 has refused a request that was made at ``began``, with ``in_flight`` under way."""
        throttle = self.of(url)
        if throttle is None:
            self._forget()
            throttle = Throttle(in_flight, self._clock, self._tell)
            self._all[url.bucket, self._area(url)] = throttle
        throttle.refused(error, began)

    def _area(self, url: S3Url) -> str:
        """The folder of the key; a parent of it where there are many throttles already."""
        folders = list(_folders(url.key))
        if len(self._all) < MAX_THROTTLES:
            return folders[0]
        for folder in folders:
            below = [
                True
                for bucket, prefix in self._all
                if bucket == url.bucket and prefix.startswith(folder)
            ]
            if len(below) > 1:
                return folder
        return ""

    def _forget(self) -> None:
        before = self._clock.monotonic() - FORGET
        for place, throttle in list(self._all.items()):
            if throttle.idle_since(before):
                del self._all[place]

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """A block in which ``listener`` is called when somebody begins to wait."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def __repr__(self) -> str:
        return f"<Throttles {self._all}>"


def _final(refusal: S3Error) -> S3Error:
    """For one more who waited: each adds its own traceback and notes."""
    error = S3Error(
        refusal.headline, s3_code=refusal.s3_code, status=refusal.status, fix=refusal.fix
    )
    error.facts = refusal.facts
    error.most_attempts = 1
    return error


def _folders(key: str) -> Iterator[str]:
    """The folder of a key, and those above it; the bucket itself, "", is the last."""
    end = len(key)
    while (end := key.rfind("/", 0, end)) >= 0:
        yield key[: end + 1]
    yield ""
