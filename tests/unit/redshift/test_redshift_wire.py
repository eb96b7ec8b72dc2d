"""The asyncpg executor: typed errors, text results, and a canary that must never be seen."""

import gc
import ssl
import subprocess
import sys
import traceback
from pathlib import Path

import anyio
import pytest
import trustme

from engine.errors import DatabaseError, LoadRefused
from engine.redshift.copy_statement import CopyKeys, CopyStatement
from engine.redshift.errors import Kind, classify
from engine.redshift.executors.wire import WireExecutor
from engine.redshift.formats.csv import CsvFormat
from engine.redshift.jdbc import JdbcUrl
from engine.types import Credentials, S3Url
from tests.unit.redshift.wire_server import Reply, WireServer, error

CANARY = "CANARY0wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMP"
TOKEN = "CANARY1FwoGZXIvYXdzEBYaDEXAMPLETOKEN"
PASSWORD = "CANARY2hunter2hunter2"
KEYS = Credentials("ASIAIOSFODNN7EXAMPLE", CANARY, TOKEN)
COPY = CopyStatement("t", S3Url("stage-bucket", "m"), CopyKeys(KEYS), CsvFormat()).build()


def url(server: WireServer) -> JdbcUrl:
    return JdbcUrl.parse(
        f"jdbc:redshift://127.0.0.1:{server.port}/dev?ssl=false&UID=me&PWD={PASSWORD}"
    )


def wrong_password() -> bytes:
    return error({"S": "FATAL", "V": "FATAL", "C": "28P01", "M": f'bad password "{PASSWORD}"'})


def assert_no_canary(caught: BaseException) -> None:
    seen = "".join(
        traceback.TracebackException.from_exception(caught, capture_locals=True).format()
    )
    seen += f"{caught}{caught!r}{caught.__dict__}"
    assert caught.__context__ is None and caught.__cause__ is None
    for secret in (CANARY, TOKEN, PASSWORD):
        for start in range(0, len(secret) - 12, 6):
            assert secret[start : start + 12] not in seen


@pytest.mark.parametrize("style", ["whole", "piece", "detail", "fatal", "drop"])
async def test_no_secret_in_any_error(style: str) -> None:
    def answer(sql: str) -> Reply:
        at = sql.index("SECRET_ACCESS_KEY")
        if style == "drop":
            return Reply(drop=True)
        text = {"whole": sql, "piece": f'syntax error at or near "{sql[at + 25 : at + 55]}"'}
        detail = (
            f"\n  error:  no {TOKEN}\n  code:      8001\n  query:     77\n  context: {sql[at:]}\n"
        )
        severity = "FATAL" if style == "fatal" else "ERROR"
        return Reply(
            {"S": severity, "V": severity, "C": "XX000", "M": text.get(style, "no"), "D": detail}
        )

    async with WireServer(answer).run() as server:
        executor = await WireExecutor.connect(url(server))
        with pytest.raises(DatabaseError) as caught:
            await executor.execute(COPY.text, COPY.public)
        await executor.aclose()
        assert PASSWORD not in repr(executor)
    assert_no_canary(caught.value)
    assert caught.value.lost is (style in ("drop", "fatal"))
    if style not in ("drop", "fatal"):
        assert caught.value.facts["query_id"] == "77"
        assert caught.value.facts["redshift_code"] == "8001"
        assert "ASIA***LE" in str(caught.value.facts["statement"])
    gc.collect()


async def test_text_results_and_backend() -> None:
    rows: list[list[bytes | None]] = [[b"a", None], [b"\xc3\xa9", b"1"]]
    async with WireServer(lambda sql: Reply(rows=rows)).run() as server:
        executor = await WireExecutor.connect(url(server))
        assert await executor.fetch_strings("select a, b") == [("a", None), ("\u00e9", "1")]
        assert executor.backend_id() == 4711
        await executor.execute("BEGIN")
        # The driver parses an unnamed statement anew before it binds it.
        assert list(dict.fromkeys(server.seen)) == ["select a, b", "BEGIN"]
        assert "open, 2 statements" in repr(executor)
        await executor.aclose()
        await executor.aclose()
        assert "closed" in repr(executor)
        with pytest.raises(DatabaseError) as caught:
            await executor.execute("COMMIT")
        assert caught.value.lost


async def test_other_types_are_refused() -> None:
    reply = Reply(rows=[[b"\0\0\0\1"]], type_oid=23)
    async with WireServer(lambda sql: reply).run() as server:
        executor = await WireExecutor.connect(url(server))
        with pytest.raises(DatabaseError, match="other types than text"):
            await executor.fetch_strings("select 1")
        await executor.aclose()


async def test_an_error_leaves_the_session_usable() -> None:
    def answer(sql: str) -> Reply:
        fields = {"S": "ERROR", "C": "42P01", "M": 'relation "x" does not exist'}
        return Reply(fields) if "x" in sql else Reply()

    async with WireServer(answer).run() as server:
        executor = await WireExecutor.connect(url(server))
        for call in (executor.execute, executor.fetch_strings):
            with pytest.raises(DatabaseError) as caught:
                await call("select x")
            assert (caught.value.sqlstate, caught.value.lost) == ("42P01", False)
            assert classify(caught.value).kind is Kind.NO_TABLE
        await executor.execute("ROLLBACK")
        await executor.aclose()


async def test_cancellation_reaches_the_server_and_leaves_the_session_usable() -> None:
    async with WireServer(lambda sql: Reply(hold=sql == "COPY")).run() as server:
        executor = await WireExecutor.connect(url(server))
        with anyio.move_on_after(0.05) as scope:
            await executor.execute("COPY")
        assert scope.cancelled_caught
        await executor.execute("ROLLBACK")
        assert server.cancelled.is_set() and server.seen == ["COPY", "ROLLBACK"]
        await executor.aclose()


@pytest.mark.parametrize("lost", [True, False])
async def test_no_connection(lost: bool) -> None:
    async with WireServer(lambda sql: Reply(), greeting=wrong_password()).run() as server:
        target = url(server)
        if not lost:
            with pytest.raises(DatabaseError) as caught:
                await WireExecutor.connect(target)
            assert caught.value.sqlstate == "28P01"
            assert_no_canary(caught.value)
    if lost:
        with pytest.raises(DatabaseError) as caught:
            await WireExecutor.connect(target, timeout=2)
        assert caught.value.lost
        assert_no_canary(caught.value)


@pytest.mark.parametrize(
    ("name", "properties", "served", "reached"),
    [
        ("localhost", "", True, True),
        ("elsewhere.example", "", True, False),
        ("elsewhere.example", "&sslmode=verify-ca", True, True),
        ("untrusted", "", True, False),
        ("localhost", "", False, False),
    ],
)
async def test_tls(tmp_path: Path, name: str, properties: str, served: bool, reached: bool) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issuer = trustme.CA() if name == "untrusted" else authority
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert(name if name != "untrusted" else "localhost").configure_cert(context)
    async with WireServer(lambda sql: Reply(), tls=context if served else None).run() as server:
        target = JdbcUrl.parse(
            f"jdbc:redshift://localhost:{server.port}/dev?UID=me&PWD={PASSWORD}"
            f"&sslrootcert={tmp_path / 'ca.pem'}{properties}"
        )
        if not reached:
            with pytest.raises(DatabaseError) as caught:
                await WireExecutor.connect(target, timeout=5)
            assert caught.value.lost
            return
        executor = await WireExecutor.connect(target, timeout=5)
        await executor.execute("BEGIN")
        await executor.aclose()
    assert server.seen == ["BEGIN"]


async def test_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from-the-environment")
    with pytest.raises(LoadRefused, match="IAM"):
        await WireExecutor.connect(JdbcUrl.parse("jdbc:redshift:iam://wh:eu-west-1/dev"))
    with pytest.raises(LoadRefused, match="no password"):
        await WireExecutor.connect(JdbcUrl.parse("jdbc:redshift://h/dev?UID=me"))
    with pytest.raises(LoadRefused, match="sslrootcert"):
        await WireExecutor.connect(
            JdbcUrl.parse("jdbc:redshift://h/dev?UID=me&PWD=x&sslrootcert=/nowhere")
        )


def test_the_door_loads_no_driver() -> None:
    code = (
        "import sys, engine.redshift as door\n"
        "from engine.redshift.load import Stage\n"
        "from engine.redshift import *\n"
        "import engine.redshift.executors.wire\n"
        "assert callable(door.load) and Stage is door.Stage, door.load\n"
        "assert set(door.__all__) <= set(dir(door))\n"
        "sys.exit('asyncpg' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
