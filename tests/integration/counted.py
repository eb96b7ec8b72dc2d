"""Runs a piece of work and cancels it at its Nth await, whichever of its tasks makes that one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells of each time it is suspended."""

    def __init__(self, inner: Coroutine[Any, Any, Any], tell: Callable[[], None]) -> None:
        self._inner = inner
        self._tell = tell

    def send(self, value: Any) -> Any:
        waiting = self._inner.send(value)
        self._tell()
        return waiting

    def throw(self, *error: Any) -> Any:
        waiting = self._inner.throw(*error)
        self._tell()
        return waiting

    def close(self) -> None:
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # anyio asks a coroutine whether it has begun

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("a task takes it as it is")


async def cancelled_at(
    number: int, work: Callable[[], Awaitable[object]], *, natively: bool
) -> bool:
    """Run ``work``; False where it was over before its ``number``-th await.

    Args:
        natively: By ``task.cancel()``, as asyncio does it; else by an anyio scope around it.
    """
    loop = asyncio.get_running_loop()
    scope = anyio.CancelScope()
    seen = 0
    task: asyncio.Task[None]

    def tell() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            # In a turn of its own: whoever was suspended is waiting by then.
            loop.call_soon(task.cancel if natively else scope.cancel)

    async def whole() -> None:
        with scope:
            await work()

    def counting(loop: Any, inner: Any, **settings: Any) -> Any:
        return asyncio.Task(_Counted(inner, tell), loop=loop, **settings)

    before = loop.get_task_factory()
    loop.set_task_factory(counting)
    try:
        task = loop.create_task(whole())
        await asyncio.wait([task])
    finally:
        loop.set_task_factory(before)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return seen >= number
