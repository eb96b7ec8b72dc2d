"""SIGKILL at the Nth write of the journal, before it and behind it; then the same again.

All of them by ``make prove``; some by ``make test``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.types import MiB
from tests.crash import mover
from tests.integration.conftest import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL, BIG = 12, 16 * MiB
# No run of this size writes more often.
MOST = 60


@dataclass
class Job:
    """A tree on its way up or down, with processes that die."""

    scene: Scene
    way: str
    home: Path

    def __post_init__(self) -> None:
        self.tree, self.back = self.home / "tree", self.home / "back"
        (self.tree / "sub").mkdir(parents=True)
        for number in range(SMALL):
            (self.tree / "sub" / f"{number}").write_bytes(os.urandom(700 + number))
        (self.tree / "big").write_bytes(os.urandom(BIG))
        self.journal = self.home / "run.journal"
        self.prefix = self.scene.url("t/")
        if self.way == "down":
            assert self.run(0, way="up", folder=self.tree, journal=self.home / "first") == 0

    def run(
        self,
        number: int,
        when: str = "before",
        *,
        way: str = "",
        folder: Path | None = None,
        journal: Path | None = None,
    ) -> int:
        """One process; its exit code."""
        scene = self.scene
        asked = {
            "key": scene.keys.access_key_id,
            "secret": scene.keys.secret_access_key,
            "endpoint": scene.aws.endpoint,
            "region": scene.aws.region,
            "role": scene.role,
        }
        ends = folder or (self.tree if self.way == "up" else self.back)
        arguments = [way or self.way, ends, self.prefix, journal or self.journal, number, when]
        return subprocess.run(
            [sys.executable, mover.__file__, *map(str, arguments)],
            env={**os.environ, "MOVER": json.dumps(asked)},
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=60,
        ).returncode

    def forget(self) -> None:
        """As if nothing had been moved."""
        for path in self.home.glob("run.journal*"):
            path.unlink()
        if self.way == "down":
            shutil.rmtree(self.back, ignore_errors=True)
        else:
            gate = self.scene.aws.gate
            for key in gate.list_keys(self.scene.bucket, "t/"):
                gate._moto.call("DELETE", f"/{self.scene.bucket}/{key}")

    def check(self) -> None:
        gate, bucket = self.scene.aws.gate, self.scene.bucket
        assert gate.open_uploads(bucket) == []
        names = {str(path.relative_to(self.tree)) for path in self.tree.rglob("*")}
        if self.way == "down":
            assert {str(path.relative_to(self.back)) for path in self.back.rglob("*")} == names
        for name in names - {"sub"}:
            there = gate.get_object(bucket, f"t/{name}")
            if self.way == "down":
                there = (self.back / name).read_bytes()
            assert there == (self.tree / name).read_bytes()

    def die_and_go_on(self, number: int, when: str) -> bool:
        """Whether there was a write of that number."""
        self.forget()
        code = self.run(number, when)
        if code == 0:
            self.check()
            return False
        assert code == -signal.SIGKILL
        assert self.run(0) == 0
        self.check()
        return True


@pytest.fixture(params=["up", "down"])
def job(request: pytest.FixtureRequest, scene: Scene, tmp_path: Path) -> Job:
    return Job(scene, request.param, tmp_path)


@pytest.mark.parametrize(("number", "when"), [(1, "after"), (4, "before")])
def test_a_death_at_a_write(job: Job, number: int, when: str) -> None:
    assert job.die_and_go_on(number, when)


@pytest.mark.prove
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_every_write(job: Job, when: str) -> None:
    writes = next(n for n in range(1, MOST) if not job.die_and_go_on(n, when))
    print(f"\n{job.way}, {when}: {writes - 1} writes")
    assert writes > 5
