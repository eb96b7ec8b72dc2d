"""Runs a target for a while: seed after seed, with an eye on each example's time and on memory."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

# Limits of one example: S3's answers are read in milliseconds.
MAX_SECONDS = 1.0
MAX_GROWTH = 64 * 1024 * 1024
# Memory is looked at so often; a failure names the first seed of the batch.
_BATCH = 200
_WARM = 400


class Hang(BaseException):
    """An example that does not end. Not an Exception: no ``suppress`` may take it."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run. ``failure`` is empty where all was well."""

    examples: int
    seconds: float
    slowest: float
    growth: int
    failure: str = ""
    seed: int | None = None


def run(target: Callable[[Random], None], seconds: float, seed: int, examples: int = 0) -> Outcome:
    """Examples ``seed``, ``seed + 1``, ... for ``seconds``, or so many of them.

    The example of a seed is the same whatever came before it.
    """
    begun, done, slowest = time.monotonic(), 0, 0.0
    base = 0
    while (done < examples) if examples else (time.monotonic() - begun < seconds):
        if done == _WARM:
            base = _peak()
        for number in range(seed + done, seed + done + (_BATCH if not examples else examples)):
            started = time.monotonic()
            try:
                with _limit(MAX_SECONDS):
                    target(Random(number))
            except (Exception, Hang):
                text = traceback.format_exc()
                return Outcome(done, time.monotonic() - begun, slowest, 0, text, number)
            slowest = max(slowest, time.monotonic() - started)
            done += 1
        growth = _peak() - base if base else 0
        if growth > MAX_GROWTH:
            text = f"the process grew by {growth} bytes"
            return Outcome(
                done, time.monotonic() - begun, slowest, growth, text, seed + done - _BATCH
            )
    return Outcome(done, time.monotonic() - begun, slowest, _peak() - base if base else 0)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """By a signal, so that a loop in C that looks for signals ends, too. CPU time: a busy machine
    is no hang."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang(f"over {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _peak() -> int:
    """Bytes of memory that the process had at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
