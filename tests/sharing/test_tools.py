"""boto3, aioboto3, s5cmd and the AWS CLI, under ``exec`` and through ``serve``, each one process
that goes on across the renewals of 20 s sessions."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, program
from tests.sharing.conftest import ROOT, Shares, tool
from tests.sharing.test_processes import serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sharing,
    pytest.mark.interop,
    pytest.mark.timeout(240),
]

LIFETIME = 20.0
# Renewals that every tool must cross, one each 10 s; and so three whole sessions.
RENEWALS = 3
SECONDS = 66.0
# Seconds between two requests of the tools that have no pace of their own.
EVERY = 0.5
CLIENTS = ("boto3", "aioboto3", "s5cmd", "aws")


def _run(line: list[str], env: Mapping[str, str], *, feed: str = "") -> None:
    """Run a tool to its end. ``feed`` is typed at it, line after line, each with its number."""
    with subprocess.Popen(
        line,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        try:
            end = time.monotonic() + SECONDS
            number = 0
            while feed and time.monotonic() < end and process.poll() is None:
                number += 1
                process.stdin.write(feed.format(number=number))
                process.stdin.flush()
                time.sleep(EVERY)
            _, said = process.communicate(timeout=SECONDS + 60)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, (line[:3], said)


def _tool(client: str, bucket: str, cli: Cli) -> tuple[list[str], str]:
    """The command line of a client, and what is typed at it."""
    if client in ("boto3", "aioboto3"):
        work = [sys.executable, "-m", "tests.sharing.clients", client, bucket, str(SECONDS)]
        return work, ""
    if client == "s5cmd":
        # It runs what it reads, as it comes.
        file = cli.file("one")
        return (
            [tool("s5cmd"), "--endpoint-url", cli.aws.endpoint, "run"],
            f"cp {file} s3://{bucket}/{{number}}\n",
        )
    # One file after the other (the configuration says so), each of which takes a while.
    cli.aws.gate.faults.add(
        kind="delay", bucket=bucket, action="PutObject", seconds=EVERY, times=None
    )
    return [tool("aws"), "s3", "cp", "--recursive", "--quiet", "tree", f"s3://{bucket}/"], ""


def _under_exec(cli: Cli, client: str, bucket: str, role: str) -> None:
    line, feed = _tool(client, bucket, cli)
    start = [*program(), "credentials", "exec", "--role-arn", role, "--", *line]
    _run(_in(cli.home, start), {**cli.env, "PYTHONPATH": str(ROOT)}, feed=feed)


def _through_serve(cli: Cli, client: str, bucket: str, env: Mapping[str, str]) -> None:
    line, feed = _tool(client, bucket, cli)
    _run(_in(cli.home, line), env, feed=feed)


def _in(folder: Path, line: list[str]) -> list[str]:
    return ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *line]


def test_every_tool_goes_on_across_renewals(cli: Cli) -> None:
    for name in ("s5cmd", "aws"):
        tool(name)
    shares = Shares(cli, LIFETIME)
    cli.file(".aws/config", b"[default]\nregion = us-east-1\ns3 =\n  max_concurrent_requests = 1\n")
    for number in range(int(SECONDS / EVERY)):
        cli.file(f"tree/{number}")
    names = [f"{client}-{way}" for way in ("exec", "serve") for client in CLIENTS]
    buckets = {name: shares.bucket(name) for name in names}
    roles = {client: shares.role(f"exec-{client}") for client in CLIENTS}
    shared = shares.role("served")
    process, env = serve(cli, "--role-arn", shared)
    try:
        with ThreadPoolExecutor(len(names)) as threads:
            jobs = [
                threads.submit(_under_exec, cli, client, buckets[f"{client}-exec"], roles[client])
                for client in CLIENTS
            ]
            jobs += [
                threads.submit(_through_serve, cli, client, buckets[f"{client}-serve"], env)
                for client in CLIENTS
            ]
            for job in jobs:
                job.result()
    finally:
        process.terminate()
        process.communicate(timeout=10)
    _report(shares, names, roles, shared)
    for name in names:
        shares.check(shares.seen(name), RENEWALS)


def _report(shares: Shares, names: list[str], roles: Mapping[str, str], shared: str) -> None:
    print(f"sessions of {LIFETIME:.0f} s")
    for name in names:
        client = name.removesuffix("-exec")
        calls = (
            f"   STS calls {shares.check_one_brokers_calls(roles[client])}"
            if client in roles
            else ""
        )
        print(shares.seen(name).row() + calls)
    print(f"STS calls behind serve, for all four: {shares.check_one_brokers_calls(shared)}")
