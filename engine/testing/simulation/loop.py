"""The loop of a simulation: one thread, virtual time, an order of things that a seed decides.

Rules of this file
- Nothing waits: when nothing is left to do, the clock jumps to the next timer.
- A call that the engine makes "in a thread" is made here, in this thread, some time later; who
  asked for it may be cancelled before it begins, or while it is under way.
- The same seed gives the same order: tasks and cancel scopes are numbered, because sets of them
  would else be walked in the order of their addresses.
- A death drops all that runs without a word: no ``finally`` is reached any more, see ``Death``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar, final

from anyio import CancelScope
from anyio._backends._asyncio import _task_states

from engine.testing.clock import VirtualLoop

T = TypeVar("T")

# Blocks that one task may be in, each of which waits on its way out.
_MAX_CLOSES = 50
# Seconds that a call "in a thread" waits to begin, and takes; of most, and of one in so many.
_CALL_SECONDS, _SLOW_CALL_SECONDS, _SLOW_EVERY = 0.001, 0.2, 40


class Death(BaseException):
    """The process has died at this point. What runs on the way out finds nothing to act on."""


class TooLong(Exception):
    """The run did not end within the time that is promised, or goes round without time passing."""


@final
class _Task(asyncio.Task[Any]):
    """Hashed by a number of its own loop: the order in sets must not be that of addresses."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: SimulatedLoop) -> None:
        self._number = loop.next_number()
        super().__init__(coroutine, loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _scope_hash(scope: Any) -> int:
    return hash(scope._host_task)


@final
class SimulatedLoop(VirtualLoop):
    """One run of a process.

    Args:
        random: Decides how long calls in threads take.
        max_seconds: Virtual seconds that the run may take.
        max_steps: Turns of the loop that it may take.
    """

    def __init__(
        self, random: Random, *, start: float, max_seconds: float, max_steps: int = 200_000
    ) -> None:
        super().__init__()
        self._virtual_now = start
        self._random = random
        self._end = start + max_seconds
        self._steps_left = max_steps
        self._numbers = 0
        self._failed: BaseException | None = None
        self.dead = False
        self.die_at_step = -1
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]  # no context is used

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]
    ) -> asyncio.Task[T]:
        return _Task(coroutine, loop=self)

    # What the loop's users do.

    def thread_started(self) -> None:
        """Here no thread is at work, and time goes on."""

    def thread_ended(self) -> None:
        pass

    def call_soon_threadsafe(  # type: ignore[override]  # as in the loop above
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]  # as in the loop above
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        raise AssertionError("threads are asked for by ThreadDoor alone")

    def make_call(self, take: Callable[[], bool], work: Callable[[], None]) -> None:
        """See ``engine.threads``: a call begins some time later, and takes some."""

        def begin() -> None:
            if not self.dead and take():
                self.call_later(self._call_seconds(), end)

        def end() -> None:
            if not self.dead:
                work()

        self.call_later(self._call_seconds(), begin)

    def _call_seconds(self) -> float:
        if self._random.randrange(_SLOW_EVERY) == 0:
            return self._random.random() * _SLOW_CALL_SECONDS
        return self._random.random() * _CALL_SECONDS

    # The run.

    def run(self, main: Coroutine[Any, Any, T]) -> T | None:
        """What ``main`` returns; None where it died.

        Raises:
            TooLong: It did not end.
            BaseException: Whatever ``main`` raises.
        """
        task = self.create_task(main)
        task.add_done_callback(lambda _: self.stop())
        with _numbered_scopes():
            self.run_forever()
        if self.dead:
            return None
        if self._failed is not None:
            self._drop()
            raise self._failed
        return task.result()

    def _run_once(self) -> None:
        self._steps_left -= 1
        self.die_at_step -= 1
        if self.die_at_step == 0:
            self.dead = True
        if self.dead:
            self.stop()
            return
        if self._steps_left < 0:
            self._failed = TooLong("it goes round and round")
        elif self._virtual_now > self._end:
            self._failed = TooLong(f"not over after {self._virtual_now:.0f} s")
        if self._failed is not None:
            self.dead = True
            self.stop()
            return
        super()._run_once()  # type: ignore[misc]  # asyncio's own, not in the stubs

    def bury(self) -> None:
        """After a death: let go of everything, without any of it having an effect any more."""
        self.dead = True
        self._drop()

    def left_over(self) -> list[str]:
        """Tasks that should have ended with ``main``."""
        return sorted(str(task.get_coro()) for task in asyncio.all_tasks(self))

    def _drop(self) -> None:
        """What waits is closed here and now: the collector would do it later, in some other run.
        Whatever its ``finally`` blocks do finds a dead disk and a dead network."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        asyncio._set_running_loop(self)
        closed: set[asyncio.Task[Any]] = set()
        try:
            # What is closed may begin something in its turn.
            while waiting := asyncio.all_tasks(self) - closed:
                for task in waiting:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task)
                closed |= waiting
            # What anyio keeps of tasks whose scopes have not ended leads back to them.
            for task in [one for one in _task_states if one.get_loop() is self]:
                del _task_states[task]
            self._ready.clear()  # type: ignore[attr-defined]
            self._scheduled.clear()  # type: ignore[attr-defined]
            self.set_exception_handler(lambda loop, context: None)
        finally:
            asyncio._set_running_loop(None)
            sys.unraisablehook = hook
        self.close()

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        if not self.dead:
            super()._asyncgen_finalizer_hook(generator)  # type: ignore[misc]


def _close(task: asyncio.Task[Any]) -> None:
    """A block that waits on its way out has to be told again."""
    for _ in range(_MAX_CLOSES):
        try:
            task.get_coro().close()
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):
                continue
        except BaseException:
            pass
        return


@contextmanager
def _numbered_scopes() -> Iterator[None]:
    """anyio keeps cancel scopes in sets, too."""
    before = CancelScope.__hash__
    CancelScope.__hash__ = _scope_hash  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        CancelScope.__hash__ = before  # type: ignore[method-assign]
