"""run_batch(): entries in, a bounded number of runners, a report out."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from engine.batch.manifest import Manifest, ManifestEntry
from engine.batch.report import Failure, Report
from engine.batch.walk import entries_of
from engine.errors import CredentialsError, EngineError, TransferError
from engine.events import ObjectFailed
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
    runners = 0
    send, receive = anyio.create_memory_object_stream[_Item](context.limiter.max_objects)
    stopped: list[EngineError] = []

    async def runner(items: MemoryObjectReceiveStream[_Item], scope: anyio.CancelScope) -> None:
        async for entry, listed in items:
            try:
                report.add(await _move(entry, listed, context))
            except CredentialsError as error:
                stopped.append(error)
                scope.cancel()
            except EngineError as error:
                report.failed.append(Failure(entry, error))
                context.emit(
                    ObjectFailed(entry.url, entry.name, entry.operation, str(error), error.code)
                )

    async with anyio.create_task_group() as tasks:

        def more_runners() -> None:
            """As many as the limiter finds worth it by now; one for each item at most."""
            nonlocal runners
            if runners < context.limiter.max_objects:
                runners += 1
                tasks.start_soon(runner, receive, tasks.cancel_scope)

        await _feed(manifest, send, context, stopped, tasks.cancel_scope, more_runners)
    receive.close()
    if stopped:
        raise stopped[0]
    report.seconds = context.clock.monotonic() - started
    return report


async def _feed(
    manifest: Manifest,
    send: MemoryObjectSendStream[_Item],
    context: TransferContext,
    stopped: list[EngineError],
    scope: anyio.CancelScope,
    more_runners: Callable[[], None],
) -> None:
    async with send:
        try:
            async for item in entries_of(manifest, context):
                more_runners()
                await send.send(item)
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
