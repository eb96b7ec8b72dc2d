"""Several processes and one shared broker: the STS calls of one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.conftest import Cli, finish, program, running
from tests.sharing.conftest import ROOT, Shares

pytestmark = [pytest.mark.slow, pytest.mark.sharing]

SECONDS = 10.0
LIFETIME = 5.0


def serve(cli: Cli, *args: object) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A server, and an environment without other credentials that points at it."""
    process = cli.start("credentials", "serve", *args)
    assert process.stdout is not None
    lines: list[str] = []
    while len(lines) < 2:
        verb, _, rest = process.stdout.readline().partition(" ")
        lines += [rest] if verb == "export" else []
    pairs = dict(line.strip().split("=", 1) for line in lines)
    env = {name: text for name, text in cli.env.items() if not name.startswith("AWS_ACCESS")}
    env.pop("AWS_SECRET_ACCESS_KEY")
    env |= {name: text.strip("'") for name, text in pairs.items()}
    return process, env | {"AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": str(ROOT)}


def test_two_processes_and_one_broker_make_the_calls_of_one(cli: Cli) -> None:
    """Our own command (--source ecs) and boto3 by `serve`, beside aioboto3 by `exec`: all of them
    go on over three renewals, and behind each of the two commands are the calls of one broker."""
    shares = Shares(cli, LIFETIME)
    served, own = shares.role("served"), shares.role("own")
    buckets = {name: shares.bucket(name) for name in ("s3engine", "boto3", "aioboto3-exec")}
    # One file after the other, each of which takes a while.
    cli.aws.gate.faults.add(
        kind="delay", bucket=buckets["s3engine"], action="PutObject", seconds=0.3, times=None
    )
    files = [cli.file(f"tree/{number}") for number in range(int(SECONDS / 0.3))]
    server, env = serve(cli, "--role-arn", served)
    with running(server), ThreadPoolExecutor(2) as threads:
        by_serve = threads.submit(_run, _client("boto3", buckets["boto3"]), env)
        line = _client("aioboto3", buckets["aioboto3-exec"])
        line = [*program(), "credentials", "exec", "--role-arn", own, "--", *line]
        by_exec = threads.submit(_run, line, {**cli.env, "PYTHONPATH": str(ROOT)})
        target = f"s3://{buckets['s3engine']}/"
        copy = ("cp", "tree/", target, "--source", "ecs", "--max-concurrency", 1)
        finish(cli.start(*copy, env=_only(cli, env))).check(0)
        for other in (by_serve, by_exec):
            done = other.result(60)
            assert done.returncode == 0, done.stderr
        server.terminate()
        finish(server, 5).check(0)
    print(f"one broker behind two processes: {shares.check_one_brokers_calls(served)} STS calls")
    print(f"one behind exec: {shares.check_one_brokers_calls(own)} STS calls")
    for client in buckets:
        seen = shares.seen(client)
        print(seen.row())
        shares.check(seen, 3)
    assert len(cli.aws.gate.list_keys(buckets["s3engine"])) == len(files)


def _client(name: str, bucket: str) -> list[str]:
    return [sys.executable, "-m", "tests.sharing.clients", name, bucket, str(SECONDS)]


def _run(line: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _only(cli: Cli, env: dict[str, str]) -> dict[str, str]:
    """``env`` for ``cli.start``, which adds to the command's own environment."""
    return {**dict.fromkeys(cli.env, ""), **env}
