"""A copy that was stopped or died goes on when its command is typed again, or by ``resume``."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from engine.types import MiB
from tests.cli.conftest import EXTERNAL_ID, Cli, Finished, finish, running, wait_for

pytestmark = pytest.mark.slow

PART = 5 * MiB
BIG = 6 * PART - 7
FLAGS = ("--part-size", "5MiB", "--max-concurrency", "2")
# Of the link, bytes a second: a part takes a third of a second.
BANDWIDTH = 16 * MiB


class Copy:
    """One command, typed again and again."""

    def __init__(self, cli: Cli, *args: object) -> None:
        self.cli = cli
        self.args = ("cp", *args, *FLAGS)
        self.state = cli.home / ".local" / "state" / "s3engine" / "runs"

    def stop(self, number: int, *more: object, parts: int = 2) -> Finished:
        """Run it until so many parts are moved, and send a signal."""
        gate = self.cli.aws.gate
        gate.log.clear()
        gate.bandwidth = BANDWIDTH
        process = self.cli.start(*self.args, *more)
        with running(process):
            # An answer is logged when it begins, and two are under way.
            ahead = 0 if "big" in self.args else 2
            wait_for(lambda: self.moved() >= parts + ahead)
            began = time.monotonic()
            process.send_signal(number)
            done = finish(process, 5.0)
            assert time.monotonic() - began < 5.0
        gate.bandwidth = None
        return done

    def again(self, *args: object, env: dict[str, str] | None = None) -> Finished:
        self.cli.aws.gate.log.clear()
        return self.cli.run(*(args or self.args), env=env)

    def moved(self) -> int:
        """Parts that went through whole."""
        log = self.cli.aws.gate.log
        entries = log.where(action="UploadPart") + log.where(action="GetObject")
        return sum(not e.failed and e.bytes_in + e.bytes_out >= PART - 7 for e in entries)

    def kinds(self) -> set[str]:
        return {path.suffix for path in self.state.iterdir()} - {".lock"}


@pytest.fixture
def up(cli: Cli) -> Copy:
    cli.file("big", os.urandom(BIG))
    return Copy(cli, "big", cli.url("big"))


@pytest.fixture
def down(cli: Cli) -> Copy:
    cli.aws.gate.put_object(cli.bucket, "big", os.urandom(BIG))
    return Copy(cli, cli.url("big"), "out/")


def check(copy: Copy, path: Path) -> None:
    gate = copy.cli.aws.gate
    assert gate.get_object(copy.cli.bucket, "big") == path.read_bytes()
    assert gate.open_uploads(copy.cli.bucket) == []
    assert not [name for name in os.listdir(path.parent) if name.endswith(".part")]
    assert copy.kinds() == {".done"}


def test_a_stopped_upload_goes_on_by_the_command_that_is_printed(up: Copy) -> None:
    done = up.stop(signal.SIGINT).check(130)
    (line,) = [line for line in done.err.splitlines() if line.startswith("stopped")]
    found = re.search(r"go on with: s3engine (resume [0-9a-f]+)$", line)
    assert found is not None and up.kinds() == {".journal"}
    assert len(up.cli.aws.gate.open_uploads(up.cli.bucket)) == 1
    again = up.again(*found[1][:-3].split()).check(0)  # a part of the id is enough
    assert again.err.startswith(f"resuming {found[1].split()[1]}: stopped at ")
    assert up.moved() <= 4 and "parts are there already" in again.err
    check(up, up.cli.home / "big")


def test_a_second_signal_waits_for_nothing(up: Copy) -> None:
    """The first one waits for an abort, which does not come to its end."""
    gate = up.cli.aws.gate
    gate.bandwidth = BANDWIDTH
    gate.faults.add(kind="delay", action="AbortMultipartUpload", seconds=20.0)
    process = up.cli.start(*up.args, "--no-resume")
    with running(process):
        wait_for(lambda: up.moved() >= 1)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: gate.faults.fired)
        process.send_signal(signal.SIGTERM)
        assert "at once" in finish(process, 2.0).check(143).err


def test_a_stopped_download_goes_on_when_it_is_typed_again(down: Copy) -> None:
    done = down.stop(signal.SIGTERM).check(143)
    assert "go on with: s3engine resume" in done.err
    (kept,) = os.listdir(down.cli.home / "out")
    assert kept.endswith(".part")
    again = down.again(*down.args, "--json").check(0)
    events = {row["event"] for row in again.events()}
    assert {"resumed", "taken_up", "object", "summary"} <= events and down.moved() <= 4
    check(down, down.cli.home / "out" / "big")


@pytest.mark.parametrize("way", ["up", "down"])
def test_after_a_kill_the_same_command_goes_on(way: str, request: pytest.FixtureRequest) -> None:
    copy: Copy = request.getfixturevalue(way)
    copy.stop(signal.SIGKILL, parts=3)
    again = copy.again().check(0)
    assert "without a goodbye" in again.err and copy.moved() <= 3
    check(copy, copy.cli.home / ("big" if way == "up" else "out/big"))


def test_other_work_is_another_run(up: Copy) -> None:
    up.stop(signal.SIGTERM)
    again = up.again(*up.args, "--storage-class", "STANDARD_IA").check(0)
    assert "resuming" not in again.err
    assert up.kinds() == {".journal", ".done"}


def test_a_run_in_use_is_refused(up: Copy) -> None:
    gate = up.cli.aws.gate
    gate.bandwidth = BANDWIDTH
    process = up.cli.start(*up.args)
    with running(process):
        wait_for(lambda: up.moved() >= 1)
        second = up.cli.run(*up.args)
        second.check_error(2, "R501")
        assert str(process.pid) in second.err
        process.send_signal(signal.SIGKILL)
        finish(process, 5.0)


def test_credentials_that_are_dead_end_with_the_command_to_go_on(up: Copy) -> None:
    gate = up.cli.aws.gate
    role = up.cli.role_with("short", session_lifetime=5.0)
    up.args = (*up.args, "--role-arn", role)
    gate.bandwidth = 4 * MiB
    process = up.cli.start(*up.args)
    with running(process):
        wait_for(lambda: up.moved() >= 1)
        up.cli.role_with("short", trust=[])
        done = finish(process).check(4)
    gate.bandwidth = None
    assert "go on with: s3engine resume" in done.err
    up.cli.role_with("short")
    up.again().check(0)
    check(up, up.cli.home / "big")


@pytest.mark.prove  # 10 s of retries
def test_a_lost_network_ends_with_the_command_to_go_on(up: Copy) -> None:
    faults = up.cli.aws.gate.faults
    faults.add(kind="drop", action="UploadPart", nth=3, times=None)
    done = up.again().check(4)
    assert "go on with: s3engine resume" in done.err
    faults.clear()
    up.again().check(0)
    assert up.moved() <= 4
    check(up, up.cli.home / "big")


def test_an_external_id_is_not_kept_and_asked_for_again(up: Copy) -> None:
    role = up.cli.role_with("partner", external_id=EXTERNAL_ID)
    up.args = (*up.args, "--role-arn", role, "--external-id", EXTERNAL_ID)
    done = up.stop(signal.SIGINT).check(130)
    found = re.search(
        r"go on with: s3engine resume ([0-9a-f]+) --external-id \.\.\.$", done.err, re.M
    )
    assert found is not None
    secrets = [EXTERNAL_ID, *up.cli.secrets()]
    for path in up.state.iterdir():
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in data]
    up.again("resume", found[1]).check_error(2, "U001")
    up.again("resume", found[1], "--external-id", EXTERNAL_ID).check(0)
    check(up, up.cli.home / "big")


def test_what_cannot_be_resumed_is_said(up: Copy) -> None:
    up.again("resume", "none").check_error(2, "U001")


def test_without_a_home_there_is_a_warning_and_no_journal(cli: Cli) -> None:
    cli.file("small")
    (cli.home / "file").write_bytes(b"")
    done = cli.run("cp", "small", cli.url("k"), env={"XDG_STATE_HOME": str(cli.home / "file")})
    assert "warning[R500]" in done.check(0).err
    done = cli.run("cp", "small", cli.url("k"), "--no-resume").check(0)
    assert "warning" not in done.err


def test_a_short_copy_leaves_no_journal(cli: Cli) -> None:
    cli.file("small")
    copy = Copy(cli, "small", cli.url("k"))
    copy.again().check(0)
    assert copy.kinds() == set()
