"""What a client sees of the double besides COPY."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import asyncpg
import pytest

from engine.errors import UsageError
from engine.testing.redshift import PostgresServer, RedshiftDouble

if TYPE_CHECKING:
    from tests.unit.testing.redshift.conftest import Connection


async def connect(redshift: RedshiftDouble) -> Connection:
    connection: Connection = await asyncpg.connect(redshift.dsn, statement_cache_size=0)
    return connection


async def test_asyncpg_takes_it_for_redshift(db: Connection, redshift: RedshiftDouble) -> None:
    assert tuple(db.get_server_version())[:3] == (8, 0, 2)
    assert db.get_reset_query().strip() == "RESET ALL;"
    assert db.get_settings().padb_revision == "double"
    assert redshift.jdbc_url == f"jdbc:redshift://127.0.0.1:{redshift.port}/dev?ssl=false"
    await db.reset()


async def test_both_protocols(db: Connection) -> None:
    assert await db.execute("insert into t values (1, 'a'); insert into t values (2, 'b')")
    assert await db.fetchval("select name from t where id = $1", 2) == "b"
    rows = await db.fetch("select id, name from t order by id;")
    assert [tuple(r) for r in rows] == [(1, "a"), (2, "b")]
    statement = await db.prepare("select count(*) from t")
    assert await statement.fetchval() == 2
    async with db.transaction():
        assert [r["id"] async for r in db.cursor("select id from t order by id", prefetch=1)] == [
            1,
            2,
        ]
    with pytest.raises(asyncpg.UndefinedTableError):
        await db.fetch("select * from nowhere")
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await db.execute("selec 1")
    assert await db.fetchval("select 'still here'") == "still here"


async def test_numeric_is_a_trap_unless_it_is_cast(db: Connection) -> None:
    # Redshift's binary numeric is a scaled integer; asyncpg reads it as PostgreSQL's.
    assert str(await db.fetchval("select 12345.678::numeric(10,3)")) == "0E-24910"
    assert await db.fetchval("select cast(12345.678::numeric(10,3) as varchar)") == "12345.678"


async def test_several_statements_are_one_transaction(db: Connection) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await db.execute("insert into t values (1, 'a'); select 1/0")
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await db.execute("insert into t values (1, 'a'); savepoint s")
    assert await db.fetchval("select count(*) from t") == 0


async def test_savepoints_are_refused_and_fail_the_transaction(db: Connection) -> None:
    await db.execute("begin")
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="double's own"):
        await db.execute("savepoint s")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await db.fetch("select 1")
    await db.execute("rollback")


async def test_truncate_commits(db: Connection, redshift: RedshiftDouble) -> None:
    for execute in (db.execute, db.fetch):
        await db.execute("begin; insert into t values (1, 'a')")
        await execute("create table if not exists other (a int)")
        await execute("truncate other")
        await db.execute("rollback")
    assert redshift.query("select count(*) from t") == [(2,)]


async def test_keys_are_not_enforced(db: Connection) -> None:
    await db.execute("create table k (id int primary key) distkey(id)")
    await db.execute("insert into k values (1); insert into k values (1)")
    with pytest.raises(asyncpg.NotNullViolationError):
        await db.execute("insert into k values (null)")


async def test_settings_functions_and_slices(db: Connection, redshift: RedshiftDouble) -> None:
    await db.execute("set query_group to 'run-1'")
    assert await db.fetchval("show query_group") == "run-1"
    assert await db.fetchval("select pg_last_copy_id()") == -1
    assert await db.fetchval("select pg_last_copy_count()") == 0
    assert await db.fetchval("select count(*) from stv_slices") == 2
    redshift.set_slices(5)
    assert await db.fetchval("select count(*) from stv_slices") == 5
    await db.execute("create temp table s (like t); lock table t; lock t")


async def test_copy_from_stdin_is_refused_and_the_session_lives(db: Connection) -> None:
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await db.copy_records_to_table("t", records=[(1, "a")])
    assert await db.fetchval("select 1") == 1


async def test_a_timeout_cancels_and_the_session_lives(db: Connection) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await db.execute("select pg_sleep(30)", timeout=0.1)
    assert await db.fetchval("select 1") == 1
    await db.execute("set statement_timeout to 50")
    with pytest.raises(asyncpg.QueryCanceledError, match="canceled on user's request"):
        await db.execute("select pg_sleep(30)")


async def test_a_session_can_be_terminated_by_another(
    db: Connection, redshift: RedshiftDouble
) -> None:
    pid = db.get_server_pid()
    assert pid == await db.fetchval("select pg_backend_pid()")
    other = await connect(redshift)
    assert await other.fetchval("select pg_terminate_backend($1)", pid)
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await db.fetchval("select 1")
    await other.close()


async def test_passwords(redshift: RedshiftDouble, postgres: PostgresServer) -> None:
    def dsn(double: RedshiftDouble) -> str:
        return double.dsn.replace("Loader-Secret-1", "wrong")

    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(dsn(redshift))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(redshift.dsn.replace("loader:", "other:"))
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(redshift.dsn.replace("/dev", "/prod"))
    with RedshiftDouble(s3_endpoint="http://x", auth="cleartext", server=postgres) as clear:
        await (await connect(clear)).close()
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(dsn(clear))


def test_garbage_is_dropped(redshift: RedshiftDouble) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", struct.pack("!ii", 8, 1), struct.pack("!ii", 4, 0)):
        with socket.create_connection(("127.0.0.1", redshift.port), timeout=5) as link:
            link.sendall(garbage)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(100) == b""
    with socket.create_connection(("127.0.0.1", redshift.port), timeout=5) as link:
        link.sendall(struct.pack("!ii", 8, 80877103))
        assert link.recv(1) == b"N"


def test_life(redshift: RedshiftDouble) -> None:
    with pytest.raises(UsageError, match="once"):
        redshift.start()
    redshift.stop()
    redshift.stop()
    with pytest.raises(UsageError, match="not running"):
        redshift.query("select 1")
    with pytest.raises(UsageError):
        redshift.faults.add("no-such-fault")
    with pytest.raises(UsageError):
        RedshiftDouble(s3_endpoint="http://x", slices=0)
