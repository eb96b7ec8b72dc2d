"""run_batch(): entries in, a bounded number of runners, a report out.

``move_all`` is the same with what became of each entry handed on as it is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio
from msgspec.structs import replace

from engine.batch.backlog import Backlog
from engine.batch.manifest import Manifest, ManifestEntry
from engine.batch.report import Failure, Outcome, Report
from engine.batch.walk import Item, items_of
from engine.errors import CredentialsError, DiskFull, EngineError, ObjectExists, TransferError
from engine.events import ObjectFailed, ObjectKnown, WalkDone
from engine.transfer.ahead import STEPS_OF_LISTING, Ahead, connections_ahead
from engine.transfer.checksums import chosen
from engine.transfer.context import TransferContext
from engine.transfer.copy import copy
from engine.transfer.download import download, download_folder
from engine.transfer.folders import Trees
from engine.transfer.limiter import Limiter
from engine.transfer.nameless import drop_nameless
from engine.transfer.slots import Slots
from engine.transfer.sources import SMALL_FILE, BytesSource, open_file, read_small
from engine.transfer.temporaries import Temporaries
from engine.transfer.upload import upload
from engine.transfer.writer import FileWriter
from engine.transfer.written_before import MayBeThere, written_before
from engine.types import TransferResult

if TYPE_CHECKING:
    from engine.batch.journal import Journal

# Items that wait for a runner: as many as the limiter starts with, so that none is idle while the
# next files are read. Small files are in memory already, 8 MiB of them at most.
BACKLOG = 64
# Of what a listing has found, which holds no bytes: the next page, which takes a round trip at
# least, is asked for while so many of the last ones still wait.
LISTED_BACKLOG = 1000
# Objects in a row for which there was no room on the disk: then there is none for the others
# either, and each would be fetched for nothing.
MAX_WITHOUT_ROOM = 8


async def run_batch(
    manifest: Manifest, context: TransferContext, journal: Journal | None = None
) -> Report:
    """Move every entry. One that fails does not stop the others; lost credentials do.

    Args:
        journal: What was done is kept there; what it has is not done again.

    Raises:
        UsageError: The manifest itself cannot be read.
        CredentialsError: No credentials are to be had any more.
        DiskFull: Nothing can be written any more, as some objects in a row have found.
        JournalError: The journal cannot be read.
    """
    report = Report()
    started = context.clock.monotonic()

    async def take(outcome: Outcome) -> None:
        report.add(outcome)

    await move_all(manifest, context, take, journal)
    report.seconds = context.clock.monotonic() - started
    return report


async def move_all(
    manifest: Manifest,
    context: TransferContext,
    take: Callable[[Outcome], Awaitable[None]],
    journal: Journal | None = None,
) -> None:
    """Move every entry, and tell ``take`` what became of it. While ``take`` waits, a runner does.

    Raises:
        UsageError, CredentialsError, DiskFull, JournalError: As ``run_batch``.
    """
    if journal is not None:
        context = _of_run(context, journal)
    with Trees() as trees, _Bodies(context.limiter.bodies) as bodies:
        failed = await _move_all(manifest, context, take, journal, trees, bodies)
    if journal is not None:
        for url, kept in journal.may_come():
            await drop_nameless(url, replace(context, journal=kept))
        journal.finish(failed)


async def _move_all(
    manifest: Manifest,
    context: TransferContext,
    take: Callable[[Outcome], Awaitable[None]],
    journal: Journal | None,
    trees: Trees,
    bodies: _Bodies,
) -> int:
    """How many have failed, and may be tried again."""
    runners, tally = _Runners(context.limiter), _Tally()
    backlog = Backlog[Item]()
    stopped: list[EngineError] = []
    within = _contexts(context, trees)

    async def runner(scope: anyio.CancelScope) -> None:
        while (item := await backlog.take()) is not None:
            in_parts = _goes_in_parts(item, context)
            runners.in_parts += in_parts
            more_runners(backlog.waiting)
            try:
                outcome = await _outcome(item, within(item.entry), journal, in_parts)
            except CredentialsError as error:
                stopped.append(error)
                scope.cancel()
                return
            full = tally.count(outcome)
            if full is not None:
                stopped.append(full)
                scope.cancel()
                return
            bodies.give(item)
            del item  # its bytes are not to live on while the next one is waited for
            await take(outcome)
            runners.in_parts -= in_parts
            if runners.more < 0:
                break
        runners.all -= 1

    opening = _connections_ahead(manifest, context)
    # Where some wait for a prefix, others have objects elsewhere.
    with context.limiter.throttles.listening(lambda: more_runners(backlog.waiting)):
        async with opening as ahead, anyio.create_task_group() as tasks:

            def more_runners(items: int) -> None:
                """As many as the limiter finds worth it by now; one for each item at most."""
                ahead.answered = True
                for _ in range(min(items, runners.more)):
                    runners.all += 1
                    tasks.start_soon(runner, tasks.cancel_scope)

            async def feed(items: list[Item]) -> None:
                if journal is not None and journal.resumed:
                    items = await _not_known(items, journal, context, take)
                    items = await _not_there(items, journal, within, take)
                await bodies.take(items)
                more_runners(len(items))
                holding = any(item.held is not None for item in items)
                await backlog.put(items, BACKLOG if holding else LISTED_BACKLOG)

            try:
                found = await _feed(manifest, context, trees, feed)
                if journal is not None:
                    journal.planned(found.objects, found.size)
            except EngineError as error:
                stopped.append(error)
                tasks.cancel_scope.cancel()
            backlog.close()
    if stopped:
        raise stopped[0]
    return tally.failed


class _Runners:
    """How many there are.

    Attributes:
        in_parts: Those of them that have an object which goes in parts.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.all = self.in_parts = 0

    @property
    def more(self) -> int:
        """How many more are worth it; below zero, how many too many there are."""
        limiter, small = self._limiter, self.all - self.in_parts
        return min(limiter.max_objects - self.all, limiter.max_small_objects - small)


class _Tally:
    """What became of the entries so far."""

    def __init__(self) -> None:
        self.failed = 0
        self._without_room = 0

    def count(self, outcome: Outcome) -> DiskFull | None:
        """Why the run is to stop, where it is."""
        if not isinstance(outcome, Failure):
            self._without_room = 0
            return None
        error = outcome.error
        self.failed += not isinstance(error, ObjectExists)  # to try again would not help
        self._without_room += isinstance(error, DiskFull)
        if self._without_room < MAX_WITHOUT_ROOM:
            return None
        return DiskFull(
            f"{error.headline}; so for {MAX_WITHOUT_ROOM} objects in a row: the run was stopped",
            fix=f"{error.fix}, and run it again" if error.fix else "",
        )


def _contexts(context: TransferContext, trees: Trees) -> Callable[[ManifestEntry], TransferContext]:
    """What an entry is moved with: one context for all files that must stay in one folder."""
    written: dict[Path, TransferContext] = {}
    read: dict[Path, TransferContext] = {}

    def within(entry: ManifestEntry) -> TransferContext:
        below = entry.below
        if below is None:
            return context
        made = read if entry.operation == "upload" else written
        found = made.get(below)
        if found is None:
            if made is read:
                found = replace(context, source_tree=trees.source(below))
            else:
                found = replace(context, tree=trees.of(below))
            made[below] = found
        return found

    return within


def _of_run(context: TransferContext, journal: Journal) -> TransferContext:
    """Files get names that tell the run."""
    names = Temporaries(journal.run_id, journal.session, resumed=journal.follows)
    return replace(
        context, temporaries=names, writer=FileWriter(context.door, names, remembers=True)
    )


async def _not_known(
    items: list[Item],
    journal: Journal,
    context: TransferContext,
    take: Callable[[Outcome], Awaitable[None]],
) -> list[Item]:
    """The items that are still to be moved. The others count as done."""
    left: list[Item] = []
    found = await journal.known([item.entry for item in items])
    for item, known in zip(items, found, strict=True):
        entry = item.entry
        if known is None:
            left.append(item)
            continue
        await take(_known_before(entry, *known, context))
    return left


async def _not_there(
    items: list[Item],
    journal: Journal,
    within: Callable[[ManifestEntry], TransferContext],
    take: Callable[[Outcome], Awaitable[None]],
) -> list[Item]:
    """The items that are still to be moved. The others are small files that have their names: an
    earlier process died before the journal said so."""
    if not items:
        return items
    files: list[MayBeThere | None] = []
    for item in items:
        known = journal.has_left(item.entry)
        files.append(None if known else _may_be_there(item, within(item.entry)))
    asked = [file for file in files if file is not None]
    if not asked:
        return items
    context = within(items[0].entry)
    versions = iter(await context.door.run(written_before, asked, context.temporaries))
    left: list[Item] = []
    for item, file in zip(items, files, strict=True):
        version = next(versions) if file is not None else ""
        if file is None or not version:
            left.append(item)
            continue
        result = _known_before(item.entry, file.size, file.etag, context)
        await journal.done(item.entry, result, version)
        await take(result)
    return left


def _may_be_there(item: Item, context: TransferContext) -> MayBeThere | None:
    entry, listed = item.entry, item.listed
    if listed is None or listed.size > SMALL_FILE or item.folder or item.held or entry.problem:
        return None
    if context.options.preserve_mtime:
        return None  # a listing does not tell which time the file is to have
    return MayBeThere(entry.path, listed.size, listed.etag, context.tree)


def _known_before(
    entry: ManifestEntry, size: int, etag: str, context: TransferContext
) -> TransferResult:
    context.emit(ObjectKnown(entry.url, entry.name, entry.operation, size))
    return TransferResult(
        entry.url, entry.name, size, etag, 0, None, False, seconds=0.0, resumed=True
    )


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
    context: TransferContext,
    trees: Trees,
    feed: Callable[[list[Item]], Awaitable[None]],
) -> WalkDone:
    objects, size = 0, 0
    sized = True
    async for items in items_of(manifest, context, trees):
        for item in items:
            sized &= item.entry.size is not None or bool(item.entry.problem)
            size += item.entry.size or 0
        objects += len(items)
        await feed(items)
    found = WalkDone(objects, size if sized else None)
    context.emit(found)
    return found


class _Bodies:
    """Memory of the small files that a run has read and not yet sent."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._holding: set[Item] = set()

    async def take(self, items: list[Item]) -> None:
        """Wait until there is room for what the items hold."""
        for item in items:
            if isinstance(item.held, BytesSource):
                item.weight = await self._slots.acquire(item.held.size)
                self._holding.add(item)

    def give(self, item: Item) -> None:
        """An item is done with."""
        if item in self._holding:
            self._holding.remove(item)
            self._slots.release(item.weight)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Nobody will send the others.
        while self._holding:
            self._slots.release(self._holding.pop().weight)


async def _outcome(
    item: Item, context: TransferContext, journal: Journal | None, in_parts: bool
) -> Outcome:
    """Raises CredentialsError: no object can be moved any more."""
    entry = item.entry
    try:
        return await _move(item, context, journal, in_parts)
    except CredentialsError:
        raise
    except EngineError as error:
        context.emit(ObjectFailed(entry.url, entry.name, entry.operation, str(error), error.code))
        return Failure(entry, error)


async def _move(
    item: Item, context: TransferContext, journal: Journal | None, in_parts: bool
) -> TransferResult:
    if isinstance(item.held, EngineError):
        raise item.held
    if item.entry.problem:
        raise TransferError(f"{item.entry.name}: {item.entry.problem}")
    if journal is None:
        return (await _moved(item, context))[0]
    if in_parts or journal.has_left(item.entry):
        context = replace(context, journal=await journal.object(item.entry))
    result, version = await _moved(item, context)
    await journal.done(item.entry, result, version)
    return result


def _goes_in_parts(item: Item, context: TransferContext) -> bool:
    """Whether it may be left half-way. Where the size is not known yet, it may."""
    entry, config = item.entry, context.config
    if entry.operation == "upload":
        large = entry.size is None or entry.size > config.multipart_threshold
        return item.held is None and large
    if entry.operation == "copy":
        size, most = entry.size, config.limits.max_copy_size
        through = context.copies.through or context.copies.source is not None
        return size is None or size > (config.multipart_threshold if through else most)
    size = entry.size if item.listed is None else item.listed.size
    return size is None or size > config.multipart_download_threshold


async def _moved(item: Item, context: TransferContext) -> tuple[TransferResult, str]:
    """What became of an item; and which version of the file that was sent it is now."""
    entry = item.entry
    if item.folder and entry.operation == "download":
        return await download_folder(entry.url, entry.path, context), ""
    if entry.operation == "download":
        result = await download(entry.url, entry.path, context, item.listed)
        return result, context.writer.version_of(entry.path)
    if entry.source is not None:
        return await copy(entry.source, entry.url, context), ""
    held = item.held
    assert not isinstance(held, EngineError)
    if item.in_memory:
        weight = await context.limiter.bodies.acquire(min(entry.size or 0, SMALL_FILE))
        try:
            return await _of_memory(item, context)
        finally:
            context.limiter.bodies.release(weight)
    if held is not None:
        return await upload(held, entry.url, context), held.version
    return await _of_file(item, context)


async def _of_memory(item: Item, context: TransferContext) -> tuple[TransferResult, str]:
    held = read_small(item.entry.path, chosen(context.config.checksum), context.source_tree)
    if held is None:
        return await _of_file(item, context)
    return await upload(held, item.entry.url, context), held.version


async def _of_file(item: Item, context: TransferContext) -> tuple[TransferResult, str]:
    async with open_file(item.entry.path, context.door, context.source_tree) as source:
        return await upload(source, item.entry.url, context), source.version
