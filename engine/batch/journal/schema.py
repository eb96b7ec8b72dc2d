"""The tables of a journal, and how one of an older version becomes one of this.

What lives here: SQL text and numbers. What must not: a connection (``store.py``).

A journal is one SQLite file. It can be read with the ``sqlite3`` shell: keys are text, paths are
the bytes that the system knows (blobs), instants are ISO 8601 in UTC, records are JSON as the
structs of ``engine.records`` and ``engine.types`` have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# "s3eJ". In the file's head, so that no other SQLite file is taken for a journal.
# https://www.sqlite.org/pragma.html#pragma_application_id
APPLICATION_ID = 0x7333654A

_TABLES = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, identity TEXT NOT NULL, command TEXT NOT NULL, left_out TEXT NOT NULL,
    cwd BLOB NOT NULL, version TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
    outcome TEXT NOT NULL DEFAULT '', planned_objects INTEGER, planned_bytes INTEGER,
    objects INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    version TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, outcome TEXT NOT NULL DEFAULT ''
);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL, name BLOB NOT NULL, operation TEXT NOT NULL
);
CREATE TABLE uploads (
    id INTEGER PRIMARY KEY, object INTEGER NOT NULL, session TEXT NOT NULL,
    creating_at TEXT NOT NULL, record TEXT
);
CREATE TABLE parts (
    upload INTEGER NOT NULL, number INTEGER NOT NULL, receipt TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE TABLE downloads (object INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE ranges (
    object INTEGER NOT NULL, start INTEGER NOT NULL, kept TEXT NOT NULL,
    PRIMARY KEY (object, start)
) WITHOUT ROWID;
CREATE TABLE done (
    url TEXT NOT NULL, name BLOB NOT NULL, operation TEXT NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, version TEXT NOT NULL,
    PRIMARY KEY (url, name, operation)
) WITHOUT ROWID;
"""
"""``run`` has one row. An upload without a record is one that was asked for. ``done`` holds the
version of the local file (see ``file_version``): of what was sent, of what was written."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one version.

    Attributes:
        version: In the file's head as ``user_version``.
        script: Makes them.
        migrations: Version -> the SQL that makes the next one of it. A journal older than the
            oldest of them is refused.
    """

    version: int
    script: str
    migrations: Mapping[int, str] = field(default_factory=dict)

    def path_from(self, version: int) -> list[str] | None:
        """What has to be run on a journal of ``version``; None where there is no way."""
        if version > self.version:
            return None
        steps = [self.migrations.get(number) for number in range(version, self.version)]
        found = [step for step in steps if step is not None]
        return found if len(found) == len(steps) else None


SCHEMA = Schema(version=1, script=_TABLES)
