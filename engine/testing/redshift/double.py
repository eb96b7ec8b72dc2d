"""The Redshift double: PostgreSQL behind a proxy that speaks and behaves like Redshift.

What lives here: its life (a thread with an event loop of its own, so that a test in any loop can
use it), its databases, and what tests ask of it. What must not: the protocol, COPY.

Known differences from Redshift: the isolation is READ COMMITTED, not SNAPSHOT, because system
tables have to be readable inside the transaction that filled them; one node; no WLM.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import TypeVar
from urllib.parse import quote

from engine.errors import DatabaseError, EngineError, SourceUnavailable, UsageError
from engine.testing.redshift import pgwire, tables
from engine.testing.redshift.backend import Backend
from engine.testing.redshift.client import Cancel, Client, ClientGone
from engine.testing.redshift.copy import CopyRecord, CopyWorld, Roles
from engine.testing.redshift.faults import Faults
from engine.testing.redshift.pgwire import Column, ServerError
from engine.testing.redshift.postgres import SUPERUSER, PostgresServer
from engine.testing.redshift.proxy import Session
from engine.testing.redshift.s3 import S3Reader
from engine.testing.redshift.sql import quote_name

T = TypeVar("T")

# The database, filled with the system tables, from which every double's own is made.
_TEMPLATE = "redshift_template"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_QUERY_SECONDS = 120.0
# CREATE DATABASE needs the template for itself; a session that ended lingers some milliseconds.
_TEMPLATE_TRIES = 100
_TEMPLATE_PAUSE = 0.02
_MAX_SLICES = 1024


class RedshiftDouble:
    """A Redshift on 127.0.0.1.

    Attributes:
        faults: Faults to order; see ``Faults.add``.
        port: TCP port, 0 while stopped.
        user: The one user.
        password: Its password.
        database: The one database, as clients call it.
    """

    def __init__(
        self,
        *,
        s3_endpoint: str,
        region: str = "us-east-1",
        roles: Roles | None = None,
        user: str = "loader",
        password: str = "Loader-Secret-1",
        database: str = "dev",
        slices: int = 2,
        auth: str = "md5",
        server: PostgresServer | None = None,
    ) -> None:
        """Describe a double; ``start`` starts it.

        Args:
            s3_endpoint: Where COPY reads, path style.
            region: Region of the cluster: of signatures, where COPY says no REGION.
            roles: IAM_ROLE string -> keys, or a callable that fetches them.
            user: Name of the user.
            password: Its password.
            database: Name of the database.
            slices: Rows of stv_slices.
            auth: ``md5`` or ``cleartext``.
            server: A running PostgreSQL to share; None starts one.

        Raises:
            UsageError: No such ``auth``, or slices out of range.
        """
        if auth not in ("md5", "cleartext"):
            raise UsageError(f"no such password check: {auth!r}", fix="md5 or cleartext")
        if not 1 <= slices <= _MAX_SLICES:
            raise UsageError(f"slices {slices} is not in 1..{_MAX_SLICES}")
        self.user, self.password, self.database = user, password, database
        self.faults = Faults()
        self.port = 0
        self._auth = auth
        self._s3 = S3Reader(s3_endpoint, region)
        self._world = CopyWorld(
            s3=self._s3,
            roles=dict(roles or {}),
            faults=self.faults,
            admin=self._admin,
            database=database,
            user=user,
            slices=slices,
        )
        self._shared = server
        self._server: PostgresServer | None = None
        # Databases of one shared PostgreSQL must differ; the client's name is only the proxy's.
        self._backing = f"{database}_{uuid.uuid4().hex[:8]}" if server else database
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._admin_backend: Backend | None = None
        self._admin_lock = asyncio.Lock()
        self._sessions: dict[tuple[int, int], Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        state = f"port {self.port}, {len(self._sessions)} sessions" if self.port else "stopped"
        return f"<RedshiftDouble {state}, {len(self._world.records)} copies>"

    def __enter__(self) -> RedshiftDouble:
        if self._thread is None:  # start_for_tests returns a started one
            self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def jdbc_url(self) -> str:
        """``jdbc:redshift://127.0.0.1:PORT/dev?ssl=false``."""
        return f"jdbc:redshift://127.0.0.1:{self.port}/{self.database}?ssl=false"

    @property
    def dsn(self) -> str:
        """For asyncpg, password included."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{self.database}?sslmode=disable"

    @property
    def copies(self) -> tuple[CopyRecord, ...]:
        """Every COPY so far, in order, with secrets masked."""
        return tuple(self._world.records)

    @property
    def slices(self) -> int:
        """Rows of stv_slices; ``set_slices`` changes it."""
        return self._world.slices

    def start(self) -> None:
        """Start PostgreSQL, unless one was given, and the proxy. Blocks until it is ready.

        Raises:
            UsageError: It was started before, or there is no PostgreSQL.
            SourceUnavailable: PostgreSQL did not start.
        """
        if self._thread is not None:
            raise UsageError("a RedshiftDouble is started once", fix="Make a new one")
        self._server = self._shared or PostgresServer()
        if self._shared is None:
            self._server.start()
        self._thread = threading.Thread(target=self._run, name="redshift-double", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or self._failure is not None:
            failure = self._failure
            self.stop()
            raise SourceUnavailable(f"the Redshift double did not start: {failure}") from failure

    def stop(self) -> None:
        """Close all sessions, drop the database, stop PostgreSQL if it was started here."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_STOP_SECONDS)
        self.port = 0
        if self._server is not None and self._shared is None:
            self._server.stop()
        self._server = None

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Run SQL in PostgreSQL itself, past the proxy, as superuser, committed at once.

        Integers, floats, booleans and numerics come as Python's; every other type as text.

        Raises:
            UsageError: The double is not running.
            DatabaseError: PostgreSQL answered with an error.
        """
        try:
            columns, rows = self._call(self._query(sql))
        except ServerError as error:
            raise DatabaseError(error.message, sqlstate=error.sqlstate) from error
        return [tuple(map(_value, columns, row)) for row in rows]

    def set_slices(self, count: int) -> None:
        """Change the number of slices that stv_slices shows and that COPY spreads files over.

        Raises:
            UsageError: Out of range, or the double is not running.
        """
        if not 1 <= count <= _MAX_SLICES:
            raise UsageError(f"slices {count} is not in 1..{_MAX_SLICES}")
        self._call(self._admin(tables.fill_slices(count)))
        self._world.slices = count

    def _call(self, work: Coroutine[object, object, T]) -> T:
        if self._loop is None or not self.port:
            work.close()
            raise UsageError("the Redshift double is not running", fix="Call start() first")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_QUERY_SECONDS)

    async def _query(self, sql: str) -> tuple[tuple[Column, ...], list[list[str | None]]]:
        backend = await self._connect(SUPERUSER, self._backing)
        try:
            return await backend.table(sql)
        finally:
            backend.close()

    async def _admin(self, sql: str) -> object:
        async with self._admin_lock:
            assert self._admin_backend is not None
            return await self._admin_backend.rows(sql)

    def _run(self) -> None:
        # Not the policy's loop: a test may have installed one that moves time by itself.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._serve())
            except BaseException as error:  # handed to start(), which raises it
                self._failure = error
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        await self._make_database()
        self._admin_backend = await self._connect(SUPERUSER, self._backing)
        await self._admin(tables.fill_slices(self._world.slices))
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1024 * 1024)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._admin_backend.close()
            await self._s3.close()
            await self._drop_database()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Client(reader, writer)
        try:
            await self._session(client)
        except ServerError as error:
            client.write(error.encode())
        except ClientGone:
            pass
        except EngineError as error:
            client.write(ServerError(str(error), "57P03", severity="FATAL").encode())
        except asyncio.CancelledError:
            # asyncio.start_server would log it as an error.
            if not self._stopping.is_set():
                raise
        finally:
            self._tasks.discard(task)
            await client.close()

    async def _session(self, client: Client) -> None:
        asked = await client.startup()
        if isinstance(asked, Cancel):
            session = self._sessions.get((asked.pid, asked.secret))
            if session is not None:
                await session.cancel()
            return
        user = asked.get("user", "")
        await client.check_password(user, self.user, self.password, self._auth)
        database = asked.get("database", user)
        if database != self.database:
            raise ServerError(f'database "{database}" does not exist', "3D000", severity="FATAL")
        backend = await self._connect(self.user, self._backing)
        key = (backend.pid, backend.secret)
        session = Session(self._world, client, backend)
        self._sessions[key] = session
        try:
            client.welcome(user, *key, asked)
            await client.flush()
            await session.serve()
        finally:
            del self._sessions[key]
            backend.close()

    async def _connect(self, user: str, database: str) -> Backend:
        assert self._server is not None
        parameters = {"user": user, "database": database, "client_encoding": "UTF8"}
        return await Backend.connect(self._server.socket_path, parameters)

    async def _make_database(self) -> None:
        root = await self._connect(SUPERUSER, "postgres")
        try:
            # Doubles that share one PostgreSQL take turns with the template.
            await root.rows("SELECT pg_advisory_lock(1)")
            if not await root.rows(f"SELECT 1 FROM pg_database WHERE datname = '{_TEMPLATE}'"):
                await root.rows(f"CREATE DATABASE {_TEMPLATE}")
                template = await self._connect(SUPERUSER, _TEMPLATE)
                await template.rows(tables.SCHEMA)
                template.close()
            await self._make_role(root)
            owner, name = quote_name(self.user), quote_name(self._backing)
            await _patiently(
                lambda: root.rows(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} OWNER {owner}")
            )
        finally:
            root.close()

    async def _make_role(self, root: Backend) -> None:
        try:
            await root.rows(f"CREATE ROLE {quote_name(self.user)} LOGIN")
        except ServerError as error:
            if error.sqlstate != "42710":  # another double on this PostgreSQL has made it
                raise

    async def _drop_database(self) -> None:
        if self._shared is not None:
            root = await self._connect(SUPERUSER, "postgres")
            await root.rows(f"DROP DATABASE {quote_name(self._backing)} WITH (FORCE)")
            root.close()


async def _patiently(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat while the template is in use (55006)."""
    for _ in range(_TEMPLATE_TRIES):
        try:
            await call()
            return
        except ServerError as error:
            if error.sqlstate != "55006":
                raise
        await asyncio.sleep(_TEMPLATE_PAUSE)
    raise SourceUnavailable("the template database stays in use")


def _value(column: Column, text: str | None) -> object:
    if text is None:
        return None
    if column.type_oid in (
        pgwire.TYPE_INT2,
        pgwire.TYPE_INT4,
        pgwire.TYPE_INT8,
        pgwire.TYPE_OID,
    ):
        return int(text)
    if column.type_oid in (pgwire.TYPE_FLOAT4, pgwire.TYPE_FLOAT8):
        return float(text)
    if column.type_oid == pgwire.TYPE_NUMERIC:
        return Decimal(text)
    if column.type_oid == pgwire.TYPE_BOOL:
        return text == "t"
    return text
