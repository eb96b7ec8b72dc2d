"""Home: the event loop and the process that an object belongs to.

Sockets, locks and tasks of asyncio work in one loop of one process. Used elsewhere they fail in
ways that say nothing, so whoever holds them asks first.
"""

from __future__ import annotations

import asyncio
import os
from typing import Self

from msgspec import Struct

from engine.errors import WrongLoop


class Home(Struct, frozen=True):
    """Where an object was opened."""

    loop: asyncio.AbstractEventLoop
    pid: int

    @classmethod
    def here(cls) -> Self:
        """Raises WrongLoop where no asyncio loop runs, as under trio."""
        return cls(_running_loop(), os.getpid())

    def check(self, what: str) -> None:
        """Raises WrongLoop in another process or event loop than the one of ``here``."""
        if self.pid != os.getpid():
            raise WrongLoop(f"the {what} was opened before a fork", fix="Open one in each process")
        if self.loop is not _running_loop():
            raise WrongLoop(
                f"the {what} was opened in another event loop", fix="Open one in each loop"
            )


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoop(
            "no asyncio event loop is running here",
            fix="s3engine runs on asyncio: use asyncio.run, or anyio.run with its asyncio backend",
        ) from None
