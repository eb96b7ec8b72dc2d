"""What tells entries apart, and whether what was done is still so.

What lives here: looks at local files; in threads, but for ``key_of``. What must not: the journal.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.batch.journal.objects import Key
from engine.batch.journal.store import DONE, DoneRow, Row
from engine.batch.manifest import ManifestEntry
from engine.records import file_version


def key_of(entry: ManifestEntry) -> Key:
    """What tells an entry from all others of its run, wherever the command is typed."""
    if entry.source is not None:
        return (str(entry.url), str(entry.source).encode(), entry.operation)
    path = str(entry.path)
    if not path.startswith("/") or ".." in path:  # all else of a Path is as it should be
        path = os.path.abspath(path)
    return (str(entry.url), os.fsencode(path), entry.operation)


def seen(row: Row) -> Row:
    """With the version of a file that was written, where nobody has told it."""
    sql, values = row
    if sql is not DONE or values[5] or values[2] != "download":
        return row
    try:
        version = file_version(os.lstat(values[1]))
    except OSError:
        version = "gone"
    return (sql, (*values[:5], version))


def is_still(entry: ManifestEntry, row: DoneRow) -> bool:
    """Whether what was done is still so, as far as can be told without asking S3."""
    if entry.operation == "upload":
        return _version(entry.path, follow=True) == row.version
    if entry.operation == "copy":
        return entry.etag is None or _same(entry.etag, row.version)
    if entry.etag is not None and not _same(entry.etag, row.etag):
        return False
    return _version(entry.path, follow=False) == row.version


def _same(one: str, other: str) -> bool:
    return one.strip('"') == other.strip('"')


def _version(path: Path, *, follow: bool) -> str | None:
    """Of a file; a link is followed to what is read, and is none that was written."""
    try:
        return file_version(os.stat(path, follow_symlinks=follow))
    except (OSError, ValueError):
        return None
