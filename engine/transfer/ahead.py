"""Connections that are opened while the first answer of a transfer is under way.

What lives here: when, and how many. What must not: connections.

A far server answers the first request after three round trips with TLS (TCP, TLS, the request), and
each further connection would take three again. Opened meanwhile, they are there when S3 has said
what is to be fetched, or where parts go. A near server has answered before the first step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio

from engine.transfer.context import TransferContext
from engine.transfer.limiter import PACED_SHARE
from engine.types import S3Url

# So long after the first request, in seconds, so many connections: as many as the limiter begins
# with; and about twice as many where three round trips take longer than three times FAR of the
# climber.
STEPS = ((0.02, 16), (0.15, 32))


# The same for a listing, behind which many small objects may be.
STEPS_OF_LISTING = ((0.02, 16), (0.15, 64))


class Ahead:
    """Told when the first answer is there: from then on requests open what they need."""

    def __init__(self) -> None:
        self.answered = False


def connections_ahead(
    url: S3Url,
    context: TransferContext,
    most: int = 512,
    steps: tuple[tuple[float, int], ...] = STEPS,
) -> AbstractAsyncContextManager[Ahead]:
    """A block that begins with a request whose answer many others wait for.

    Args:
        most: Connections that can be of use.
        steps: When to have how many.
    """
    if context.limiter.pace is not None:
        most = min(most, max(1, context.limiter.pace.limit // PACED_SHARE))
    distance = context.data.round_trip()
    if distance and distance < steps[0][0]:
        return nullcontext(Ahead())  # near: the answer is there first
    return _opening(url, context, most, steps)


@asynccontextmanager
async def _opening(
    url: S3Url, context: TransferContext, most: int, steps: tuple[tuple[float, int], ...]
) -> AsyncIterator[Ahead]:
    ahead = Ahead()
    failed: BaseException | None = None

    async def open_them(tasks: anyio.abc.TaskGroup) -> None:
        await context.data.open_ahead(url, 1)  # by then the certificates are read
        waited = 0.0
        for seconds, number in steps:
            await anyio.sleep(seconds - waited)
            if ahead.answered:
                return
            waited = seconds
            tasks.start_soon(context.data.open_ahead, url, min(number, most))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_them, tasks)
        try:
            yield ahead
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            failed = error  # raised below: the task group would put it into a group
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
