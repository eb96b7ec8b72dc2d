"""The real program as a child process, with an environment that holds what it is given only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from engine.testing.aws import AwsDouble
from engine.testing.redshift import COPY_ROLE, RedshiftDouble

ACCOUNT = "111122223333"
EXTERNAL_ID = "Canary-External-Id-42"

# No test waits this long; a program that hangs is killed and the test fails.
_TIMEOUT = 30.0
# As many as there are cores on the smallest machine that runs the tests.
_AT_ONCE = 2
_IN_TREE = "from engine.cli.app import main; main()"
# Enough of a secret to recognise it by, and more than any mask shows.
_PIECE = 16


def program() -> list[str]:
    """The installed console script; in a tree that is not installed, what it would do."""
    script = Path(sys.executable).with_name("s3engine")
    return [str(script)] if script.exists() else [sys.executable, "-c", _IN_TREE]


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def events(self) -> list[dict[str, Any]]:
        """stdout as NDJSON; fails where a line is no object."""
        rows = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(row, dict) for row in rows)
        return rows

    def check(self, code: int) -> Finished:
        """This exit code, and never a traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.text, self
        return self

    def check_error(self, code: int, name: str) -> Finished:
        """``error[NAME]`` on stderr, nothing of it on stdout, and this exit code."""
        self.check(code)
        assert f"error[{name}]: " in self.err, self
        assert "error[" not in self.out, self
        return self


@dataclass
class Cli:
    """Runs the program as a user ``etl`` who may do all of S3 and assume roles."""

    aws: AwsDouble
    bucket: str
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def file(self, name: str, data: bytes = b"some bytes\n") -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def keys(self, prefix: str = "") -> list[str]:
        return self.aws.gate.list_keys(self.bucket, prefix)

    def role_with(self, name: str, **settings: Any) -> str:
        """Add or replace a role that the user may assume."""
        settings = {
            "trust": [f"arn:aws:iam::{ACCOUNT}:user/etl"],
            "allow": [("s3:*", "*")],
            **settings,
        }
        return self.aws.gate.add_role(ACCOUNT, name, **settings)

    def start(self, *args: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*program(), *(str(arg) for arg in args)],
            cwd=self.home,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def run(self, *args: object, env: Mapping[str, str] | None = None) -> Finished:
        return finish(self.start(*args, env=env))

    def run_each(self, *lines: Sequence[object]) -> list[Finished]:
        """Independent runs, some at a time; results in order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda line: self.run(*line), lines))

    def secrets(self) -> list[str]:
        """Every secret key and session token that exists at the gate now."""
        records = list(self.aws.gate.accounts._keys.values())
        return [
            secret
            for record in records
            for secret in (record.secret_access_key, record.session_token)
            if secret
        ]


def finish(process: subprocess.Popen[str], timeout: float = _TIMEOUT) -> Finished:
    """Wait for the end; a program that does not end is killed, which fails the test."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end within {timeout} s:\n{out}\n{err}") from None
    return Finished(process.returncode, out, err)


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A started program that no failing test leaves behind."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Look every few milliseconds until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.01)


def leaks(text: str, secrets: Sequence[str]) -> list[str]:
    """The secrets of which ``text`` holds more than a mask shows, plain or percent-encoded."""
    return [
        secret
        for secret in secrets
        if any(
            piece in text
            for whole in (secret, quote(secret, safe=""))
            for piece in (whole[:_PIECE], whole[-_PIECE:])
        )
    ]


@pytest.fixture
def cli(s3engine_aws: AwsDouble, s3engine_bucket: str, tmp_path: Path) -> Cli:
    # Most tests need no role; the user's own rights save each run the call to STS.
    allow = [("sts:AssumeRole", "*"), ("s3:*", "*")]
    user = s3engine_aws.gate.add_user(ACCOUNT, "etl", allow=allow)
    cli = Cli(s3engine_aws, s3engine_bucket, tmp_path)
    cli.env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": user.access_key_id,
        "AWS_SECRET_ACCESS_KEY": user.secret_access_key,
        "AWS_ENDPOINT_URL": s3engine_aws.endpoint,
        "AWS_REGION": s3engine_aws.region,
    }
    if not shutil.which("s3engine", path=str(Path(sys.executable).parent)):
        cli.env["PYTHONPATH"] = str(Path(__file__).parents[2])
    return cli


@dataclass
class Loader:
    """``s3engine load`` into the table ``orders`` of a Redshift double."""

    cli: Cli
    redshift: RedshiftDouble
    stage: str

    def load(self, *args: object, authority: Sequence[object] = ()) -> Finished:
        """Load files; ``authority`` replaces the role of the cluster."""
        return self.cli.run("load", *self.line(*args, authority=authority))

    def line(self, *args: object, authority: Sequence[object] = ()) -> list[object]:
        by = authority or ("--copy-role", COPY_ROLE)
        return [*args, "--table", "public.orders", "--staging", self.stage, *by]

    def rows(self) -> list[tuple[object, ...]]:
        return self.redshift.query("select id, note from orders order by id")

    def staged(self) -> list[str]:
        return self.cli.keys("load/")


@pytest.fixture
def loader(cli: Cli, s3engine_redshift: RedshiftDouble) -> Loader:
    s3engine_redshift.query(
        "create table orders (id int not null, amount numeric(12,2), note varchar(40))"
    )
    s3engine_redshift.query(f"grant all on orders to {s3engine_redshift.user}")
    cli.env |= {
        "S3ENGINE_DATABASE": s3engine_redshift.jdbc_url,
        "S3ENGINE_DB_USER": s3engine_redshift.user,
        "S3ENGINE_DB_PASSWORD": s3engine_redshift.password,
    }
    return Loader(cli, s3engine_redshift, cli.url("load/"))
