"""Store: a journal's file. The only importer of sqlite3, which is loaded when a journal is opened.

What lives here: the connection, what is checked when a file is opened, transactions. What must not:
when something is written (``commits.py``), what it means (``journal.py``).

Rules of this file
- Every method blocks: they are called in threads, one at a time.
- A file that is not a journal of ours, or is damaged, is refused by name and left as it is. It is
  made under another name and gets its own when it is whole, so that an empty one is no journal.
- What sqlite3 raises never leaves the file: a damaged journal is JournalDamaged, a full disk
  JournalError.

Theory of operation
- WAL with ``synchronous=NORMAL``: what is committed has been handed to the system, and survives the
  death of the process. With FULL it is on the disk, and survives that of the machine.
  https://www.sqlite.org/pragma.html#pragma_synchronous
- sqlite3 lets the interpreter's lock go at every step of a statement, and beside a busy loop each
  step then waits 5 ms to get it back: 500 rows by ``executemany`` took half a second (measured), by
  statements of many rows 10 ms. So many rows are written, and read, in one step, and where one
  step writes all it is its own transaction: a BEGIN and a COMMIT would give the lock away again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import msgspec

from engine.batch.journal.schema import APPLICATION_ID, SCHEMA, Schema
from engine.errors import JournalDamaged, JournalError, JournalVersion
from engine.types import KiB, MiB

if TYPE_CHECKING:
    import sqlite3

Row = tuple[str, tuple[Any, ...]]
"""A statement and its values."""

DONE = "INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?, ?)"
_DONE_MANY = "INSERT OR REPLACE INTO done VALUES "
_DONE_ROW = "(?, ?, ?, ?, ?, ?)"
# Rows of one statement: SQLite before 3.32 takes 999 values.
_MANY = 160
# Where it takes more: all that a trip usually brings.
_MANY_OF_NEW = 500
# Which of many keys are done, in one step and one answer.
_KNOWN = (
    "WITH asked(number, url, name, operation) AS (VALUES {}) "
    "SELECT json_group_array(json_array(number, size, etag, version)) "
    "FROM asked JOIN done USING (url, name, operation)"
)
# Seconds to wait for a lock of the file's own: somebody looks at it by the sqlite3 shell.
_BUSY = 5.0
# Up to here all pages of a journal are looked at when it is opened: 40 ms.
_CHECKED_WHOLE = 64 * MiB
# Pages of the WAL from which it is copied into the file: 16 MiB. What a run that ends well has done
# is forgotten then, and most of it never needs to be copied.
_CHECKPOINT = 4096
# What is left of the WAL after a checkpoint.
_WAL_KEPT = 4 * MiB
_MAGIC = b"SQLite format 3\0"
_TEMPORARY = ".new-"
_CORRUPT, _NOT_A_DATABASE = 11, 26
_statement, _values = itemgetter(0), itemgetter(1)


class DoneRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of an object that is done; ``number`` is its place among those asked for."""

    number: int
    size: int
    etag: str
    version: str


@final
class Store:
    """An open journal; made by ``create`` or ``open``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._durable: bool | None = None
        self._turn = threading.Lock()

    @classmethod
    def create(cls, path: Path, rows: Sequence[Row], schema: Schema = SCHEMA) -> Store:
        """A new journal with ``rows`` in it, on disk when this returns.

        Raises:
            JournalError: There is a file of that name, or none can be made.
        """
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            try:
                _fill(temporary, rows, schema)
                for suffix in ("-wal", "-shm"):  # of a journal that somebody removed
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{path}{suffix}")
                _name(temporary, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            _sync(path.parent)
        except OSError as error:
            raise cannot_keep(path, error.strerror or str(error)) from None
        return cls.open(path, schema)

    @classmethod
    def open(cls, path: Path, schema: Schema = SCHEMA) -> Store:
        """A journal that is there.

        Raises:
            JournalDamaged: No journal, or a damaged one.
            JournalVersion: Of a version that is not read here.
            JournalError: It may not be read or written.
        """
        size = _look_at(path)
        with _named(path):
            store = cls(path, _connect(path, "mode=rw"))
            try:
                store._prepare(schema, size)
            except BaseException:
                store.drop()
                raise
            return store

    @classmethod
    def look(cls, path: Path, schema: Schema = SCHEMA) -> Store:
        """A journal to be read, which somebody else may be writing.

        Raises:
            As ``open``.
        """
        _look_at(path)
        # Without a log all is in the file; else what is needed to read it stays beside it.
        logged = os.path.lexists(f"{path}-wal")
        with _named(path):
            store = cls(path, _connect(path, "mode=ro" if logged else "mode=ro&immutable=1"))
            try:
                store._check_kind(schema, migrate=False)
            except BaseException:
                store.drop()
                raise
            return store

    def write(self, rows: Sequence[Row], durable: bool) -> None:
        """One transaction. ``durable``: on disk when this returns; else handed to the system.

        Raises:
            JournalError: The disk is full, or says no; nothing of it is written then.
        """
        with self._turn, _named(self.path):
            connection = self._connection
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            if (done := _only_done(connection, rows)) is not None:
                _write_done(connection, done)  # a statement is written whole, or not at all
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                _write_all(connection, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement; for few."""
        with self._turn, _named(self.path):
            return list(self._connection.execute(sql, values))

    def known(self, keys: Sequence[tuple[str, bytes, str]]) -> list[DoneRow]:
        """Those of ``keys`` (URL, name, operation) that are done."""
        found: list[DoneRow] = []
        with self._turn, _named(self.path):
            for start in range(0, len(keys), _MANY):
                some = keys[start : start + _MANY]
                values = [v for n, key in enumerate(some, start) for v in (n, *key)]
                sql = _KNOWN.format(", ".join(["(?, ?, ?, ?)"] * len(some)))
                (answer,) = self._connection.execute(sql, values).fetchone()
                found += msgspec.json.decode(answer, type=list[DoneRow])
        return found

    def shrink(self) -> None:
        """Forget all objects, and give their space back."""
        tables = ("objects", "uploads", "parts", "downloads", "ranges", "done")
        self.write([(f"DELETE FROM {table}", ()) for table in tables], durable=False)
        with self._turn, _named(self.path):
            self._connection.execute("VACUUM")

    def close(self) -> None:
        """The last one who closes it leaves one file."""
        with self._turn, _named(self.path):
            self._connection.close()

    def drop(self) -> None:
        """Close it as it is."""
        self._connection.close()

    def _prepare(self, schema: Schema, size: int) -> None:
        connection = self._connection
        self._check_kind(schema, migrate=True)
        if _shape(connection) != _shape_of(schema):
            raise damaged(self.path, "its tables are not those of a journal")
        if size <= _CHECKED_WHOLE:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise damaged(self.path, str(found).splitlines()[-1])
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}").fetchone()

    def _check_kind(self, schema: Schema, *, migrate: bool) -> None:
        """Whose file it is, and of which version; an older one is made one of this."""
        connection = self._connection
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if kind != APPLICATION_ID:
            raise damaged(self.path, "it is a database of something else")
        steps = schema.path_from(version)
        if steps is None or (steps and not migrate):
            raise _other_version(self.path, version, schema, connection)
        if not steps:
            return
        script = "\n".join((*steps, f"PRAGMA user_version = {schema.version};"))
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def __repr__(self) -> str:
        return f"<Store {self.path}>"


def cannot_keep(path: Path, reason: str) -> JournalError:
    """The error of a journal that cannot be made or written."""
    return JournalError(
        f"cannot keep a journal at {path}: {reason}",
        fix="Free some space or set XDG_STATE_HOME to a folder that can be written; without a "
        "journal (--no-resume) a run that stops starts from the beginning",
    )


def damaged(path: Path, how: str) -> JournalDamaged:
    """The error of a file that is no journal, or no longer one."""
    return JournalDamaged(
        f"{path} is not a journal, or it is damaged: {how}",
        fix="It is left as it is. Without it (moved away) the run starts from the beginning",
    )


def _other_version(
    path: Path, version: int, schema: Schema, connection: sqlite3.Connection
) -> JournalVersion:
    try:
        (made_by,) = connection.execute("SELECT version FROM run").fetchone()
    except Exception:
        made_by = ""  # other tables
    by = f"s3engine {made_by}" if isinstance(made_by, str) and made_by else "another s3engine"
    return JournalVersion(
        f"{path} was made by {by}: its version is {version}, this one reads {schema.version}",
        fix=f"Finish the run with {by}, or move the file away to start from the beginning",
    )


def _look_at(path: Path) -> int:
    """The size of the file. SQLite would take an empty one for an empty database."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise JournalError(
            f"cannot read the journal {path}: {error.strerror}", fix="Look at its permissions"
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise damaged(path, "it is not a regular file")
        if os.read(descriptor, len(_MAGIC)) != _MAGIC:
            raise damaged(path, "it does not begin as one" if status.st_size else "it is empty")
    finally:
        os.close(descriptor)
    return status.st_size


def _connect(path: Path, how: str) -> sqlite3.Connection:
    import sqlite3
    from urllib.parse import quote

    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(os.path.abspath(path)))}?{how}",
        uri=True,
        timeout=_BUSY,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # What a damaged file says must not run as a program.
        # https://www.sqlite.org/security.html
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        # What is deleted holds no secret, and the file is made anew when all of it is.
        connection.execute("PRAGMA secure_delete = OFF").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _fill(path: Path, rows: Sequence[Row], schema: Schema) -> None:
    """Without a care until all is there: nobody knows the file yet."""
    with _named(path):
        connection = _connect(path, "mode=rw")
        try:
            connection.execute(f"PRAGMA page_size = {4 * KiB}")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = OFF").fetchone()
            connection.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {schema.version}; {schema.script}"
            )
            _write_all(connection, rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        finally:
            connection.close()
    _sync(path)


def _write_all(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """In order; of what is done many at once."""
    done: list[Any] = []
    most = 0
    for sql, values in rows:
        if sql is DONE:
            done += values
            most = most or _most(connection) * len(values)
            if len(done) < most:
                continue
        _write_done(connection, done)
        if sql is not DONE:
            connection.execute(sql, values)
    _write_done(connection, done)


def _only_done(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Any] | None:
    """The values of all rows, where these are of what is done and go into one statement."""
    if not rows or set(map(_statement, rows)) != {DONE} or len(rows) > _most(connection):
        return None
    return list(chain.from_iterable(map(_values, rows)))


def _write_done(connection: sqlite3.Connection, values: list[Any]) -> None:
    if values:
        connection.execute(_done_many(len(values) // 6), values)
        values.clear()


def _most(connection: sqlite3.Connection) -> int:
    """Rows of what is done that one statement takes."""
    import sqlite3

    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    return _MANY_OF_NEW if most >= 6 * _MANY_OF_NEW else _MANY


@lru_cache(maxsize=4)
def _done_many(rows: int) -> str:
    return _DONE_MANY + ", ".join([_DONE_ROW] * rows)


def _name(temporary: Path, path: Path) -> None:
    """Give a file its name, where no file has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise
        os.rename(temporary, path)


def _shape(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """What there is, and the columns of the tables; added ones may stand in another order."""
    shape = set(connection.execute("SELECT type, name FROM sqlite_master"))
    for _, name in list(shape):
        columns = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,))
        shape |= {(name, *map(str, column)) for column in columns}
    return shape


def _shape_of(schema: Schema) -> set[tuple[str, ...]]:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(schema.script)
        return _shape(connection)
    finally:
        connection.close()


def _sync(path: Path) -> None:
    """A file or a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of sqlite3 by ours."""
    import sqlite3

    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # our own mistake
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (_CORRUPT, _NOT_A_DATABASE):
            raise damaged(path, str(error)) from None
        if code:
            raise cannot_keep(path, str(error)) from None
        raise damaged(path, str(error)) from None  # text that is no UTF-8, and the like
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, str(error)) from None
