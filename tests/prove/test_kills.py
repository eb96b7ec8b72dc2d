"""SIGKILL and SIGTERM at random points of 1 GiB up and down, then the same command. ``make prove``.

What is counted is what went over the wire in both runs, by the gate's log: whole bodies and those
that were cut short.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from engine.types import MiB
from tests.cli.conftest import Cli, Finished, finish, running
from tests.cli.conftest import cli as cli

pytestmark = [pytest.mark.prove, pytest.mark.timeout(3600)]

SIZE = int(os.environ.get("S3ENGINE_KILL_SIZE", "1024")) * MiB
POINTS = int(os.environ.get("S3ENGINE_KILLS", "20"))
SEED = int(os.environ.get("S3ENGINE_SEED", "0")) or int.from_bytes(os.urandom(3))
# Beyond what was missing: ten parts of 8 MiB under way, 8 % of 1 GiB.
MOST_AGAIN = 82 * MiB / SIZE
# The doubles move some 50 MiB a second where they have a core of their own.
TIMEOUT = 600.0


@dataclass
class Kills:
    """One object, moved again and again, each time with a death on the way."""

    cli: Cli
    way: str
    random: Random
    data: bytes = field(repr=False)
    again: list[float] = field(default_factory=list)
    whole: int = 0
    summaries: int = 0
    said: str = ""

    @property
    def file(self) -> Path:
        return self.cli.home / ("big" if self.way == "up" else "out/big")

    @property
    def command(self) -> list[object]:
        url = self.cli.url("big")
        role = "arn:aws:iam::111122223333:role/mover"
        ends = ["big", url] if self.way == "up" else [url, "out/"]
        return ["cp", *ends, "--role-arn", role]

    def begin(self) -> None:
        """As if nothing had been moved yet."""
        gate = self.cli.aws.gate
        gate.log.clear()
        shutil.rmtree(self.cli.home / ".local", ignore_errors=True)
        self.summaries = 0
        for upload in gate.open_uploads(self.cli.bucket):
            gate._moto.call("DELETE", f"/{self.cli.bucket}/big?uploadId={upload.upload_id}")
        if self.way == "up":
            self.file.write_bytes(self.data)
            gate._moto.call("DELETE", f"/{self.cli.bucket}/big")
        else:
            shutil.rmtree(self.file.parent, ignore_errors=True)

    def seconds(self) -> float:
        """Of a run that nobody disturbs."""
        self.begin()
        began = time.monotonic()
        self.run()
        return time.monotonic() - began

    def run(self, *args: object) -> Finished:
        done = finish(self.cli.start(*(args or self.command)), TIMEOUT).check(0)
        self.said = done.err
        return done

    def die(self, number: int, after: float) -> Finished:
        process = self.cli.start(*self.command)
        with running(process):
            time.sleep(after)
            process.send_signal(number)
            return finish(process, 5.0)

    def die_half_way(self, after: float) -> None:
        """Killed when there is something to go on with; runs take longer or shorter."""
        for _ in range(20):
            self.begin()
            done = self.die(signal.SIGKILL, after)
            if done.code and self.journals() and not self.was_over():
                return
            if not done.code or not self.journals():
                after *= 0.8 if not done.code else 1.25
        raise AssertionError("never half-way")

    def moved(self) -> int:
        log = self.cli.aws.gate.log
        up, down = log.where(action="UploadPart"), log.where(action="GetObject")
        return sum(e.bytes_in for e in up) + sum(e.bytes_out for e in down)

    def check_named(self) -> None:
        """Every open upload is one that a journal has, or may have come of an intent."""
        names: set[str] = set()
        intents = 0
        for path in self.journals():
            rows = _rows(path, "SELECT record FROM uploads")
            intents += sum(record is None for (record,) in rows)
            names |= {found for (record,) in rows if record for found in _ids(record)}
        unknown = [u for u in self.cli.aws.gate.open_uploads(self.cli.bucket)
                   if u.upload_id not in names]  # fmt: skip
        assert len(unknown) <= intents

    def journals(self) -> list[Path]:
        return list((self.cli.home / ".local/state/s3engine/runs").glob("*.journal"))

    def was_over(self) -> bool:
        """All was done, and the process on its way out."""
        runs = self.cli.home / ".local/state/s3engine/runs"
        number = len(list(runs.glob("*.done")))
        over, self.summaries = number > self.summaries, number
        return over

    def state(self) -> str:
        """What the journals say, for a failure."""
        rows = [f"{path.name}: {_rows(path, 'SELECT * FROM run')}" for path in self.journals()]
        return "\n".join([self.said, *os.listdir(self.journals()[0].parent), *rows])

    def check_done(self, *, moved_again: bool = True) -> None:
        gate = self.cli.aws.gate
        assert gate.get_object(self.cli.bucket, "big") == self.file.read_bytes()
        assert gate.open_uploads(self.cli.bucket) == []
        assert not [name for name in os.listdir(self.file.parent) if name.endswith(".part")]
        assert self.journals() == [], self.state()
        self.was_over()
        if moved_again:
            self.again.append(self.moved() / SIZE - 1)
            assert self.again[-1] <= MOST_AGAIN, self.again


def _rows(path: Path, sql: str) -> list[tuple[str | None, ...]]:
    """Closed at once: a reader would keep the journal from being put away."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _bytes(random: Random) -> bytes:
    return b"".join(random.randbytes(MiB) for _ in range(SIZE // MiB))


def _ids(record: str) -> list[str]:
    return re.findall(r'"upload_id":\s*"([^"]+)"', record)


@pytest.fixture(params=["up", "down"])
def kills(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Kills]:
    cli.role_with("mover")
    random = Random(SEED)
    kills = Kills(cli, request.param, random, _bytes(random))
    if kills.way == "down":
        cli.aws.gate.put_object(cli.bucket, "big", kills.data)
    yield kills
    shares = ", ".join(f"{share:.1%}" for share in kills.again)
    print(f"\n{kills.way}: seed {SEED}, {kills.whole} ended before; moved again: {shares}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_same_command_goes_on_after_a_death(kills: Kills, number: signal.Signals) -> None:
    whole = kills.seconds()
    kills.check_done(moved_again=False)
    for _ in range(3 * POINTS):
        kills.begin()
        done = kills.die(number, kills.random.uniform(0.2, whole))
        if kills.was_over() or done.code == 0:
            kills.whole += 1  # not a death: another point is drawn
            kills.check_done(moved_again=False)
            continue
        kills.check_named()
        if number == signal.SIGTERM and kills.journals():
            found = re.search(r"go on with: s3engine (resume [0-9a-f]+)", done.check(143).err)
            assert found is not None
            kills.run(*found[1].split())
        else:
            kills.run()
        kills.check_done()
        if len(kills.again) == POINTS:
            break
    assert len(kills.again) == POINTS


def expired(kills: Kills) -> None:
    assert kills.cli.aws.gate.expire_sessions("arn:aws:iam::111122223333:role/mover")


def an_hour_ahead(kills: Kills) -> None:
    kills.cli.aws.gate.clock_offset = 3600


def an_hour_behind(kills: Kills) -> None:
    kills.cli.aws.gate.clock_offset = -3600


@pytest.mark.parametrize("change", [expired, an_hour_ahead, an_hour_behind])
def test_what_changes_in_between_does_not_matter(
    kills: Kills, change: Callable[[Kills], None]
) -> None:
    whole = kills.seconds()
    for _ in range(2):
        kills.die_half_way(kills.random.uniform(0.4, 0.8) * whole)
        change(kills)
        kills.run()
        kills.check_done()
        kills.cli.aws.gate.clock_offset = 0


def test_a_source_that_changed_in_between_is_started_over(kills: Kills) -> None:
    whole = kills.seconds()
    kills.die_half_way(0.6 * whole)
    other = _bytes(kills.random)
    if kills.way == "up":
        kills.file.write_bytes(other)
    else:
        kills.cli.aws.gate.put_object(kills.cli.bucket, "big", other)
    done = kills.run()
    assert "started over" in done.err
    kills.check_done(moved_again=False)


@pytest.mark.parametrize("deaths", [5])
def test_many_deaths_in_a_row(kills: Kills, deaths: int) -> None:
    whole = kills.seconds()
    kills.begin()
    died = 0
    for _ in range(deaths):
        done = kills.die(signal.SIGKILL, 0.25 * whole)
        if kills.was_over() or done.code == 0:
            break  # once more would be another run
        died += 1
        kills.check_named()
    else:
        kills.run()
    assert died > 1
    kills.check_done(moved_again=False)
    assert kills.moved() / SIZE - 1 <= deaths * MOST_AGAIN
