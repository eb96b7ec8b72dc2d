"""The distributions, built once a run, and the command of an installed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from distributions.__main__ import build
from tests.cli.conftest import Cli, Loader
from tests.cli.conftest import cli as cli
from tests.cli.conftest import loader as loader
from tests.packages.venvs import NoIndex, Venv


@dataclass(frozen=True, slots=True)
class Built:
    """Paths of what ``make dist`` makes."""

    core_wheel: Path
    core_sdist: Path
    full_wheel: Path
    full_sdist: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    paths = {path.name: path for path in build(tmp_path_factory.mktemp("dist"))}

    def one(start: str, end: str) -> Path:
        (name,) = (n for n in paths if n.startswith(start) and n.endswith(end))
        return paths[name]

    return Built(
        one("s3engine_core-", ".whl"),
        one("s3engine_core-", ".tar.gz"),
        one("s3engine-", ".whl"),
        one("s3engine-", ".tar.gz"),
    )


def _made(folder: Path, *what: str) -> Venv:
    """Skipped only here, and only for this: every other failure fails."""
    venv = Venv.make(folder)
    try:
        venv.install(*what)
    except NoIndex as error:
        pytest.skip(f"no package index: {error}")
    return venv


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, built: Built) -> Venv:
    """The core and what it needs; no AWS SDK."""
    return _made(tmp_path_factory.mktemp("bare") / "venv", str(built.core_wheel))


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """What a user may have: the newest boto3 and awswrangler. The core is not in it yet."""
    return _made(tmp_path_factory.mktemp("users") / "venv", "boto3", "awswrangler")


Job = Callable[[Venv], None]


@pytest.fixture
def main_job(cli: Cli, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> Job:
    """``cp`` both ways under an assumed role, and a load, by the command of an environment; the
    servers run in the environment of the tests."""

    def run(venv: Venv) -> None:
        monkeypatch.setattr("tests.cli.conftest.program", lambda: [venv.program])
        role = cli.role_with("writer")
        data = bytes(range(256)) * 50_000  # two parts
        source = cli.file("source", data)
        flags = ("--role-arn", role)
        cli.run("cp", source, cli.url("key"), *flags).check(0)
        cli.run("cp", cli.url("key"), "back", *flags).check(0)
        assert (cli.home / "back").read_bytes() == data
        assert "key" in cli.run("ls", cli.url(""), *flags).check(0).out
        assert len(cli.aws.gate.log.where(action="AssumeRole")) == 3
        before = len(loader.rows())
        loader.load(cli.file("good.csv", b"1,1.50,first\n2,,\n")).check(0)
        assert len(loader.rows()) == before + 2

    return run
