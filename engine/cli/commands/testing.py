"""``s3engine testing``: the doubles as servers, for tests of other programs."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import click

_EPILOG = """\b
Examples:
  s3engine testing s3 --env-file s3.env &
  s3engine testing s3 --role-lifetime 60 --log requests.jsonl
"""


@click.group()
def command() -> None:
    """Run the doubles: S3 and STS (a gate over moto), IMDSv2, and Redshift over PostgreSQL."""


@command.command()
@click.option("--bucket", default="test-bucket", show_default=True, help="Made at the start.")
@click.option("--role-lifetime", type=float, help="Seconds that sessions really live (from 5).")
@click.option("--external-id", help="The role then wants it.")
@click.option("--bandwidth", type=int, help="Bytes per second of the whole link.")
@click.option("--log", type=click.Path(path_type=Path), help="Request log as JSON lines.")
@click.option("--env-file", type=click.Path(path_type=Path), help="Write the variables there.")
def s3(
    bucket: str,
    role_lifetime: float | None,
    external_id: str | None,
    bandwidth: int | None,
    log: Path | None,
    env_file: Path | None,
) -> None:
    """S3 and STS until a signal comes. Prints shell variables to use them."""
    from engine.testing.aws import AwsDouble

    with AwsDouble(log_path=log) as aws:
        gate = aws.gate
        gate.create_bucket(bucket, aws.account)
        user = gate.add_user(aws.account, "tester", allow=[("sts:AssumeRole", "*")])
        role = gate.add_role(
            aws.account,
            "tester-role",
            trust=[f"arn:aws:iam::{aws.account}:user/tester"],
            external_id=external_id,
            session_lifetime=role_lifetime,
            allow=[("s3:*", "*")],
        )
        gate.bandwidth = bandwidth
        _announce(
            {
                "AWS_ACCESS_KEY_ID": user.access_key_id,
                "AWS_SECRET_ACCESS_KEY": user.secret_access_key,
                "AWS_ENDPOINT_URL": aws.endpoint,
                "AWS_REGION": aws.region,
                "S3ENGINE_ROLE_ARN": role,
                "TEST_BUCKET": bucket,
            },
            env_file,
        )
        _wait_for_signal()


@command.command()
@click.option("--env-file", type=click.Path(path_type=Path), help="Write the variables there.")
def redshift(env_file: Path | None) -> None:
    """Redshift, with S3 and STS, until a signal comes."""
    from engine.testing.aws import AwsDouble
    from engine.testing.redshift import COPY_ROLE, start_for_tests

    with ExitStack() as stack:
        aws = stack.enter_context(AwsDouble())
        double = start_for_tests(aws)
        stack.callback(double.stop)
        aws.gate.create_bucket("test-bucket", aws.account)
        _announce(
            {
                "AWS_ACCESS_KEY_ID": aws.admin.access_key_id,
                "AWS_SECRET_ACCESS_KEY": aws.admin.secret_access_key,
                "AWS_ENDPOINT_URL": aws.endpoint,
                "AWS_REGION": aws.region,
                "S3ENGINE_DATABASE": double.jdbc_url,
                "S3ENGINE_DB_USER": double.user,
                "S3ENGINE_DB_PASSWORD": double.password,
                "S3ENGINE_COPY_ROLE": COPY_ROLE,
                "TEST_BUCKET": "test-bucket",
            },
            env_file,
        )
        _wait_for_signal()


def _announce(variables: dict[str, str], env_file: Path | None) -> None:
    """These are keys of a double that lives as long as this process. Others on the host need not
    read them all the same."""
    lines = "".join(f"export {name}={json.dumps(value)}\n" for name, value in variables.items())
    if env_file is not None:
        env_file.unlink(missing_ok=True)
        with open(env_file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(lines)
        click.echo(f"wrote {env_file}")
    else:
        click.echo(lines, nl=False)


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
