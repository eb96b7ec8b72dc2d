"""The folder of runs: what is found in it, what is removed from it, what is never in it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from engine.batch.journal import find_run, list_runs, runs_folder
from engine.batch.journal.runs import KEPT_FOR, MAX_KEPT, sweep
from engine.batch.journal.store import Store
from engine.cli.kept_command import without_secrets
from engine.clock import LoopClock
from engine.errors import EngineError, UsageError
from tests.unit.batch.journal.kit import entry, files, journal, part, upload_record


async def _run(folder: Path, name: str, *, done: bool) -> Path:
    async with journal(folder, name, session=name) as kept:
        await (await kept.object(entry(folder, 1))).upload_creating()
        if done:
            kept.finish()
    (path,) = (folder / "runs").glob(f"{name}-*")
    return path


async def test_old_summaries_go_and_what_can_be_gone_on_with_stays(tmp_path: Path) -> None:
    now = LoopClock().now()
    old = await _run(tmp_path, "old1", done=True)
    left = await _run(tmp_path, "left1", done=False)
    long_ago = (now - KEPT_FOR - timedelta(hours=1)).timestamp()
    for path in (old, left):
        os.utime(path, (long_ago, long_ago))
    made = tmp_path / "runs" / ".new-0123"
    lock, dead = (tmp_path / "runs" / f"{digit * 32}.lock" for digit in "01")
    for path in (made, lock, dead):
        path.write_bytes(b"")
    for path in (made, lock):
        os.utime(path, (long_ago, long_ago))
    young = await _run(tmp_path, "young1", done=True)  # whoever keeps something tidies up
    # A lock that nobody holds may be that of a process that died before it had a journal.
    assert set((tmp_path / "runs").iterdir()) == {left, young, dead}
    dead.unlink()
    data = young.read_bytes()
    for number in range(MAX_KEPT + 5):
        path = young.with_name(f"n{number}-{number:032x}.done")
        path.write_bytes(data)
        at = now.timestamp() - 1000 - number
        os.utime(path, (at, at))
    sweep(tmp_path / "runs", now)
    assert files(tmp_path) == ["done"] * MAX_KEPT + ["journal"]
    assert young.exists() and left.exists()


async def test_a_run_is_found_by_what_its_id_begins_with(tmp_path: Path) -> None:
    folder, now = tmp_path / "runs", LoopClock().now()
    assert list_runs(folder, now) == []
    await _run(tmp_path, "abc1", done=False)
    await _run(tmp_path, "abd1", done=True)
    assert find_run(folder, "abc", now).id == "abc1"
    assert find_run(folder, "abd1", now).state == "done"
    for text, says in (("x", "no run 'x'"), ("ab", "abc1, abd1"), ("", "no run")):
        with pytest.raises(UsageError, match=says):
            find_run(folder, text, now)
    assert [info.id for info in list_runs(folder, now)] == ["abc1", "abd1"]


async def test_to_look_at_a_journal_changes_nothing(tmp_path: Path) -> None:
    path = await _run(tmp_path, "abc1", done=False)
    before = path.read_bytes()
    list_runs(tmp_path / "runs", LoopClock().now())
    assert [each.name for each in (tmp_path / "runs").iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_where_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_folder({"XDG_STATE_HOME": "/s"}) == Path("/s/s3engine/runs")
    monkeypatch.setenv("HOME", "/home/etl")
    home = Path("/home/etl/.local/state/s3engine/runs")
    assert runs_folder({}) == runs_folder({"XDG_STATE_HOME": "relative"}) == home


def test_arguments_without_secrets() -> None:
    kept, left_out = without_secrets(
        [
            *("cp", "a b", "s3://bucket/k", "--region", "eu-west-1", "--external-id", "canary-1"),
            *("--source-external-id=canary-2", "--proxy", "http://user:canary-3@proxy:3128"),
            *("--endpoint-url=https://u:canary-4@host", "--role-arn", "arn:aws:iam::1:role/x"),
            *("--metadata", "token=canary-5", "--json", "-r", "--part-size=8MiB"),
            *("--sse-c-key-file", "/keys/k", "--", "--external-id"),
        ]
    )
    assert left_out == [
        "--external-id",
        "--source-external-id",
        "--proxy",
        "--endpoint-url",
        "--metadata",
    ]
    assert kept == [
        *("cp", "a b", "s3://bucket/k", "--region", "eu-west-1"),
        *("--role-arn", "arn:aws:iam::1:role/x", "--json", "-r", "--part-size=8MiB"),
        *("--sse-c-key-file", "/keys/k", "--", "--external-id"),
    ]
    assert without_secrets(["cp", "--external-id"]) == (["cp"], ["--external-id"])


async def test_no_secret_comes_into_a_state_file(tmp_path: Path) -> None:
    canaries = [f"canary-{number}-wJalrXUtnFEMIK7MDENG" for number in range(4)]
    kept_arguments, left_out = without_secrets(
        ["cp", "--external-id", canaries[0], "--proxy", f"http://u:{canaries[1]}@p"]
    )
    with pytest.raises(EngineError):
        async with journal(
            tmp_path,
            f'{{"customer_key": "{canaries[2]}"}}',
            command=kept_arguments,
            left_out=left_out,
        ) as kept:
            upload = await kept.object(entry(tmp_path, 1))
            await upload.upload_creating()
            await upload.upload_begun(upload_record())
            await upload.part_done(part(1))
            raise EngineError(
                f"refused: SecretAccessKey={canaries[3]} x-amz-security-token: {canaries[3]}"
            )
    found = list((tmp_path / "runs").iterdir())
    assert [path.suffix for path in found] == [".journal"]
    for path in found:
        data = path.read_bytes()
        assert not [canary for canary in canaries if canary.encode() in data], path
    store = Store.look(found[0])
    (row,) = store.read("SELECT command, left_out, error FROM run")
    store.close()
    assert row[0] == '["cp"]' and "--external-id" in row[1] and "***" in row[2]
