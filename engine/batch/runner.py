"""run_batch(): entries in, a bounded number of runners, a report out.

``move_all`` is the same with what became of each entry handed on as it is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio

from engine.batch.backlog import Backlog
from engine.batch.manifest import Manifest
from engine.batch.report import Failure, Outcome, Report
from engine.batch.walk import Item, items_of
from engine.errors import CredentialsError, EngineError, TransferError
from engine.events import ObjectFailed, WalkDone
from engine.transfer.ahead import STEPS_OF_LISTING, Ahead, connections_ahead
from engine.transfer.checksums import chosen
from engine.transfer.context import TransferContext
from engine.transfer.copy import copy
from engine.transfer.download import download
from engine.transfer.sources import open_file, read_small
from engine.transfer.upload import upload
from engine.types import TransferResult

# Items that wait for a runner: as many as the limiter starts with, so that none is idle while the
# next files are read. Small files are in memory already, 8 MiB of them at most.
BACKLOG = 64
# Of what a listing has found, which holds no bytes: the next page, which takes a round trip at
# least, is asked for while so many of the last ones still wait.
LISTED_BACKLOG = 1000


async def run_batch(manifest: Manifest, context: TransferContext) -> Report:
    """Move every entry. One that fails does not stop the others; lost credentials do.

    Raises:
        UsageError: The manifest itself cannot be read.
        CredentialsError: No credentials are to be had any more.
    """
    report = Report()
    started = context.clock.monotonic()

    async def take(outcome: Outcome) -> None:
        report.add(outcome)

    await move_all(manifest, context, take)
    report.seconds = context.clock.monotonic() - started
    return report


async def move_all(
    manifest: Manifest, context: TransferContext, take: Callable[[Outcome], Awaitable[None]]
) -> None:
    """Move every entry, and tell ``take`` what became of it. While ``take`` waits, a runner does.

    Raises:
        UsageError, CredentialsError: As ``run_batch``.
    """
    runners = 0
    backlog = Backlog[Item]()
    stopped: list[EngineError] = []

    async def runner(scope: anyio.CancelScope) -> None:
        while (item := await backlog.take()) is not None:
            more_runners(backlog.waiting)
            entry = item.entry
            try:
                outcome: Outcome = await _move(item, context)
            except CredentialsError as error:
                stopped.append(error)
                scope.cancel()
                return
            except EngineError as error:
                outcome = Failure(entry, error)
                context.emit(
                    ObjectFailed(entry.url, entry.name, entry.operation, str(error), error.code)
                )
            del item  # its bytes are not to live on while the next one is waited for
            await take(outcome)

    async with _connections_ahead(manifest, context) as ahead, anyio.create_task_group() as tasks:

        def more_runners(items: int) -> None:
            """As many as the limiter finds worth it by now; one for each item at most."""
            nonlocal runners
            ahead.answered = True
            for _ in range(min(items, context.limiter.max_objects - runners)):
                runners += 1
                tasks.start_soon(runner, tasks.cancel_scope)

        try:
            await _feed(manifest, backlog, context, more_runners)
        except EngineError as error:
            stopped.append(error)
            tasks.cancel_scope.cancel()
        backlog.close()
    if stopped:
        raise stopped[0]


def _connections_ahead(
    manifest: Manifest, context: TransferContext
) -> AbstractAsyncContextManager[Ahead]:
    """Where a listing comes first, what it finds is fetched over connections that are there."""
    for tree in manifest.trees:
        if tree.operation == "download":
            return connections_ahead(tree.prefix, context, steps=STEPS_OF_LISTING)
    return nullcontext(Ahead())


async def _feed(
    manifest: Manifest,
    backlog: Backlog[Item],
    context: TransferContext,
    more_runners: Callable[[int], None],
) -> None:
    objects, size = 0, 0
    sized = True
    async for items in items_of(manifest, context):
        for item in items:
            sized &= item.entry.size is not None or bool(item.entry.problem)
            size += item.entry.size or 0
        objects += len(items)
        more_runners(len(items))
        holding = any(item.held is not None for item in items)
        await backlog.put(items, BACKLOG if holding else LISTED_BACKLOG)
    context.emit(WalkDone(objects, size if sized else None))


async def _move(item: Item, context: TransferContext) -> TransferResult:
    entry = item.entry
    if entry.problem:
        raise TransferError(f"{entry.name}: {entry.problem}")
    if entry.operation == "download":
        return await download(entry.url, entry.path, context, item.listed)
    if entry.source is not None:
        return await copy(entry.source, entry.url, context)
    if isinstance(item.held, EngineError):
        raise item.held
    held = item.held
    if item.in_memory:
        held = read_small(entry.path, chosen(context.config.checksum))
    if held is not None:
        return await upload(held, entry.url, context)
    async with open_file(entry.path, context.door) as source:
        return await upload(source, entry.url, context)
