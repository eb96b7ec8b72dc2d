"""SharedLease: one broker's live credentials for other threads and event loops of the process.

What lives here: the way from any thread to the broker's own loop, and back. What must not: when
a set is renewed (``broker.py``), or how another process gets it (``server.py``).

Rules of this file
- While the set is fresh nobody hops: one attribute is read, and its deadline compared with
  ``time.monotonic``, which is the clock of every real event loop of the process.
- Only the broker's own loop touches the broker's state. Whoever must wait asks it there; to give
  up waiting cancels the question, never the renewal.
- Nobody waits for what cannot come: after a fork, when the loop has ended, and when the thread
  that asks is the one that would have to answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from typing import TYPE_CHECKING, Any, NoReturn, final

from engine.errors import SourceUnavailable, WrongLoop
from engine.home import Home
from engine.types import Credentials

if TYPE_CHECKING:
    from engine.credentials.broker import Broker

# Seconds between two looks at whether the broker's loop still runs. A loop that is stopped
# answers nothing and cancels nothing, so a waiter would wait for ever.
_LOOK_EVERY = 0.5
# How far the clock of a real loop may be from time.monotonic: uvloop reads it once an iteration.
_CLOCK_SLACK = 60.0


@final
class SharedLease:
    """A handle on the live credentials of one broker, for every thread and loop of the process.

    ``await lease.ready()`` in a coroutine of any asyncio loop, ``lease.get()`` in any thread.
    Made by ``Broker.shared()``.

    Raises:
        WrongLoop: The broker is not running.
    """

    def __init__(self, broker: Broker) -> None:
        home = broker._home
        if home is None:
            raise WrongLoop("the broker is not running", fix="Use it as `async with Broker(...)`")
        self._broker = broker
        self._loop = home.loop
        self._pid = home.pid
        self._same_clock = _keeps_real_time(home.loop)

    async def ready(self) -> Credentials:
        """The current set; waits only while there is none that is safe to use.

        Raises:
            CredentialsError: None could be had.
            WrongLoop: After a fork, under trio, or when the broker's loop has ended.
        """
        credentials = self._fresh()
        if credentials is not None:
            return credentials
        if Home.here().loop is self._loop:
            return await self._broker.ready()
        waiting = asyncio.wrap_future(self._ask())
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=_LOOK_EVERY)
                self._check_running()
        finally:
            self._give_up(waiting)
        if waiting.cancelled():  # by the end of the broker's loop; our own would have been raised
            self._raise_ended()
        return waiting.result()

    def get(self, timeout: float | None = None) -> Credentials:
        """The current set, for code that is not async. Blocks while there is none.

        Args:
            timeout: Seconds to wait at most; None waits as long as the broker itself tries,
                which is a minute.

        Raises:
            CredentialsError: None could be had (in time).
            WrongLoop: After a fork, when the broker's loop has ended, and in that loop's own
                thread where the call would have to wait: it would wait for itself.
        """
        credentials = self._fresh()
        if credentials is not None:
            return credentials
        if _loop_of_this_thread() is self._loop:
            raise WrongLoop(
                f"{self._broker.describe()} must be renewed, and its event loop is blocked by "
                "the call that waits for that",
                fix="Await ready(), or make the blocking call in a thread (asyncio.to_thread)",
            )
        return self._wait(self._ask(), timeout)

    def _fresh(self) -> Credentials | None:
        if self._pid != os.getpid():
            raise WrongLoop(
                "the shared lease was opened before a fork",
                fix="Open an engine in the child, or give it the credentials of this one by "
                "CredentialServer (`s3engine credentials serve`)",
            )
        if self._loop.is_closed() or self._broker._home is None:
            self._raise_ended()
        live = self._broker._live
        if live is None:
            return None
        if self._same_clock:
            return live.credentials if live.is_fresh(time.monotonic()) else None
        if _loop_of_this_thread() is self._loop and live.is_fresh(self._loop.time()):
            return live.credentials
        return None

    def _ask(self) -> concurrent.futures.Future[Credentials]:
        """The set, asked for in the broker's loop."""
        self._check_running()
        question = self._broker.ready()
        try:
            return asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:  # closed since we looked
            question.close()
            self._raise_ended()

    def _wait(
        self, waiting: concurrent.futures.Future[Credentials], timeout: float | None
    ) -> Credentials:
        end = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = max(0.0, min(_LOOK_EVERY, end - time.monotonic()))
                if concurrent.futures.wait([waiting], left).done:
                    break
                self._check_running()
                if time.monotonic() >= end:
                    raise SourceUnavailable(
                        f"no credentials of {self._broker.describe()} within {timeout:g} s"
                    )
        finally:
            self._give_up(waiting)
        if waiting.cancelled():
            self._raise_ended()
        return waiting.result()

    def _give_up(self, waiting: concurrent.futures.Future[Any] | asyncio.Future[Any]) -> None:
        """Take the question back. A closed loop cannot be told, and has nothing to stop."""
        if not self._loop.is_closed():
            waiting.cancel()

    def _check_running(self) -> None:
        if not self._loop.is_running():
            self._raise_ended()

    def _raise_ended(self) -> NoReturn:
        raise WrongLoop(
            f"the broker that renews {self._broker.describe()} has ended",
            fix="Keep its engine open for as long as the credentials are shared",
        )

    def __reduce__(self) -> NoReturn:
        raise WrongLoop(
            "a shared lease cannot be sent to another process",
            fix="Give that process the credentials by CredentialServer "
            "(`s3engine credentials serve`)",
        )

    def __repr__(self) -> str:
        return f"<SharedLease of {self._broker!r}>"


def _keeps_real_time(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's clock is time.monotonic. A virtual one says that it counts threads."""
    if hasattr(loop, "thread_started"):
        return False
    return abs(loop.time() - time.monotonic()) < _CLOCK_SLACK


def _loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
