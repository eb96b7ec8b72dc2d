"""run_batch(): entries in, a bounded number of runners, a report out.

``move_all`` is the same with what became of each entry handed on as it is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from engine.batch.manifest import Manifest, ManifestEntry
from engine.batch.report import Failure, Outcome, Report
from engine.batch.walk import entries_of
from engine.errors import CredentialsError, EngineError, TransferError
from engine.events import ObjectFailed, WalkDone
from engine.transfer.context import TransferContext
from engine.transfer.copy import copy
from engine.transfer.download import download
from engine.transfer.sources import open_file
from engine.transfer.upload import upload
from engine.types import ObjectInfo, TransferResult

_Item = tuple[ManifestEntry, ObjectInfo | None]


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
    send, receive = anyio.create_memory_object_stream[_Item](context.limiter.max_objects)
    stopped: list[EngineError] = []

    async def runner(items: MemoryObjectReceiveStream[_Item], scope: anyio.CancelScope) -> None:
        async for entry, listed in items:
            try:
                outcome: Outcome = await _move(entry, listed, context)
            except CredentialsError as error:
                stopped.append(error)
                scope.cancel()
                return
            except EngineError as error:
                outcome = Failure(entry, error)
                context.emit(
                    ObjectFailed(entry.url, entry.name, entry.operation, str(error), error.code)
                )
            await take(outcome)

    with receive:
        async with anyio.create_task_group() as tasks:

            def more_runners() -> None:
                """As many as the limiter finds worth it by now; one for each item at most."""
                nonlocal runners
                if runners < context.limiter.max_objects:
                    runners += 1
                    tasks.start_soon(runner, receive, tasks.cancel_scope)

            await _feed(manifest, send, context, stopped, tasks.cancel_scope, more_runners)
    if stopped:
        raise stopped[0]


async def _feed(
    manifest: Manifest,
    send: MemoryObjectSendStream[_Item],
    context: TransferContext,
    stopped: list[EngineError],
    scope: anyio.CancelScope,
    more_runners: Callable[[], None],
) -> None:
    objects, size = 0, 0
    sized = True
    async with send:
        try:
            async for item in entries_of(manifest, context):
                objects += 1
                sized &= item[0].size is not None or bool(item[0].problem)
                size += item[0].size or 0
                more_runners()
                await send.send(item)
            context.emit(WalkDone(objects, size if sized else None))
        except EngineError as error:
            stopped.append(error)
            scope.cancel()


async def _move(
    entry: ManifestEntry, listed: ObjectInfo | None, context: TransferContext
) -> TransferResult:
    if entry.problem:
        raise TransferError(f"{entry.name}: {entry.problem}")
    if entry.operation == "download":
        return await download(entry.url, entry.path, context, listed)
    if entry.source is not None:
        return await copy(entry.source, entry.url, context)
    async with open_file(entry.path, context.door) as source:
        return await upload(source, entry.url, context)
