"""The command before signals, and TLS before a certificate of nobody."""

from __future__ import annotations

import os
import re
import signal
import ssl

import anyio
import pytest
import trustme

from engine import Credentials, Engine, TransferError
from engine.types import MiB
from tests.cli.conftest import Cli, finish, running, wait_for
from tests.unit.origin import run_origin

pytestmark = pytest.mark.slow

PART = 5 * MiB


async def test_a_certificate_of_nobody_is_final() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with run_origin(context) as origin:
        endpoint = f"https://127.0.0.1:{origin.port}"
        keys = Credentials("AKIDEXAMPLE", "secret")
        async with Engine(endpoint_url=endpoint, region="us-east-1", credentials=keys) as s3:
            with anyio.fail_after(5), pytest.raises(TransferError, match="certificate"):
                await s3.upload(bytes(MiB), "s3://bucket/key")
        assert origin.connections <= 1 and origin.requests == []


# The other two of the four are in tests/cli/test_resume.py.
@pytest.mark.parametrize(("way", "number"), [("up", signal.SIGTERM), ("down", signal.SIGINT)])
def test_a_signal_ends_it_and_says_how_to_go_on(cli: Cli, way: str, number: int) -> None:
    gate, data = cli.aws.gate, os.urandom(6 * PART)
    flags = ("--part-size", "5MiB", "--max-concurrency", "2")
    if way == "up":
        cli.file("big", data)
        line: tuple[str, ...] = ("cp", "big", cli.url("big"), *flags)
    else:
        gate.put_object(cli.bucket, "big", data)
        line = ("cp", cli.url("big"), "out/", *flags)
    action = "UploadPart" if way == "up" else "GetObject"
    gate.bandwidth = 16 * MiB
    process = cli.start(*line)
    with running(process):
        wait_for(lambda: len(gate.log.where(action=action)) >= 3)
        process.send_signal(number)
        done = finish(process, 5.0).check(128 + int(number))
    gate.bandwidth = None
    found = re.search(r"go on with: s3engine (resume [0-9a-f]+)$", done.err, re.MULTILINE)
    assert found is not None, done
    if way == "down":
        assert not (cli.home / "out" / "big").exists(), "nothing under the final name"
    else:
        assert cli.keys() == [] and len(gate.open_uploads(cli.bucket)) == 1
    cli.run(*found[1].split()).check(0)
    if way == "down":
        assert os.listdir(cli.home / "out") == ["big"]
        assert (cli.home / "out" / "big").read_bytes() == data
    assert gate.get_object(cli.bucket, "big") == data
    assert gate.open_uploads(cli.bucket) == []


def test_a_wrong_clock_is_told_once(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.file(f"t/{name}")
    cli.aws.gate.clock_offset = 3600
    done = cli.run("cp", "t/", cli.url("t/")).check(0)
    told = re.findall(r"the clock of this machine is ([0-9]+) s behind", done.err)
    assert told in (["3599"], ["3600"]), done  # a Date has whole seconds
    assert len(cli.keys("t/")) == 3
