"""``--max-bandwidth``, as users type it."""

from __future__ import annotations

import pytest

from engine.types import MiB
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def test_a_run_keeps_to_the_limit_on_both_planes(cli: Cli) -> None:
    data = bytes(range(256)) * (2 * MiB // 256)
    cli.file("x", data)
    up = cli.run("cp", "x", cli.url("x"), "--max-bandwidth", "4MiB", "--json").check(0)
    down = cli.run(
        "cp", cli.url("x"), "y", "--json", "--data-plane", "aws",
        env={"S3ENGINE_MAX_BANDWIDTH": "4MiB"},
    ).check(0)  # fmt: skip
    for done in (up, down):
        (seconds,) = [row["seconds"] for row in done.events() if row["event"] == "object"]
        assert seconds >= 0.35
    assert (cli.home / "y").read_bytes() == data
    told = cli.run("cp", cli.url("x"), "z", "--max-bandwidth", "1GB").check(0)
    assert "of 953.7 MiB/s" in told.err


def test_a_limit_that_cannot_be_is_refused_before_anything_moves(cli: Cli) -> None:
    cli.file("x")
    zero, little, word = cli.run_each(
        ("cp", "x", cli.url("no"), "--max-bandwidth", "0"),
        ("cp", "x", cli.url("no"), "--max-bandwidth", "1KiB"),
        ("cp", "x", cli.url("no"), "--max-bandwidth", "-5MB"),
    )
    for refused in (zero, little):
        assert "max_bandwidth is" in refused.check(2).err
        assert "the least is 65536" in refused.err
    assert "is not a size" in word.check(2).err
    assert cli.keys() == []
