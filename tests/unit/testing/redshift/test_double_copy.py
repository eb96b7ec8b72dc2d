"""COPY through the gate: rows, errors, history, transactions."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from engine.testing.aws import AwsDouble
from engine.testing.redshift import COPY_ROLE, RedshiftDouble

if TYPE_CHECKING:
    from tests.unit.testing.redshift.conftest import Connection, Stage

FAILED = r"Load into table 't' failed.  Check 'stl_load_errors' system table for details."


async def rows(db: Connection) -> list[tuple[object, ...]]:
    return [tuple(r) for r in await db.fetch("select id, name from t order by id")]


async def errors(db: Connection) -> list[asyncpg.Record]:
    return await db.fetch(
        "select trim(filename) as file, line_number, trim(colname) as col, trim(type) as type, "
        "trim(raw_line) as raw, trim(raw_field_value) as value, err_code, "
        "trim(err_reason) as reason from stl_load_errors where query = pg_last_copy_id()"
    )


@pytest.mark.parametrize("options", ["", "gzip"])
async def test_a_good_copy(
    db: Connection, stage: Stage, redshift: RedshiftDouble, options: str
) -> None:
    notices: list[str] = []
    db.add_log_listener(lambda _, m: notices.append(f"{m.severity}: {m.message}"))
    text = 'id,name\r\n1,a\r\n2,"b\nb"\r\n3,NA\r\n'
    sql = stage.copy(text, f"ignoreheader 1 null as 'NA' {options}")
    assert await db.execute(sql) == "COPY"
    assert await rows(db) == [(1, "a"), (2, "b\nb"), (3, None)]
    assert await db.fetchval("select pg_last_copy_count()") == 3
    assert notices == ["INFO: Load into table 't' completed, 3 record(s) loaded successfully."]
    query = await db.fetchval("select pg_last_copy_id()")
    (record,) = redshift.copies
    assert (record.query, record.state, record.rows, record.auth) == (query, "loaded", 3, "role")
    (commit,) = await db.fetch("select trim(filename), lines_scanned from stl_load_commits")
    assert tuple(commit) == ("s3://bkt/file", 5)
    (history,) = await db.fetch("select query_id, status, loaded_rows from sys_load_history")
    assert tuple(history) == (query, "completed", 3)
    assert await db.fetchval("select file_name from sys_load_detail") == "s3://bkt/file"


async def test_copy_by_the_extended_protocol(db: Connection, stage: Stage) -> None:
    sql = stage.copy("1,a\n")
    assert await db.fetch(sql) == []
    statement = await db.prepare(sql)
    await statement.fetch()
    assert await db.fetchval("select count(*) from t") == 2
    with pytest.raises(asyncpg.InternalServerError, match="failed"):
        await db.fetch(stage.copy("x,a\n"))
    assert await db.fetchval("select count(*) from t") == 2


async def test_the_transaction_is_the_clients(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    await db.execute("begin; create table u (id int, name varchar(5))")
    await db.execute(stage.copy("1,a\n", table="u"))
    await db.execute(stage.copy("a,1\n", table="t (name, id)"))
    assert await db.fetchval("select count(*) from u") == 1
    assert redshift.query("select count(*) from t") == [(0,)]
    await db.execute("rollback")
    assert redshift.query("select count(*) from t") == [(0,)]
    assert await db.fetchval("select pg_last_copy_id()") == -1
    assert await db.fetchval("select count(*) from stl_load_commits") == 2
    await db.execute("begin")
    await db.execute(stage.copy("1,a\n"))
    await db.execute("commit")
    assert redshift.query("select * from t") == [(1, "a")]


async def test_errors_are_read_after_rollback_in_the_same_session(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    await db.execute("begin")
    with pytest.raises(asyncpg.InternalServerError) as caught:
        await db.execute(stage.copy("id,name\n1,a\n2,toolong\n3,c\n", "ignoreheader 1"))
    assert (str(caught.value), caught.value.sqlstate) == (FAILED, "XX000")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await db.execute("select 1")
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await db.execute(stage.copy("1,a\n"))
    await db.execute("rollback")
    (row,) = await errors(db)
    assert tuple(row) == (
        "s3://bkt/file", 3, "name", "varchar", "2,toolong", "toolong", 1204,
        "String length exceeds DDL length",
    )  # fmt: skip
    assert await db.fetchval("select error_code from sys_load_error_detail") == 1204
    assert await rows(db) == []
    assert [c.state for c in redshift.copies] == ["failed"]


async def test_maxerror(db: Connection, stage: Stage) -> None:
    text = "1,a\nx,b\n3,c\ny,d\n"
    await db.execute(stage.copy(text, "maxerror 3"))
    assert await db.fetchval("select pg_last_copy_count()") == 2
    assert [r["line_number"] for r in await errors(db)] == [2, 4]
    with pytest.raises(asyncpg.InternalServerError):
        await db.execute(stage.copy(text, "maxerror 2"))


async def test_not_null_and_noload(db: Connection, stage: Stage) -> None:
    await db.execute(stage.copy("1,a\n", "noload"))
    assert await rows(db) == []
    with pytest.raises(asyncpg.InternalServerError):
        await db.execute(stage.copy(",a\n"))
    (row,) = await errors(db)
    assert row["err_code"] == 1213


async def test_files_of_a_manifest(db: Connection, stage: Stage) -> None:
    for n in range(3):
        stage.put(f"part%20{n}%2B%C3%BC", f"{n},a\n".encode())
    urls = [f"s3://bkt/part {n}+ü" for n in range(3)]
    manifest = stage.manifest(*urls, urls[0], sizes=dict.fromkeys(urls, 4))
    await db.execute(stage.statement(manifest))
    # A url that is listed twice is loaded twice.
    assert [r[0] for r in await rows(db)] == [0, 0, 1, 2]
    slices = await db.fetch("select distinct slice from stl_load_commits order by 1")
    assert [r[0] for r in slices] == [0, 1]


async def test_missing_files(db: Connection, stage: Stage) -> None:
    good = stage.put("good", b"1,a\n")
    both = stage.manifest(good, "s3://bkt/none")
    with pytest.raises(
        asyncpg.InternalServerError, match="^Mandatory url is not present"
    ) as caught:
        await db.execute(stage.statement(both))
    assert "s3://bkt/none" in str(caught.value.detail)
    assert await rows(db) == []
    await db.execute(stage.statement(stage.manifest(good, "s3://bkt/none", mandatory=False)))
    assert await rows(db) == [(1, "a")]
    with pytest.raises(asyncpg.InternalServerError, match="not present"):
        await db.execute(stage.statement(stage.manifest("s3://bkt/none", mandatory=False)))
    # Such failures do not change the id of the last COPY.
    assert await db.fetchval("select pg_last_copy_count()") == 1


async def test_manifests_that_do_not_fit(db: Connection, stage: Stage) -> None:
    good = stage.put("good", b"1,a\n")
    with pytest.raises(asyncpg.InternalServerError, match="416 Message: InvalidRange"):
        await db.execute(stage.statement(stage.manifest(good, sizes={good: 5})))
    for body in (b"no json", b"{}", b'{"entries": []}', b'{"entries": [{"url": "x"}]}'):
        with pytest.raises(asyncpg.InternalServerError, match="double's own"):
            await db.execute(stage.statement(stage.put("m", body)))
    with pytest.raises(asyncpg.InternalServerError, match="^Problem reading manifest file - S3S"):
        await db.execute(stage.statement("s3://bkt/absent"))
    with pytest.raises(asyncpg.InternalServerError, match="nonexistent table nowhere"):
        await db.execute(stage.copy("1,a\n", table="nowhere"))
    with pytest.raises(asyncpg.InternalServerError, match="not a whole gzip file"):
        await db.execute(stage.statement(stage.manifest(good), "gzip"))


async def test_roles_and_keys(db: Connection, stage: Stage, aws: AwsDouble) -> None:
    sql = stage.copy("1,a\n")
    await db.execute(sql.replace(f"'{COPY_ROLE}'", "default"))
    with pytest.raises(
        asyncpg.InternalServerError, match="not authorized to assume IAM Role arn:x"
    ):
        await db.execute(sql.replace(COPY_ROLE, "arn:x"))
    blind = aws.gate.add_user(aws.account, "blind").credentials
    reader = aws.gate.add_user(aws.account, "reader", allow=[("s3:*", "*")]).credentials
    one = aws.gate.add_user(aws.account, "one", allow=[("s3:GetObject", "*/manifest")]).credentials

    def with_keys(key_id: str, secret: str) -> str:
        keys = f"ACCESS_KEY_ID '{key_id}' SECRET_ACCESS_KEY '{secret}'"
        return sql.replace(f"IAM_ROLE '{COPY_ROLE}'", keys)

    await db.execute(with_keys(reader.access_key_id, reader.secret_access_key))
    # Redshift never says that permission for the manifest is missing.
    with pytest.raises(asyncpg.InternalServerError, match="requires full path of an S3 object"):
        await db.execute(with_keys(blind.access_key_id, blind.secret_access_key))
    with pytest.raises(
        asyncpg.InternalServerError, match="^S3ServiceException:.*Error AccessDenied"
    ):
        await db.execute(with_keys(one.access_key_id, one.secret_access_key))
    with pytest.raises(asyncpg.InternalServerError, match="InvalidAccessKeyId"):
        await db.execute(with_keys("AKIANOBODYKNOWSME000", "x"))
    assert len(await rows(db)) == 2


async def test_secrets_are_not_logged(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    sql = stage.copy("1,a\n").replace(
        f"IAM_ROLE '{COPY_ROLE}'", r"ACCESS_KEY_ID 'AKIAX' SECRET_ACCESS_KEY 'can''ary\'canary'"
    )
    for text in (sql, sql.replace("MANIFEST", "nonsense")):
        with pytest.raises(asyncpg.PostgresError):
            await db.execute(text)
    assert "canary" not in repr(redshift.copies)
    history = redshift.query("select string_agg(h::text, ' ') from sys_load_history h")
    assert "canary" not in json.dumps(history)


async def test_a_copy_can_be_canceled(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    redshift.faults.add("copy-delay", seconds=30)
    await db.execute("begin; insert into t values (7, 'x')")
    sql = stage.copy("1,a\n")
    with pytest.raises(asyncio.TimeoutError):
        await db.execute(sql, timeout=0.1)
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await db.execute("select 1")
    await db.execute("rollback; set statement_timeout to 100")
    redshift.faults.add("copy-delay", seconds=30)
    with pytest.raises(asyncpg.QueryCanceledError, match=r"^Query \(\d+\) canceled on user's"):
        await db.execute(sql)
    await db.execute("reset statement_timeout")
    await db.execute(sql)
    assert await rows(db) == [(1, "a")]
    assert [c.state for c in redshift.copies] == ["canceled", "canceled", "loaded"]


async def test_a_copy_that_waits_for_a_lock_can_be_canceled(
    db: Connection, stage: Stage, redshift: RedshiftDouble
) -> None:
    sql = stage.copy("1,a\n")
    other: Connection = await asyncpg.connect(redshift.dsn, statement_cache_size=0)
    await other.execute("begin; lock t")
    copying = asyncio.create_task(db.execute(sql))
    # Cancelled earlier, it would be before the lock, and nobody would hear of it.
    while not await other.fetchval("select count(*) from pg_locks where not granted"):
        await asyncio.sleep(0.01)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    # The driver tells the server in the background; the lock must not be free before that.
    while await other.fetchval("select count(*) from pg_locks where not granted"):
        await asyncio.sleep(0.01)
    await other.execute("rollback")
    # By a session of its own: the driver may close the one whose query it has cancelled.
    await other.execute(sql)
    assert await rows(other) == [(1, "a")]
    await other.close()
