"""``cp`` when bits flip and files change: what it heals, what it says, how it ends."""

from __future__ import annotations

import os

import pytest

from engine.types import MiB
from tests.cli.conftest import Cli, finish

pytestmark = pytest.mark.slow

PARTS = ("--part-size", "5MiB", "--multipart-threshold", "5MiB")
RANGES = ("--part-size", "5MiB", "--multipart-download-threshold", "5MiB")


def test_a_flipped_bit_is_healed_in_both_directions(cli: Cli) -> None:
    data = os.urandom(11 * MiB)
    cli.file("source", data)
    faults = cli.aws.gate.faults
    faults.add(kind="garble", action="UploadPart", part_number=2, at=1_234_567, bit=6)
    faults.add(kind="flip", action="GetObject", nth=2, at=654_321, bit=3)
    cli.run("cp", "source", cli.url("key"), *PARTS).check(0)
    cli.run("cp", cli.url("key"), "back", *RANGES).check(0)
    assert faults.fired == 2
    assert (cli.home / "back").read_bytes() == data
    assert len(cli.aws.gate.log.where(action="UploadPart")) == 3 + 1
    assert len(cli.aws.gate.log.where(action="GetObject")) == 3 + 1


def test_a_file_that_changes_is_named_and_not_stored(cli: Cli) -> None:
    path = cli.file("source", os.urandom(11 * MiB))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    cli.aws.gate.faults.add(kind="call", action="UploadPart", part_number=2, call=grow)
    done = finish(cli.start("cp", "source", cli.url("key"), *PARTS)).check_error(1, "T131")
    assert "changed while it was uploaded" in done.err
    assert cli.keys() == []
    assert cli.aws.gate.open_uploads(cli.bucket) == []


def test_a_store_that_refuses_checksums_is_used_without(cli: Cli) -> None:
    cli.file("source", b"bytes")
    cli.aws.gate.refuses_checksums = "InvalidArgument"
    refused = cli.run("cp", "source", cli.url("key")).check(1)
    assert "--checksum none" in refused.err
    cli.run("cp", "source", cli.url("key"), "--checksum", "none").check(0)
    cli.run("cp", cli.url("key"), "back", "--checksum", "none").check(0)
    assert (cli.home / "back").read_bytes() == b"bytes"
