"""A folder or a prefix as manifest entries, streamed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from engine import disk
from engine.batch.local import FolderWalk
from engine.batch.manifest import Manifest, ManifestEntry, Tree
from engine.batch.names import Names
from engine.errors import EngineError, NameTaken, UsageError
from engine.protocols import ChecksumAlgorithm
from engine.transfer.checksums import chosen
from engine.transfer.context import TransferContext
from engine.transfer.folders import Trees
from engine.transfer.listing import list_objects, list_pages
from engine.transfer.sources import BytesSource, read_small
from engine.types import MiB, ObjectInfo, S3Url

# Entries that one trip to a thread brings back.
_BATCH = 500
# Small files that one trip reads, and their bytes: a millisecond of a thread, and what 64 requests
# under way need next.
_READ_FILES, _READ_BYTES = 32, 2 * MiB
# Files that are found at a time where no thread does it: half a millisecond of the loop.
_FOUND_AT_ONCE = 32


class Item(Struct, eq=False):
    """An entry, and what is known or held of it already.

    Attributes:
        listed: What a listing said of the object that is to be fetched.
        held: The bytes of a small file that is to be sent, or why the entry cannot be moved.
        folder: It is an empty folder.
        in_memory: The file is read when it is its turn, and without a thread: then its bytes are
            still in the CPU's cache when they are sent.
        weight: Of the run's memory, what ``held`` has taken.
    """

    entry: ManifestEntry
    listed: ObjectInfo | None = None
    held: BytesSource | EngineError | None = None
    in_memory: bool = False
    folder: bool = False
    weight: int = 0


async def items_of(
    manifest: Manifest, context: TransferContext, trees: Trees
) -> AsyncIterator[list[Item]]:
    """All entries, some at a time. The second that goes to one place is refused where there are
    several trees, and in a list of entries; lines of a file are not remembered."""
    listed = isinstance(manifest.entries, list | tuple)
    several = len(manifest.trees) > 1 or (listed and manifest.entries)
    taken: set[int] | None = set() if several else None
    async for items in _found(manifest, context, trees):
        yield items if taken is None else _unclaimed(items, taken)


def _unclaimed(items: list[Item], taken: set[int]) -> list[Item]:
    """With an error for each whose place another one has."""
    for item in items:
        entry = item.entry
        if entry.problem or isinstance(item.held, EngineError) or item.folder:
            continue
        place = str(entry.url)
        if entry.operation == "download":
            place = os.path.abspath(entry.path)
        if (number := hash(place)) in taken:
            item.held = NameTaken(
                f"{place} is written to by another source of this run",
                fix="Copy the sources apart, or to folders or prefixes of their own",
            )
        taken.add(number)
    return items


async def _found(
    manifest: Manifest, context: TransferContext, trees: Trees
) -> AsyncIterator[list[Item]]:
    for tree in manifest.trees:
        if tree.operation == "upload":
            # In memory no call waits; a thread would take the interpreter's lock from the loop.
            at_once = await context.door.run(disk.folder_in_memory, tree.folder)
            walk = FolderWalk(tree, trees.source(tree.folder))
            entries = walk.entries()
            if not at_once:
                async for items in _read_ahead(entries, context, trees):
                    walk.tell(context.emit)
                    yield items
            while at_once and (found := list(islice(entries, _FOUND_AT_ONCE))):
                walk.tell(context.emit)
                yield [_in_memory(entry) for entry in found]
            walk.tell(context.emit)
        elif tree.source is not None:
            async for entry in _copies(tree, tree.source, context):
                yield [Item(entry)]
        else:
            names = Names(tree)
            async for page in list_pages(tree.prefix, context):
                if page:
                    await context.door.run(names.look, trees.of(tree.folder), context.temporaries)
                yield await context.door.run(_items_of_page, tree, page, names)
    async for items in _read_ahead(iter(manifest.entries), context, trees):
        yield items


def _in_memory(entry: ManifestEntry) -> Item:
    if _is_folder(entry):
        return Item(entry, held=BytesSource(b"", entry.name), folder=True)
    return Item(entry, in_memory=True)


async def _read_ahead(
    entries: Iterator[ManifestEntry], context: TransferContext, trees: Trees
) -> AsyncIterator[list[Item]]:
    algorithm = chosen(context.config.checksum)
    while items := await context.door.run(_take, entries, algorithm, trees):
        yield items


def _take(
    entries: Iterator[ManifestEntry], algorithm: ChecksumAlgorithm | None, trees: Trees
) -> list[Item]:
    """In a thread: the next entries, with the bytes of small files. A trip costs as much as the
    system calls of one of them."""
    items: list[Item] = []
    files = size = 0
    for entry in entries:
        item = Item(entry, folder=_is_folder(entry))
        items.append(item)
        if item.folder:
            item.held = BytesSource(b"", entry.name) if entry.operation == "upload" else None
        elif entry.operation == "upload" and not entry.problem:
            try:
                tree = None if entry.below is None else trees.source(entry.below)
                item.held = read_small(entry.path, algorithm, tree)
            except EngineError as error:
                item.held = error
            files += 1
            size += item.held.size if isinstance(item.held, BytesSource) else 0
        if files >= _READ_FILES or size >= _READ_BYTES or len(items) >= _BATCH:
            break
    return items


def _items_of_page(tree: Tree, page: Sequence[ObjectInfo], names: Names) -> list[Item]:
    """In a thread: whether a folder is a link is asked of the disk."""
    return [_item_of(tree, info, names) for info in page]


async def _copies(
    tree: Tree, source: S3Url, context: TransferContext
) -> AsyncIterator[ManifestEntry]:
    """Everything below ``source``, the empty objects that consoles make as folders too.

    Raises:
        UsageError: The target lies inside of the source: the listing would never end.
    """
    rules, target = context.copies, tree.prefix
    inside = target.bucket == source.bucket and target.key != source.key
    if inside and target.key.startswith(source.key) and rules.source is None:
        raise UsageError(
            f"{target} lies inside of {source}: what is copied would be copied again",
            fix="Copy to another prefix",
        )
    reading = rules.source or replace(context, options=rules.source_options)
    async for info in list_objects(source, reading):
        relative = info.url.key[len(source.key) :]
        if not relative and not target.key:
            continue
        try:
            url, problem = target.join(relative), ""
        except UsageError as error:
            url, problem = target, error.headline
        yield ManifestEntry(
            "copy", Path(), url, info.size, info.etag, problem=problem, source=info.url
        )


def _is_folder(entry: ManifestEntry) -> bool:
    """Whether it is an empty folder, or stands for one."""
    if entry.problem or not entry.url.key.endswith("/"):
        return False
    if entry.operation == "download":
        return entry.size == 0 and entry.below is not None
    return entry.operation == "upload" and os.path.isdir(entry.path)


def _item_of(tree: Tree, info: ObjectInfo, names: Names) -> Item:
    """An empty object whose key ends with a slash is a folder, as consoles make them; the prefix
    itself is the tree's own."""
    relative = info.url.key[len(tree.prefix.key) :]
    folder = info.size == 0 and info.url.key.endswith("/")
    path, problem = tree.folder, None
    try:
        if relative and folder:
            path = names.path(relative[:-1], folder=True)
        elif relative or not folder:
            path = names.path(relative)
    except EngineError as error:
        problem = error
    why = problem.headline if problem is not None else ""
    entry = ManifestEntry("download", path, info.url, info.size, info.etag, why, below=tree.folder)
    return Item(entry, info, problem, folder=folder)
