"""A folder or a prefix as manifest entries, streamed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from engine.batch.manifest import Manifest, ManifestEntry, Tree
from engine.errors import EngineError, UsageError
from engine.threads import ThreadDoor
from engine.transfer.context import TransferContext
from engine.transfer.files import path_under
from engine.transfer.listing import list_objects
from engine.types import ObjectInfo, S3Url

# Entries that one trip to a thread brings back.
_BATCH = 500


async def entries_of(
    manifest: Manifest, context: TransferContext
) -> AsyncIterator[tuple[ManifestEntry, ObjectInfo | None]]:
    """All entries; for downloads with what the listing said of the object."""
    for tree in manifest.trees:
        if tree.operation == "upload":
            async for entry in _in_batches(_walk_folder(tree), context.door):
                yield entry, None
        elif tree.source is not None:
            async for entry in _copies(tree, tree.source, context):
                yield entry, None
        else:
            async for info in list_objects(tree.prefix, context):
                found = _entry_of(tree, info)
                if found is not None:
                    yield found, info
    async for entry in _in_batches(iter(manifest.entries), context.door):
        yield entry, None


async def _in_batches(
    entries: Iterator[ManifestEntry], door: ThreadDoor
) -> AsyncIterator[ManifestEntry]:
    while batch := await door.run(_take, entries):
        for entry in batch:
            yield entry


def _take(entries: Iterator[ManifestEntry]) -> list[ManifestEntry]:
    return list(islice(entries, _BATCH))


def _walk_folder(tree: Tree) -> Iterator[ManifestEntry]:
    if not tree.folder.is_dir():
        raise UsageError(f"not a folder: {tree.folder}")
    waiting = [tree.folder]
    while waiting:
        folder = waiting.pop()
        try:
            found = sorted(os.scandir(folder), key=lambda item: item.name)
        except OSError as error:
            yield _problem(tree, folder, f"cannot be read: {error.strerror}")
            continue
        for item in found:
            try:
                if item.is_dir(follow_symlinks=False):
                    waiting.append(Path(item.path))
                    continue
                entry = _file_entry(tree, item)
            except OSError as error:  # a link to itself
                entry = _problem(tree, Path(item.path), f"cannot be read: {error.strerror}")
            yield entry


def _file_entry(tree: Tree, item: os.DirEntry[str]) -> ManifestEntry:
    path = Path(item.path)
    if item.is_symlink() and item.is_dir():
        return _problem(tree, path, "a symbolic link to a folder is not followed")
    if not item.is_file():
        return _problem(tree, path, "not a regular file")
    try:
        url = tree.prefix.join(path.relative_to(tree.folder).as_posix())
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


def _entry_of(tree: Tree, info: ObjectInfo) -> ManifestEntry | None:
    relative = info.url.key[len(tree.prefix.key) :]
    if not relative:
        return None  # the prefix itself, made by a console as a "folder"
    if relative.endswith("/") and info.size == 0:
        return None
    try:
        path = path_under(tree.folder, relative)
    except EngineError as error:
        return ManifestEntry(
            "download", tree.folder, info.url, info.size, info.etag, problem=str(error)
        )
    return ManifestEntry("download", path, info.url, info.size, info.etag)
