"""``s3engine runs`` and ``s3engine clean``: what is known of past runs, and how its rests go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine import Engine
from engine.batch.journal import Journal
from engine.batch.journal.lock import RunLock
from engine.batch.journal.runs import lock_of
from engine.batch.manifest import ManifestEntry, Operation
from engine.records import DownloadRecord, UploadRecord
from engine.types import Credentials, S3Url, TransferResult
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def _folder(cli: Cli) -> Path:
    return cli.home / ".local" / "state" / "s3engine" / "runs"


def _entry(cli: Cli, key: str, operation: Operation = "upload") -> ManifestEntry:
    return ManifestEntry(operation, cli.home / "out" / key, S3Url(cli.bucket, key), 10)


def _record(upload_id: str) -> UploadRecord:
    return UploadRecord(upload_id=upload_id, size=10, version="v", part_size=5)  # type: ignore[arg-type]


def _engine(cli: Cli) -> Engine:
    keys = Credentials(cli.env["AWS_ACCESS_KEY_ID"], cli.env["AWS_SECRET_ACCESS_KEY"])
    return Engine(endpoint_url=cli.aws.endpoint, region=cli.aws.region, credentials=keys)


def _journal(cli: Cli, session: str, *command: str) -> Journal:
    return Journal.open(
        identity=session,
        session=session,
        command=command or ("cp", "out/", cli.url(""), "--region", cli.aws.region),
        folder=_folder(cli),
        cwd=str(cli.home),
    )


async def _begin(cli: Cli, engine: Engine, journal: Journal, key: str, *, named: bool) -> str:
    """An upload as a run begins it; without ``named`` its process dies before the id comes."""
    kept = await journal.object(_entry(cli, key))
    await kept.upload_creating()
    upload_id = await _create(engine, S3Url(cli.bucket, key))
    if named:
        await kept.upload_begun(_record(upload_id))
    return upload_id


async def _create(engine: Engine, url: S3Url) -> str:
    return await engine._ready().context.control.create_multipart_upload(url, None)


async def _stopped_run(cli: Cli) -> dict[str, str]:
    """A run that died with an upload, an intent and a file; another's beside it."""
    async with _engine(cli) as engine:
        async with _journal(cli, "other111") as other:
            theirs = await _begin(cli, engine, other, "nameless", named=True)
            other.abandon()
        async with _journal(cli, "aaaa1111") as journal:
            named = await _begin(cli, engine, journal, "named", named=True)
            nameless = await _begin(cli, engine, journal, "nameless", named=False)
            down = await journal.object(_entry(cli, "down", "download"))
            record = DownloadRecord(
                temporary=".s3engine-aaaa1111-kept-1.part", etag="e", size=9, part_size=5
            )
            await down.download_begun(record)
            done = _entry(cli, "done", "download")
            await (await journal.object(done)).download_begun(record)
            await journal.done(done, TransferResult(done.url, "", 7, "e", 1, None, True, 0.1))
            journal.planned(5, 47)
            journal.abandon()
        strange = await _create(engine, S3Url(cli.bucket, "named-by-nobody"))
    for name in (
        ".s3engine-aaaa1111-kept-1.part",
        ".s3engine-aaaa1111-0123.part",
        ".s3engine-other111-0123.part",
        "aaaa1111.part",
    ):
        cli.file(f"out/{name}")
    return {"theirs": theirs, "named": named, "nameless": nameless, "strange": strange}


async def test_runs_are_listed_and_cleaned(cli: Cli) -> None:
    uploads = await _stopped_run(cli)
    rows = {row["run"]: row for row in cli.run("runs", "--json").check(0).events()}
    assert rows["aaaa1111"]["state"] == "stopped"
    assert (rows["aaaa1111"]["objects"], rows["aaaa1111"]["bytes"]) == (1, 7)
    assert rows["aaaa1111"]["open_uploads"] == 2 and rows["aaaa1111"]["ended_at"] is None
    assert rows["aaaa1111"]["command"][:2] == ["cp", "out/"]
    table = cli.run("runs").check(0).out
    assert "aaaa1111" in table and "stopped" in table and "cp out/ s3://" in table

    told = cli.run("clean", "aaaa", "--dry-run").check(0)
    assert told.out.count("would be aborted") == 2 and told.out.count("would be removed") == 2
    assert {each.upload_id for each in cli.aws.gate.open_uploads(cli.bucket)} == {*uploads.values()}

    (row,) = cli.run("clean", "aaaa1111", "--json").check(0).events()
    assert {each["upload"] for each in row["aborted"]} == {uploads["named"], uploads["nameless"]}
    assert sorted(Path(path).name for path in row["removed"]) == [
        ".s3engine-aaaa1111-0123.part",
        ".s3engine-aaaa1111-kept-1.part",
    ]
    assert row["left"] == []
    left = {each.upload_id for each in cli.aws.gate.open_uploads(cli.bucket)}
    assert left == {uploads["theirs"], uploads["strange"]}
    assert sorted(path.name for path in (cli.home / "out").iterdir()) == [
        ".s3engine-other111-0123.part",
        "aaaa1111.part",
    ]
    assert [path.name[:8] for path in _folder(cli).glob("*.journal")] == ["other111"]

    done = cli.run("clean").check(0)
    assert uploads["theirs"] in done.out
    left = {each.upload_id for each in cli.aws.gate.open_uploads(cli.bucket)}
    assert left == {uploads["strange"]} and list(_folder(cli).iterdir()) == []
    assert "nothing to clean" in cli.run("clean").check(0).err
    assert "no runs" in cli.run("runs").check(0).err
    assert "no run 'aaaa1111' is known" in cli.run("clean", "aaaa1111").check_error(2, "U001").err


async def test_a_run_is_cleaned_with_the_role_of_its_command(cli: Cli) -> None:
    role = cli.role_with("writer", external_id="of-the-partner")
    async with (
        _engine(cli) as engine,
        _journal(cli, "bbbb1111", "cp", "out/", cli.url(""), "--role-arn", role) as journal,
    ):
        await _begin(cli, engine, journal, "key", named=True)
    denied = cli.run("clean", "bbbb1111").check(3)
    assert "error[C103]" in denied.err
    assert len(cli.aws.gate.open_uploads(cli.bucket)) == 1
    before = len(cli.aws.gate.log.where(action="AssumeRole", status=200))
    cli.run("clean", "bbbb1111", "--external-id", "of-the-partner").check(0)
    assert len(cli.aws.gate.log.where(action="AssumeRole", status=200)) == before + 1
    assert cli.aws.gate.open_uploads(cli.bucket) == []


async def test_what_another_run_asked_for_just_now_is_not_aborted(cli: Cli) -> None:
    """Both died before they knew an id: nobody can tell whose the one upload is, until the other
    run is cleaned."""
    async with _engine(cli) as engine:
        async with _journal(cli, "eeee1111") as one, _journal(cli, "ffff1111") as other:
            await _begin(cli, engine, one, "key", named=False)
            await (await other.object(_entry(cli, "key"))).upload_creating()
    (row,) = cli.run("clean", "eeee1111", "--json").check(0).events()
    assert row["aborted"] == [] and len(cli.aws.gate.open_uploads(cli.bucket)) == 1
    cli.run("clean", "ffff1111").check(0)
    assert cli.aws.gate.open_uploads(cli.bucket) == []


async def test_what_cannot_be_read_or_is_in_use_is_left_as_it_is(cli: Cli) -> None:
    for session in ("cccc1111", "dddd1111"):
        async with _journal(cli, session) as journal:
            await (await journal.object(_entry(cli, session))).upload_creating()
    (damaged,) = _folder(cli).glob("cccc1111*")
    damaged.write_bytes(b"SQLite format 3\0 and nothing else")
    (used,) = _folder(cli).glob("dddd1111*")
    lock = RunLock.take(lock_of(used), "dddd1111", datetime.now(UTC))
    try:
        rows = {row["run"]: row for row in cli.run("runs", "--json").check(0).events()}
        assert rows["cccc1111"]["state"] == "damaged" and "damaged" in rows["cccc1111"]["problem"]
        assert rows["dddd1111"]["state"] == "running" and rows["dddd1111"]["pid"]
        assert "cccc1111" in cli.run("runs").check(0).out
        cli.run("clean", "cccc1111").check_error(2, "R502")
        told = cli.run("clean", "dddd1111").check_error(2, "R501").err
        assert "run dddd1111 is being worked on by pid" in told
        assert "nothing to clean" in cli.run("clean").check(0).err
    finally:
        lock.release()
    assert damaged.read_bytes() == b"SQLite format 3\0 and nothing else" and used.exists()
