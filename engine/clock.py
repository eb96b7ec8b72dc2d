"""Clocks. All time in the package is the event loop's time, so that a virtual loop moves it.

``anyio.fail_after`` and every sleep follow the loop; a clock beside it would disagree with them
under a virtual loop. What must not live here: waiting.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

_IMF_DATE = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}

# Seconds of a correction that somebody hears of: less is whole seconds and the network.
_WORTH_TELLING = 60.0


class LoopClock:
    """Monotonic time of the running loop, and the wall clock corrected by what servers say.

    The wall clock is read once and carried on by the loop's time, so that a clock that jumps
    while a transfer runs changes nothing. ``learn`` moves it to a server's Date header; S3
    refuses a request that is more than 15 minutes off (RequestTimeTooSkewed), STS one of 5.

    Args:
        corrected: Told of the seconds that the first server added.
    """

    def __init__(self, corrected: Callable[[float], None] | None = None) -> None:
        self._corrected = corrected
        self._learned = 0.0
        self._ahead: float | None = None
        self._wall_zero: datetime | None = None
        self._time: Callable[[], float] | None = None

    def settle(self) -> None:
        """Stay with the loop that runs now. To ask which one runs costs a system call on Python
        3.11, and an object asks for the time ten times."""
        self._time = asyncio.get_running_loop().time

    def monotonic(self) -> float:
        """Seconds of the running loop's clock."""
        if self._time is not None:
            return self._time()
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The wall clock in UTC, as far as it is known."""
        if self._wall_zero is None:
            self._wall_zero = datetime.now(UTC) - timedelta(seconds=self.monotonic())
        return self._wall_zero + timedelta(seconds=self.monotonic())

    def learn(self, server_time: datetime) -> float:
        """Set the wall clock to a server's; returns the correction in seconds."""
        offset = (server_time - self.now()).total_seconds()
        assert self._wall_zero is not None
        self._wall_zero += timedelta(seconds=offset)
        self._learned += offset
        self._ahead = 0.0
        if self._corrected is not None and abs(offset) >= _WORTH_TELLING:
            corrected, self._corrected = self._corrected, None
            corrected(offset)
        return offset

    def heard(self, server_time: datetime) -> None:
        """What time it is at a server that did not mind ours: signatures go on by ours."""
        self._ahead = (server_time - self.now()).total_seconds()

    def of_servers(self) -> datetime | None:
        """The time at the server that was heard last; None where none was."""
        return None if self._ahead is None else self.now() + timedelta(seconds=self._ahead)

    def as_servers(self, at: datetime) -> datetime:
        """What time it was at the server when this machine's own clock said ``at``, if both went on
        as they do now."""
        return at + timedelta(seconds=self._learned + (self._ahead or 0.0))


def http_date(text: str | None, *, unzoned: tzinfo | None = None) -> datetime | None:
    """A date as HTTP writes it (RFC 9110, 5.6.7), aware; None where there is none to be read.

    Args:
        unzoned: Zone of a date that names none (``-0000``); None does not take such a date.
    """
    if not text:
        return None
    date = _imf_date(text)
    if date is not None:
        return date
    from email.utils import parsedate_to_datetime  # 5 ms, and hardly anybody writes another form

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        return None if unzoned is None else date.replace(tzinfo=unzoned)
    return date


def _imf_date(text: str) -> datetime | None:
    """The one form that servers are to write: ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    match = _IMF_DATE.fullmatch(text)
    month = _MONTHS.get(match[2]) if match is not None else None
    if match is None or month is None:
        return None
    day, _, year, hour, minute, second = match.groups()
    try:
        return datetime(int(year), month, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
