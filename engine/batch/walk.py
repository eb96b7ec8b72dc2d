"""A folder or a prefix as manifest entries, streamed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from msgspec import Struct

from engine import disk
from engine.batch.manifest import Manifest, ManifestEntry, Tree
from engine.errors import EngineError, UsageError
from engine.protocols import ChecksumAlgorithm
from engine.transfer.checksums import chosen
from engine.transfer.context import TransferContext
from engine.transfer.files import path_under
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


class Item(Struct):
    """An entry, and what is known or held of it already.

    Attributes:
        listed: What a listing said of the object that is to be fetched.
        held: The bytes of a small file that is to be sent, or why it cannot be.
        in_memory: The file is read when it is its turn, and without a thread: then its bytes are
            still in the CPU's cache when they are sent.
    """

    entry: ManifestEntry
    listed: ObjectInfo | None = None
    held: BytesSource | EngineError | None = None
    in_memory: bool = False


async def items_of(manifest: Manifest, context: TransferContext) -> AsyncIterator[list[Item]]:
    """All entries, some at a time."""
    for tree in manifest.trees:
        if tree.operation == "upload":
            # In memory no call waits; a thread would take the interpreter's lock from the loop.
            at_once = await context.door.run(disk.folder_in_memory, tree.folder)
            entries = _walk_folder(tree)
            if not at_once:
                async for items in _read_ahead(entries, context):
                    yield items
            while at_once and (found := list(islice(entries, _FOUND_AT_ONCE))):
                yield [Item(entry, in_memory=True) for entry in found]
        elif tree.source is not None:
            async for entry in _copies(tree, tree.source, context):
                yield [Item(entry)]
        else:
            known: set[str] = set()
            async for page in list_pages(tree.prefix, context):
                yield await context.door.run(_items_of_page, tree, page, known)
    async for items in _read_ahead(iter(manifest.entries), context):
        yield items


async def _read_ahead(
    entries: Iterator[ManifestEntry], context: TransferContext
) -> AsyncIterator[list[Item]]:
    algorithm = chosen(context.config.checksum)
    while items := await context.door.run(_take, entries, algorithm):
        yield items


def _take(entries: Iterator[ManifestEntry], algorithm: ChecksumAlgorithm | None) -> list[Item]:
    """In a thread: the next entries, with the bytes of small files. A trip costs as much as the
    system calls of one of them."""
    items: list[Item] = []
    files = size = 0
    for entry in entries:
        item = Item(entry)
        items.append(item)
        if entry.operation == "upload" and not entry.problem:
            try:
                item.held = read_small(entry.path, algorithm)
            except EngineError as error:
                item.held = error
            files += 1
            size += item.held.size if isinstance(item.held, BytesSource) else 0
        if files >= _READ_FILES or size >= _READ_BYTES or len(items) >= _BATCH:
            break
    return items


def _items_of_page(tree: Tree, page: Sequence[ObjectInfo], known: set[str]) -> list[Item]:
    """In a thread: whether a folder is a link is asked of the disk."""
    found = [(_entry_of(tree, info, known), info) for info in page]
    return [Item(entry, info) for entry, info in found if entry is not None]


def _walk_folder(tree: Tree) -> Iterator[ManifestEntry]:
    if not tree.folder.is_dir():
        raise UsageError(f"not a folder: {tree.folder}")
    waiting = [(os.fspath(tree.folder), "")]
    while waiting:
        folder, above = waiting.pop()
        try:
            found = sorted(os.scandir(folder), key=lambda item: item.name)
        except OSError as error:
            yield _problem(tree, Path(folder), f"cannot be read: {error.strerror}")
            continue
        for item in found:
            try:
                if item.is_dir(follow_symlinks=False):
                    waiting.append((item.path, f"{above}{item.name}/"))
                    continue
                entry = _file_entry(tree, item, above + item.name)
            except OSError as error:  # a link to itself
                entry = _problem(tree, Path(item.path), f"cannot be read: {error.strerror}")
            yield entry


def _file_entry(tree: Tree, item: os.DirEntry[str], relative: str) -> ManifestEntry:
    path = Path(item.path)
    if item.is_symlink() and item.is_dir():
        return _problem(tree, path, "a symbolic link to a folder is not followed")
    if not item.is_file():
        return _problem(tree, path, "not a regular file")
    try:
        url = tree.prefix.join(relative)
    except UsageError as error:
        return _problem(tree, path, error.headline)
    return ManifestEntry("upload", path, url, item.stat().st_size)


def _problem(tree: Tree, path: Path, problem: str) -> ManifestEntry:
    return ManifestEntry("upload", path, tree.prefix, problem=problem)


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


def _entry_of(tree: Tree, info: ObjectInfo, known: set[str]) -> ManifestEntry | None:
    relative = info.url.key[len(tree.prefix.key) :]
    if not relative:
        return None  # the prefix itself, made by a console as a "folder"
    if relative.endswith("/") and info.size == 0:
        return None
    try:
        path = path_under(tree.folder, relative, known)
    except EngineError as error:
        return ManifestEntry(
            "download", tree.folder, info.url, info.size, info.etag, problem=str(error)
        )
    return ManifestEntry("download", path, info.url, info.size, info.etag, below=tree.folder)
