"""Slow parts: one that takes much longer than its siblings is given up, and sent again elsewhere.

What lives here: how long is too long. What must not: the second try (``engine.retry``).

Of hundreds of connections some are slow without being dead: a lossy path, a server that is about to
go. S3's own advice is to look for requests that take longer than most, and to make them again; the
new one has a new connection, and with it most likely another server. Whatever the old one would
still answer nobody hears: its connection is closed.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html

All parts of an engine are siblings, by the time that they take for a byte: where the whole network
is slow, all are, and none is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import anyio

from engine.errors import ConnectionFailed
from engine.types import S3Url

# Times the median, and seconds at least: the stall's own limit is as long.
TOO_SLOW, LEAST_SECONDS = 3.0, 10.0
# Parts that have to be known before one is judged, and that are remembered.
ENOUGH, REMEMBERED = 8, 64
# Of all parts so many may be given up, and one more: what is sent twice costs the others.
MAX_SHARE = 0.03


class _Part:
    __slots__ = ("began", "scope", "size")

    def __init__(self, size: int, began: float, scope: anyio.CancelScope) -> None:
        self.size = size
        self.began = began
        self.scope = scope


@final
class SlowParts:
    """The parts under way of one engine.

    Args:
        share: Seconds that so many bytes take by a limit of bandwidth, where there is one.

    Attributes:
        done, given_up: Parts so far.
    """

    def __init__(self, share: Callable[[int], float] | None = None) -> None:
        self._share = share
        self.done = self.given_up = 0
        self._paces: deque[float] = deque(maxlen=REMEMBERED)
        self._under_way: set[_Part] = set()
        self._usual = 0.0

    @contextmanager
    def watching(self, operation: str, url: S3Url, size: int) -> Iterator[None]:
        """A block that is one request of ``size`` bytes.

        Raises:
            ConnectionFailed: It took much longer than its siblings.
        """
        with anyio.CancelScope() as scope:
            part = _Part(size, anyio.current_time(), scope)
            self._under_way.add(part)
            self._limit(part)
            try:
                yield
                self._learn(part)
            finally:
                self._under_way.discard(part)
        if scope.cancelled_caught:
            self.given_up += 1
            seconds = anyio.current_time() - part.began
            raise ConnectionFailed(
                f"{operation} of {url}: {size} bytes took over {seconds:.0f} s, and others "
                f"{self._usual * size:.1f} s"
            )

    def _learn(self, part: _Part) -> None:
        self.done += 1
        self._paces.append((anyio.current_time() - part.began) / max(part.size, 1))
        if len(self._paces) >= ENOUGH:
            paces, half = sorted(self._paces), len(self._paces) // 2
            self._usual = (paces[half] + paces[~half]) / 2  # the median
            for other in self._under_way:
                self._limit(other)

    def _limit(self, part: _Part) -> None:
        if self._usual and self.given_up < 1 + MAX_SHARE * self.done:
            usual = self._usual * part.size
            if self._share is not None:
                usual = max(usual, self._share(part.size))
            seconds = max(TOO_SLOW * usual, LEAST_SECONDS)
            part.scope.deadline = part.began + seconds
        else:
            part.scope.deadline = float("inf")

    def __repr__(self) -> str:
        return f"<SlowParts {self.given_up}/{self.done} under_way={len(self._under_way)}>"
