"""SIGINT and SIGTERM while bytes move: a quick end that leaves nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from types import TracebackType

import anyio
import pytest

from engine.cli.session import Stopped, _until_signal
from engine.errors import CommitUnknown, UsageError
from engine.types import MiB
from tests.cli.conftest import Cli, Finished, finish, running, wait_for

pytestmark = pytest.mark.slow

SECONDS = 5.0
BIG = 11 * MiB
# So slow that no transfer of BIG ends by itself while a test waits.
BANDWIDTH = 1 * MiB


def _stop(process: subprocess.Popen[str], number: int) -> Finished:
    """Send the signal; fails where the program takes more than five seconds to end."""
    began = time.monotonic()
    process.send_signal(number)
    done = finish(process, SECONDS)
    assert time.monotonic() - began < SECONDS
    return done.check(128 + number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_upload_that_is_stopped_leaves_no_open_upload(cli: Cli, number: signal.Signals) -> None:
    gate = cli.aws.gate
    cli.file("big", os.urandom(BIG))
    gate.bandwidth = BANDWIDTH
    process = cli.start("cp", "big", cli.url("big"), "--no-resume")
    with running(process):
        # From here on its parts are on their way.
        wait_for(lambda: gate.open_uploads(cli.bucket))
        done = _stop(process, number)
    assert f"stopped ({number.name})" in done.err and done.out == ""
    assert "starts from the beginning" in done.err
    wait_for(lambda: not gate.open_uploads(cli.bucket), 2)
    assert gate.log.where(action="AbortMultipartUpload", status=204)
    assert cli.keys() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_download_that_is_stopped_leaves_the_folder_as_it_was(
    cli: Cli, number: signal.Signals
) -> None:
    """No partial file, and what had the name before still has it."""
    gate = cli.aws.gate
    gate.put_object(cli.bucket, "big", os.urandom(BIG))
    folder = cli.file("out/big", b"as it was").parent
    gate.bandwidth = BANDWIDTH
    process = cli.start("cp", cli.url("big"), "out/", "--json", "--no-resume")
    with running(process):
        wait_for(lambda: len(os.listdir(folder)) > 1)
        done = _stop(process, number)
    assert f"stopped ({number.name})" in done.err
    assert {row["event"] for row in done.events()} <= {"lease", "total"}
    assert os.listdir(folder) == ["big"]
    assert (folder / "big").read_bytes() == b"as it was"


class _NoEngine:
    """Stands where an engine is opened and closed."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


async def _signalled() -> None:
    """A signal comes, and the task is cancelled."""
    os.kill(os.getpid(), signal.SIGINT)
    await anyio.sleep(SECONDS)


def test_work_that_is_cancelled_by_a_signal_is_stopped() -> None:
    with pytest.raises(Stopped) as stop:
        anyio.run(_until_signal, _NoEngine(), _signalled)
    assert stop.value.number == signal.SIGINT


def test_a_signal_does_not_hide_that_a_commit_is_unknown() -> None:
    """Exit 4 and its text are worth more than the 130 of a run that left nothing."""

    async def work() -> None:
        try:
            await _signalled()
        except anyio.get_cancelled_exc_class():
            raise CommitUnknown("nobody knows") from None

    with pytest.raises(CommitUnknown):
        anyio.run(_until_signal, _NoEngine(), work)


def test_a_signal_after_the_work_does_not_make_it_a_failure() -> None:
    async def work() -> str:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.05)
        return "committed"

    assert anyio.run(_until_signal, _NoEngine(), work) == "committed"


def test_an_error_of_the_work_comes_as_it_is() -> None:
    """Not inside the group of the tasks that ran it."""

    async def work() -> None:
        raise UsageError("as it is")

    with pytest.raises(UsageError):
        anyio.run(_until_signal, _NoEngine(), work)
