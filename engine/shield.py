"""What must not be cut short: to_the_end(), and tasks of an object: Tasks.

anyio's shields keep anyio's own cancellations away. Those of asyncio (``task.cancel()``, which
``asyncio.timeout`` and ``asyncio.TaskGroup`` use) go through every shield, so what is to be
finished runs in a task that nobody else knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, final

import anyio

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T], grace: float | None = None) -> T:
    """The result of ``work``, which is finished whatever cancels the caller, and however often.

    The work sets its own limit in time.

    Args:
        grace: Seconds that a cancelled caller waits for the work before it is cancelled as well.

    Raises:
        asyncio.CancelledError: When the work is over, if the caller was cancelled meanwhile; what
            the work made or raised is then lost to the caller.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task], timeout=None if cancelled is None else grace)
                if cancelled is not None and grace is not None:
                    task.cancel()
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, as nobody else will
        raise cancelled
    return task.result()


@final
class Tasks:
    """Work of an object that is closed some time: whoever began it may be gone before its end.

    The work tells its errors itself.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it in the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Until what is under way now is over."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """End all of it; ``wait`` tells when it has ended."""
        for task in self._tasks:
            task.cancel()

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Tasks {len(self._tasks)}>"
