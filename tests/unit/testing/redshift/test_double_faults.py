"""Faults on order: what is committed when the connection is lost, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from engine.testing.redshift import RedshiftDouble

if TYPE_CHECKING:
    from tests.unit.testing.redshift.conftest import Connection, Stage

LOST = (asyncpg.ConnectionDoesNotExistError, ConnectionError)


@pytest.mark.parametrize(
    ("fault", "in_block", "committed"),
    [
        ("drop-before-copy", False, 0),
        ("drop-after-copy", False, 1),
        ("drop-before-copy", True, 0),
        ("drop-after-copy", True, 0),
        ("drop-before-commit", True, 0),
        ("drop-after-commit", True, 1),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
async def test_lost_connections(
    db: Connection,
    stage: Stage,
    redshift: RedshiftDouble,
    fault: str,
    in_block: bool,
    committed: int,
    extended: bool,
) -> None:
    redshift.faults.add(fault)
    sql = stage.copy("1,a\n")
    run = db.fetch if extended else db.execute
    with pytest.raises(LOST):
        if in_block:
            await run("begin")
        await run(sql)
        await run("commit")
    # LOCK waits for the end of the old session, so what is seen after it is final.
    other: Connection = await asyncpg.connect(redshift.dsn, statement_cache_size=0)
    await other.execute("begin; lock t")
    assert await other.fetchval("select count(*) from t") == committed
    await other.close()
    assert [f.kind for f in redshift.faults.met] == [fault]


async def test_the_nth_copy(db: Connection, stage: Stage, redshift: RedshiftDouble) -> None:
    redshift.faults.add("1023", nth=2)
    sql = stage.copy("1,a\n")
    await db.execute(sql)
    with pytest.raises(asyncpg.InternalServerError, match="1023") as caught:
        await db.execute(sql)
    assert (caught.value.message, caught.value.sqlstate) == ("1023", "XX000")
    assert "Serializable isolation violation on table - " in str(caught.value.detail)
    await db.execute(sql)
    assert await db.fetchval("select count(*) from t") == 2


async def test_rows_can_be_lost(db: Connection, stage: Stage, redshift: RedshiftDouble) -> None:
    redshift.faults.add("drop-rows", rows=2)
    sql = stage.copy("1,a\n2,b\n3,c\n")
    await db.execute(sql)
    assert await db.fetchval("select pg_last_copy_count()") == 1
    await db.execute(sql)
    assert await db.fetchval("select count(*) from t") == 4
