"""What an engine does beside those who use it: one manifest, moved while its outcomes are read.

Theory of operation
An async generator must not hold a task group or a cancel scope while it is suspended: it may be
left by ``break`` and be closed later, by another task. So the work runs in the engine's own task
group, and the generator holds a stream's end and a handle. However it is left, by its end, by
``break``, by an error or a cancellation, the work is cancelled and its clean-up waited for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from engine.errors import WrongLoop
from engine.shield import to_the_end
from engine.transfer import TransferContext

if TYPE_CHECKING:
    from engine.batch import Manifest, Outcome
    from engine.batch.journal import Journal


class Work:
    """Something under way in an engine's task group."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._done = False
        self.failed: Exception | None = None

    async def run(self) -> None:
        """In the task group, which an error must not reach: it holds the brokers as well."""
        try:
            with self._scope:
                await self._work()
                self._done = True
        except Exception as error:
            self.failed = error
        finally:
            self._over.set()

    async def stop(self) -> None:
        """Cancel what is not done, and wait until it is cleaned up."""
        self._scope.cancel()
        await to_the_end(self._over.wait())

    async def result(self) -> None:
        """Wait for the end. Raises what the work has failed with."""
        await self._over.wait()
        if self.failed is not None:
            raise self.failed
        if not self._done:
            raise WrongLoop(
                "the engine was closed before all objects were moved",
                fix="Read the outcomes to their end inside `async with Engine(...)`",
            )


async def outcomes(
    manifest: Manifest,
    context: TransferContext,
    start: Callable[[Work], None],
    journal: AbstractAsyncContextManager[Journal | None],
) -> AsyncGenerator[Outcome, None]:
    """What becomes of each entry, as it is known.

    Args:
        start: Begins the work in the engine's task group.
        journal: Opened by the work.
    """
    from engine.batch import Outcome, move_all

    # No room: whoever is slow to read holds the runners back.
    send, receive = anyio.create_memory_object_stream[Outcome](0)

    async def move() -> None:
        with send:
            async with journal as kept:
                await move_all(manifest, context, send.send, kept)

    work = Work(move)
    start(work)
    try:
        async for outcome in receive:
            yield outcome
        await work.result()
    finally:
        try:
            await work.stop()
        finally:
            receive.close()
