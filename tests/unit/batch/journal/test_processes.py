"""Real processes: two at once, one that is killed, one on another machine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from engine.batch.journal import list_runs
from engine.batch.journal.lock import Heartbeat, RunLock, holder_of
from engine.clock import LoopClock
from engine.errors import RunInUse
from tests.unit.batch.journal.kit import contents, journal

_ROOT = Path(__file__).parents[4]

# Opens the journal when told to, says whether it has it, keeps it until told to end.
_HOLDER = """
import sys, anyio
from pathlib import Path
from engine import EngineError
from tests.unit.batch.journal.kit import entry, journal
folder = Path(sys.argv[1])
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        async with journal(folder) as kept:
            await (await kept.object(entry(folder, 1))).upload_creating()
            print("have it", flush=True)
            sys.stdin.readline()
    except EngineError as error:
        print(error.code, error, flush=True)
anyio.run(main)
"""

# Says what has been acknowledged, one line each, until it is killed.
_WRITER = """
import os, sys, anyio
from pathlib import Path
from engine.records import KeptRange
from tests.unit.batch.journal.kit import (
    download_record, entry, journal, part, result, upload_record)
folder = Path(sys.argv[1])
async def upload(kept, number):
    while True:
        each = entry(folder, number)
        upload = await kept.object(each)
        await upload.upload_creating()
        os.write(1, f"creating {number}\\n".encode())
        await upload.upload_begun(upload_record(f"id-{number}"))
        os.write(1, f"begun {number}\\n".encode())
        async with anyio.create_task_group() as tasks:
            for n in range(1, 30):
                tasks.start_soon(one, upload, number, n)
        await upload.ended()
        await kept.done(each, result(each), "v")
        os.write(1, f"done {number}\\n".encode())
        number += 4
async def one(upload, number, n):
    await upload.part_done(part(n))
    os.write(1, f"part {number} {n}\\n".encode())
async def main():
    async with journal(folder) as kept, anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(upload, kept, number)
anyio.run(main)
"""


@contextmanager
def _process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=_ROOT, stdin=pipe, stdout=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_of_two_that_start_at_once_one_wins(tmp_path: Path) -> None:
    with _process(_HOLDER, tmp_path) as one, _process(_HOLDER, tmp_path) as other:
        assert _hear(one) == _hear(other) == "ready"
        _say(one)
        _say(other)
        said = {process.pid: _hear(process) for process in (one, other)}
        (winner,) = [pid for pid, text in said.items() if text == "have it"]
        (refused,) = [text for text in said.values() if text != "have it"]
        assert refused.startswith("R501 ")
        if "pid" in refused:  # else it had not said yet who it is
            assert f"is being worked on by pid {winner} on host" in refused
            assert "heartbeat" in refused
        (info,) = list_runs(tmp_path / "runs", datetime.now(UTC))
        assert info.state == "running" and info.holder is not None and info.holder.pid == winner


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_free(tmp_path: Path) -> None:
    with _process(_HOLDER, tmp_path) as first, _process(_HOLDER, tmp_path) as second:
        assert _hear(first) == _hear(second) == "ready"
        _say(first)
        assert _hear(first) == "have it"
        first.send_signal(signal.SIGKILL)
        first.wait()
        _say(second)
        assert _hear(second) == "have it"
        _say(second)
        second.wait()
    assert [path.suffix for path in (tmp_path / "runs").iterdir()] == [".journal"]


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    random_ = random.Random(4711)
    for round_ in range(4):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with _process(_WRITER, folder) as process:
            heard = [_hear(process) for _ in range(random_.randrange(1, 100))]
            time.sleep(random_.uniform(0, 0.1))
            process.kill()
            assert process.stdout is not None
            said = [line.split() for line in (*heard, *process.stdout.read().splitlines())]
        (path,) = (folder / "runs").glob("*.journal")
        found, done = contents(path)
        under_way = {int(key[0].rpartition("-")[2]): kept for key, kept in found.items()}
        whole = {int(key[0].rpartition("-")[2]) for key in done}
        for what, number, *more in said:
            kept = under_way.get(int(number))
            if int(number) in whole:
                assert kept is None  # both, or neither
                continue
            assert what != "done" and kept is not None
            assert kept.upload is not None or what == "creating"
            assert not more or int(more[0]) in kept.parts


async def test_the_heartbeat_of_another_machine_counts_for_half_a_minute(tmp_path: Path) -> None:
    now = LoopClock().now()
    lock = RunLock.take(tmp_path / "lock", "run1", now)
    beat = Heartbeat(run="run1", pid=4711, host="etl-3", machine="another", at=now)
    lock.beat(beat)
    lock.drop()  # flock does not reach that machine
    later = now + timedelta(seconds=20)
    for at in (later, now - timedelta(hours=1)):  # our clock may be behind
        with pytest.raises(RunInUse, match=r"run1 .* pid 4711 on host etl-3") as caught:
            RunLock.take(tmp_path / "lock", "run2", at)
        assert holder_of(tmp_path / "lock", at) == beat
    assert "heartbeat 20 s ago" in str(caught.value) or "heartbeat 0 s ago" in str(caught.value)
    dead = now + timedelta(seconds=31)
    assert holder_of(tmp_path / "lock", dead) is None
    ours = RunLock.take(tmp_path / "lock", "run2", dead)
    assert ours.left_by == beat
    held = json.loads((tmp_path / "lock").read_text())
    assert (held["run"], held["pid"]) == ("run2", os.getpid())
    assert holder_of(tmp_path / "lock", dead + timedelta(hours=2)) is not None
    ours.release()
    assert list(tmp_path.iterdir()) == [] and holder_of(tmp_path / "lock", dead) is None


async def test_a_lock_file_of_anything_else_is_taken(tmp_path: Path) -> None:
    now = LoopClock().now()
    for text in (b"", b"\xff" * 5000, b"{}", msgspec.json.encode({"run": 1})):
        (tmp_path / "lock").write_bytes(text)
        lock = RunLock.take(tmp_path / "lock", "run", now)
        assert lock.left_by is None
        with pytest.raises(RunInUse, match="pid"):
            RunLock.take(tmp_path / "lock", "run", now)
        lock.release()
    with pytest.raises(RunInUse):
        async with journal(tmp_path):
            async with journal(tmp_path):
                pass
