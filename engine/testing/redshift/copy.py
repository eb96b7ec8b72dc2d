"""One COPY: manifest, files, rows, into the client's own transaction.

What lives here: the order of events. What must not: the protocol with the client (``proxy.py``),
the grammar, the checking of fields.

Theory of operation: the rows go as ``COPY t FROM STDIN`` to the backend of the client's session,
so that they are visible inside its transaction, invisible outside until COMMIT, and gone after
ROLLBACK. The stream is opened with the first good row. When COPY fails the stream is ended by
CopyFail, which puts the transaction into the failed state as Redshift's own error would.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import IO

from engine.testing.redshift import manifest, pgwire, tables
from engine.testing.redshift.backend import Backend
from engine.testing.redshift.copy_statement import CopyStatement, parse_copy
from engine.testing.redshift.faults import Faults
from engine.testing.redshift.fields import TableColumn
from engine.testing.redshift.manifest import ManifestEntry
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.rows import Batch, RefusedRow, RowReader
from engine.testing.redshift.s3 import MAX_MANIFEST_BYTES, RoleKeys, S3Failure, S3Keys, S3Reader
from engine.testing.redshift.sql import quote_literal, quote_name
from engine.testing.redshift.tables import LoadedFile, LoadFacts
from engine.threads import ThreadDoor
from engine.types import S3Url

Roles = Mapping[str, S3Keys | RoleKeys]

_COLUMNS = """
SELECT a.attname, t.typname, a.atttypmod, a.attnotnull, a.attrelid::bigint
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# A file is cut into messages of about this many characters; PostgreSQL's own limit is 1 GiB.
_MESSAGE_CHARS = 1024 * 1024


@dataclass(slots=True)
class CopyRecord:
    """A COPY as the double saw it, for assertions.

    Attributes:
        query: Redshift's query id, as in the system tables.
        statement: The text with secrets masked.
        auth: ``role`` or ``keys``; "" where the statement was not understood.
        state: ``running``, ``loaded``, ``failed`` or ``canceled``. Loaded is not committed.
        files: The urls read, in order.
    """

    query: int
    statement: str
    table: str = ""
    source: str = ""
    auth: str = ""
    state: str = "running"
    rows: int = 0
    files: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(slots=True)
class CopyWorld:
    """What all sessions of a double share."""

    s3: S3Reader
    roles: Roles
    faults: Faults
    admin: Callable[[str], Awaitable[object]]
    database: str
    user: str
    slices: int
    records: list[CopyRecord] = field(default_factory=list)
    queries: Iterator[int] = field(default_factory=lambda: itertools.count(101))
    door: ThreadDoor = field(default_factory=ThreadDoor)


class _Stream(Enum):
    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()
    ENDING = auto()


class CopyRun:
    """One COPY on one backend. ``run`` once; after an error ``abandon``.

    Attributes:
        refused_data: Whether it failed because rows were refused; Redshift then keeps the id.
        notices: Messages for the client after success.
    """

    def __init__(self, world: CopyWorld, backend: Backend, text: str, record: CopyRecord) -> None:
        self._world = world
        self._backend = backend
        self._text = text
        self._record = record
        self._stream = _Stream.CLOSED
        self._pending: list[str] = []
        self._held_back = 0
        self._refused: list[tuple[str, int, RefusedRow]] = []
        self._files: list[LoadedFile] = []
        self._started = datetime.now(UTC)
        self._oid = 0
        self.refused_data = False
        self.notices: list[str] = []

    async def run(self) -> int:
        """Load; returns the number of rows.

        Raises:
            ServerError: As Redshift words it.
            BackendLost: PostgreSQL is gone.
        """
        copy = parse_copy(self._text)
        record = self._record
        record.statement, record.table = copy.public_text, copy.table
        record.source, record.auth = copy.source, copy.auth
        columns = await self._columns(copy)
        if delay := self._world.faults.take("copy-delay"):
            await asyncio.sleep(delay.seconds)
        if self._world.faults.take("1023"):
            raise _isolation_violation(self._oid, self._backend.pid)
        if lost := self._world.faults.take("drop-rows"):
            self._held_back = lost.rows
        entries = await self._manifest(copy)
        reader = RowReader(copy, columns)
        into = _copy_sql(copy, columns)
        found = 0
        for number, entry in enumerate(entries):
            found += await self._file(copy, reader, into, entry, number)
        if not found:
            raise manifest.missing_mandatory(record.query, entries[0])
        await self._end()
        await self._succeeded(copy)
        return record.rows

    async def abandon(self, error: str, *, canceled: bool) -> None:
        """End the stream, fail the transaction, and write the history of the failure."""
        backend = self._backend
        if self._stream is _Stream.OPEN:
            await backend.send(_copy_fail())
        elif self._stream is not _Stream.CLOSED:
            await backend.cancel()
        while self._stream is not _Stream.CLOSED:
            kind, _ = await backend.read()
            if kind == b"G":
                await backend.send(_copy_fail())
            elif kind == b"Z":
                self._stream = _Stream.CLOSED
        await backend.abort_transaction()
        record = self._record
        record.error, record.rows = error, 0
        record.state = "canceled" if canceled else "failed"
        facts = self._facts()
        status = "canceled" if canceled else "aborted"
        refused = len(self._refused)
        await self._tell(tables.refusals(facts, self._refused, refused))
        await self._tell(tables.history(facts, status, 0, self._files, refused, error))

    async def _columns(self, copy: CopyStatement) -> list[TableColumn]:
        name = quote_name(copy.table)
        if copy.schema:
            name = f"{quote_name(copy.schema)}.{name}"
        rows = await self._backend.rows(_COLUMNS.format(quote_literal(name)))
        if not rows:
            raise ServerError(f"Cannot COPY into nonexistent table {copy.table}")
        self._oid = int(rows[0][4] or 0)
        found = {
            str(r[0]): TableColumn(str(r[0]), str(r[1]), int(r[2] or -1), r[3] == "t") for r in rows
        }
        missing = [c for c in copy.columns if c not in found]
        if missing:
            raise ServerError(
                f'column "{missing[0]}" of relation "{copy.table}" does not exist', "42703"
            )
        return [found[c] for c in copy.columns] if copy.columns else list(found.values())

    async def _keys(self, copy: CopyStatement) -> S3Keys:
        """Keys for the next request. A role's are asked for anew, so they never grow old."""
        if copy.keys is not None:
            return copy.keys
        keys = self._world.roles.get(copy.role)
        if keys is None:
            raise manifest.role_failure(self._record.query, copy.role, self._world.user)
        if isinstance(keys, S3Keys):
            return keys
        try:
            return await keys()
        except S3Failure:
            raise manifest.role_failure(self._record.query, copy.role, self._world.user) from None

    async def _manifest(self, copy: CopyStatement) -> list[ManifestEntry]:
        query = self._record.query
        keys = await self._keys(copy)
        url = S3Url.parse(copy.source)
        try:
            with await self._world.s3.get(url, keys, copy.region) as file:
                raw = await self._world.door.run(file.read, MAX_MANIFEST_BYTES)
        except S3Failure as failure:
            raise manifest.manifest_failure(query, url, failure) from None
        return manifest.parse_manifest(raw)

    async def _file(
        self, copy: CopyStatement, reader: RowReader, into: str, entry: ManifestEntry, number: int
    ) -> bool:
        """Load one file; False if it is not there and need not be."""
        query = self._record.query
        keys = await self._keys(copy)
        try:
            file = await self._world.s3.get(entry.url, keys, copy.region)
        except S3Failure as failure:
            if failure.code != "NoSuchKey":
                raise manifest.s3_failure(query, entry.url, failure) from None
            if entry.mandatory:
                raise manifest.missing_mandatory(query, entry) from None
            return False
        with file:
            size = file.seek(0, 2)
            file.seek(0)
            if entry.content_length not in (None, size):
                raise manifest.wrong_length(query, entry)
            await self._rows(copy, reader, into, entry, number, file, size)
        self._record.files.append(str(entry.url))
        return True

    async def _rows(
        self,
        copy: CopyStatement,
        reader: RowReader,
        into: str,
        entry: ManifestEntry,
        number: int,
        file: IO[bytes],
        size: int,
    ) -> None:
        slice_number = number % self._world.slices
        url = str(entry.url)
        lines = refused = 0
        with contextlib.closing(reader.batches(file)) as batches:
            while batch := await self._world.door.run(_next, batches):
                lines += batch.lines
                refused += len(batch.refused)
                self._refused += [(url, slice_number, row) for row in batch.refused]
                limit = max(1, copy.max_error)
                if len(self._refused) >= limit:
                    del self._refused[limit:]
                    self.refused_data = True
                    raise manifest.load_failed(copy.table)
                if not copy.no_load:
                    self._pending += batch.rows
                    await self._flush(into)
        self._files.append(LoadedFile(url, size, lines, refused, slice_number))

    async def _flush(self, into: str) -> None:
        """Send the pending rows, all but those that the fault ``drop-rows`` loses at the end."""
        ready = len(self._pending) - self._held_back
        if ready <= 0:
            return
        if self._stream is _Stream.CLOSED:
            await self._open(into)
        block = "".join(self._pending[:ready])
        del self._pending[:ready]
        self._record.rows += ready
        for at in range(0, len(block), _MESSAGE_CHARS):
            data = block[at : at + _MESSAGE_CHARS].encode()
            await self._backend.send(pgwire.message(b"d", data))

    async def _open(self, into: str) -> None:
        self._stream = _Stream.OPENING
        await self._backend.send(pgwire.query(into))
        await self._until(b"G")
        self._stream = _Stream.OPEN

    async def _end(self) -> None:
        if self._stream is _Stream.OPEN:
            self._stream = _Stream.ENDING
            await self._backend.send(pgwire.message(b"c"))
            await self._until(b"Z")
            self._stream = _Stream.CLOSED

    async def _until(self, wanted: bytes) -> None:
        """Read up to a message; an error of PostgreSQL's own is raised once it is ready again."""
        failure: ServerError | None = None
        while True:
            kind, payload = await self._backend.read()
            if kind == b"E":
                failure = ServerError.parse(payload)
            elif kind == b"Z" and failure is not None:
                self._stream = _Stream.CLOSED
                raise failure
            elif kind == wanted:
                return

    async def _succeeded(self, copy: CopyStatement) -> None:
        record, refused = self._record, len(self._refused)
        await self._backend.rows(tables.set_last_copy(record.query, record.rows))
        facts = self._facts()
        await self._tell(tables.commits(facts, self._files))
        await self._tell(tables.refusals(facts, self._refused, refused))
        await self._tell(tables.history(facts, "completed", record.rows, self._files, refused))
        record.state = "loaded"
        done = f"Load into table '{copy.table}' completed, "
        self.notices = [f"{done}{record.rows} record(s) loaded successfully."]
        if refused:
            self.notices.append(
                f"{done}{refused} record(s) could not be loaded.  "
                "Check 'stl_load_errors' system table for details."
            )

    async def _tell(self, sql: str) -> None:
        if sql:
            await self._world.admin(sql)

    def _facts(self) -> LoadFacts:
        record = self._record
        return LoadFacts(
            query=record.query,
            session=self._backend.pid,
            table=record.table,
            table_oid=self._oid,
            source=record.source,
            database=self._world.database,
            started=self._started,
            ended=datetime.now(UTC),
        )


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)


def _copy_sql(copy: CopyStatement, columns: list[TableColumn]) -> str:
    name = quote_name(copy.table)
    if copy.schema:
        name = f"{quote_name(copy.schema)}.{name}"
    return f"COPY {name} ({', '.join(quote_name(c.name) for c in columns)}) FROM STDIN"


def _copy_fail() -> bytes:
    return pgwire.message(b"f", pgwire.cstring("the Redshift double ends this COPY"))


def _isolation_violation(table_oid: int, pid: int) -> ServerError:
    return ServerError(
        "1023",
        "XX000",
        f"Serializable isolation violation on table - {table_oid}, transactions forming the "
        f"cycle are: 1001, 1002 (pid:{pid})",
    )
