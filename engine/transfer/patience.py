"""Patience: how long a verb that S3 works at for minutes may take, in all its tries.

What must not live here: what became of a verb that took too long (``look.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import final

import anyio

from engine.errors import AnswerTooSlow
from engine.types import S3Url

# Seconds from the first request on. S3 may send blanks for minutes while it puts parts together or
# copies 5 GiB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
WORK_SECONDS = 600.0


@final
class Patience:
    """Of one verb on one object.

    Args:
        operation: In words, for the error.
    """

    def __init__(self, operation: str, url: S3Url, seconds: float = WORK_SECONDS) -> None:
        self._what = f"{operation} of {url}"
        self._seconds = seconds
        self._end: float | None = None

    @contextlib.contextmanager
    def of_a_try(self) -> Iterator[None]:
        """One request, its slot in hand: who waits for a slot does not wait for S3.

        Raises:
            AnswerTooSlow: The time of all tries is over.
        """
        if self._end is None:
            self._end = anyio.current_time() + self._seconds
        with anyio.CancelScope(deadline=self._end) as scope:
            yield
        if scope.cancelled_caught:
            raise AnswerTooSlow(f"{self._what}: no whole answer within {self._seconds:g} s in all")
