"""How long a thread had something to do: ran, or waited for a CPU where the system tells that.

What is left of the time that has passed it waited for something else: a lock, a disk, a network.
"""

from __future__ import annotations

import os
import time
from typing import final

# https://docs.kernel.org/scheduler/sched-stats.html: nanoseconds on a CPU, nanoseconds waiting for
# one, and how often.
_TOLD = "/proc/thread-self/schedstat"


def used_by_thread() -> float:
    """Seconds of the thread that asks."""
    try:
        with open(_TOLD, "rb", buffering=0) as file:
            return _seconds(file.read(100))
    except (OSError, ValueError):  # not Linux, or not told
        return time.thread_time()


@final
class ThreadTime:
    """``used_by_thread`` of the thread that asks first, for who asks hundreds of times a second:
    each call of the system is one more wait for the interpreter lock."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._is_told = True

    def used(self) -> float:
        if self._is_told:
            try:
                if self._file is None:
                    self._file = os.open(_TOLD, os.O_RDONLY | os.O_CLOEXEC)
                return _seconds(os.pread(self._file, 100, 0))
            except (OSError, ValueError):
                self._is_told = False
        return time.thread_time()

    def close(self) -> None:
        """To be called once; it cannot be asked again."""
        self._is_told = False
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _seconds(told: bytes) -> float:
    ran, waited, _ = told.split()
    return (int(ran) + int(waited)) / 1e9
