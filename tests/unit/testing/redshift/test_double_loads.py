"""Whole loads: a lease that ends on the way, a client that dies, workers with one load id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import asyncpg
import pytest

from engine.testing.aws import AwsDouble
from engine.testing.redshift import COPY_ROLE, RedshiftDouble, assume_role_keys

if TYPE_CHECKING:
    from tests.unit.testing.redshift.conftest import Connection, Stage

PATIENCE = 10.0


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_token_that_ends_while_copy_runs(
    db: Connection, stage: Stage, redshift: RedshiftDouble, aws: AwsDouble
) -> None:
    user = aws.gate.add_user(aws.account, "loader", allow=[("sts:AssumeRole", "*")])
    role = aws.gate.add_role(
        aws.account, "keys", trust=[user.arn], allow=[("s3:GetObject", "*"), ("s3:ListBucket", "*")]
    )
    get = assume_role_keys(aws.endpoint, user.access_key_id, user.secret_access_key, role)
    keys = await get()
    assert await get() is keys
    auth = (
        f"ACCESS_KEY_ID '{keys.access_key_id}' SECRET_ACCESS_KEY '{keys.secret_access_key}' "
        f"SESSION_TOKEN '{keys.session_token}'"
    )
    sql = stage.copy("1,a\n").replace(f"IAM_ROLE '{COPY_ROLE}'", auth)
    await db.execute(sql)
    redshift.faults.add("copy-delay", seconds=0.3)
    await db.execute("begin")
    running = asyncio.ensure_future(db.execute(sql))
    await until(lambda: len(redshift.copies) == 2)
    aws.gate.expire_sessions(role)
    with pytest.raises(asyncpg.InternalServerError, match="ExpiredToken"):
        await running
    await db.execute("rollback")
    assert await db.fetchval("select count(*) from t") == 1


@pytest.mark.parametrize(("in_block", "rows"), [(False, 1), (True, 0)])
async def test_a_client_that_dies_while_copy_runs(
    db: Connection, stage: Stage, redshift: RedshiftDouble, in_block: bool, rows: int
) -> None:
    # Redshift finishes a COPY whose session ends; a block that was open is rolled back.
    redshift.faults.add("copy-delay", seconds=0.2)
    if in_block:
        await db.execute("begin")
    running = asyncio.ensure_future(db.execute(stage.copy("1,a\n")))
    await until(lambda: len(redshift.copies) == 1)
    db.terminate()
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError)):
        await running
    await until(lambda: redshift.copies[0].state == "loaded")
    await until(
        lambda: (
            redshift.query("select count(*) from pg_stat_activity where usename = 'loader'")
            == [(0,)]
        )
    )
    assert redshift.query("select count(*) from t") == [(rows,)]


async def test_workers_with_one_load_id(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    await db.execute("create table loads (load_id varchar(64), rows bigint)")
    sql = stage.copy("1,a\n2,b\n")

    async def load(connection: Connection) -> bool:
        async with connection.transaction():
            await connection.execute("lock loads")
            if await connection.fetchval("select count(*) from loads where load_id = 'x'"):
                return False
            await connection.execute(sql)
            await connection.execute("insert into loads select 'x', pg_last_copy_count()")
        return True

    async with asyncpg.create_pool(
        redshift.dsn, min_size=1, max_size=6, statement_cache_size=0
    ) as pool:

        async def worker() -> bool:
            async with pool.acquire() as connection:
                return await load(connection)  # type: ignore[arg-type]  # a proxy of one

        done = await asyncio.gather(*(worker() for _ in range(6)))
    assert sorted(done) == [False] * 5 + [True]
    assert redshift.query("select count(*), (select rows from loads) from t") == [(2, 2)]
