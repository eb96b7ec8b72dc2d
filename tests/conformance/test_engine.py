"""A user chooses the plane by name; the rest of the engine does not notice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import Engine, Manifest, UsageError
from engine.planes import DATA_PLANES
from tests.cli.conftest import Cli
from tests.cli.conftest import cli as cli
from tests.conformance.store import PLANES
from tests.integration.conftest import Scene
from tests.integration.conftest import scene as scene

pytestmark = pytest.mark.slow


def test_the_planes_of_the_registry_are_the_ones_that_are_tested() -> None:
    ours = tuple(name for name in DATA_PLANES.names() if name != "simulated")  # of tests/simulation
    assert ours == PLANES


async def test_the_main_job_by_either_plane(scene: Scene, plane: str, tmp_path: Path) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    up.mkdir()
    for size in (0, 1_000, 10_485_760, 10_485_761):
        (up / str(size)).write_bytes(os.urandom(size))
    async with scene.engine(data_plane=plane) as s3:
        sent = await s3.run(Manifest.upload(up, scene.url("tree/")))
        got = await s3.run(Manifest.download(scene.url("tree/"), down))
        result = await s3.upload(up / "10485761", scene.url("again"))
        assert (result.parts, result.verified) == (2, True)
        assert s3.statistics().data_plane.startswith(
            {"wire": "<WirePlane", "aws": "<AwsDataPlane"}[plane]
        )
    assert (sent.objects, sent.failed, sent.verified) == (4, [], 4)
    assert (got.objects, got.failed, got.verified) == (4, [], 4)
    for path in up.iterdir():
        assert (down / path.name).read_bytes() == path.read_bytes()
    assert scene.aws.gate.open_uploads(scene.bucket) == []


def test_an_unknown_plane_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown data plane: 'wires'") as caught:
        Engine(data_plane="wires")
    assert "wire, aws" in caught.value.fix


def test_the_command_takes_the_name(cli: Cli, plane: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    flag = ("--data-plane", plane)
    cli.run("cp", "file", cli.url("file"), *flag).check(0)
    assert "file" in cli.run("ls", cli.url(""), *flag).check(0).out
    cli.run("cp", cli.url("file"), "back", *flag).check(0)
    assert (tmp_path / "back").read_bytes() == b"some bytes"
    cli.run("rm", cli.url("file"), *flag).check(0)
    ended = cli.run("ls", cli.url(""), "--data-plane", "wires")
    assert ended.code == 2
    assert "wire, aws" in ended.err
