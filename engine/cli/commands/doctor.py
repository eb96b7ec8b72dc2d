"""``s3engine doctor``: which case it is, what works, and what to change where.

What lives here: from flags or a connection file to a question. What must not: a check.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from engine.cli.options import engine_options, network_of, option, output_options, role_from
from engine.cli.output import set_up_logging
from engine.cli.session import run_until_signal
from engine.errors import UsageError
from engine.types import S3Url

if TYPE_CHECKING:
    from engine.doctor import Connection, Question, Setup, Verdict

_EPILOG = """\b
Examples:
  s3engine doctor s3://bucket/prefix/ --role-arn arn:aws:iam::111122223333:role/writer
  s3engine doctor s3://bucket/prefix/ --read-only --role-arn arn:aws:iam::111122223333:role/reader
  s3engine doctor --connection s3v2.txt
  aws iam get-role --role-name writer > role.json; s3engine doctor --lint-trust-policy role.json
\b
A connection file (s3v2.txt; or the same as one JSON object):
  Access Key = AKIAIOSFODNN7EXAMPLE
  Secret Key = the-secret-key
  IAM Role ARN = arn:aws:iam::222233334444:role/stage-writer
  External Id = acme-42
  Folder Path = bucket/prefix
  Region Name = EU (Ireland)
"""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=_EPILOG)
@click.argument("bucket", required=False)
@option(
    "--connection",
    type=_FILE,
    help="File with the properties of an Informatica S3 V2 or Redshift V2 connection.",
)
@option("--no-probe", is_flag=True, help="Ask nothing of the bucket: no request to S3.")
@option(
    "--read-only",
    is_flag=True,
    help="List below the prefix and read 1 KiB of one object at most; write nothing.",
)
@option("--emit-policy", is_flag=True, help="Print the policy documents even where all is well.")
@option(
    "--lint-trust-policy",
    type=_FILE,
    help="Read a trust policy instead (or what aws iam get-role prints); nothing is called.",
)
@engine_options
@output_options
def command(bucket: str | None, **flags: Any) -> None:  # fmt: skip
    """Say which of the four cases of an assumed role this is, and check it step by step.

    With BUCKET (s3://bucket/prefix/) a tiny object is written below the prefix, listed, read and
    deleted again; nothing else is touched. For a role that only reads, say --read-only.
    """
    if flags["lint_trust_policy"] is not None:
        _lint(flags)
        return
    if flags["no_probe"] and flags["read_only"]:
        raise UsageError(
            "--no-probe and --read-only", fix="Give one: no request to S3, or listing and reading"
        )
    set_up_logging(flags["verbose"])
    connection = _with_connection(flags)
    url = S3Url.parse(bucket) if bucket else (connection.url if connection else None)
    setup, questions = _setup(flags, connection), _questions(flags, connection, url)
    verdict = _run(setup, questions, connection, flags)
    raise click.exceptions.Exit(verdict.exit_code)


def _lint(flags: Mapping[str, Any]) -> None:
    from engine.cli.doctor_screen import print_lint
    from engine.credentials import RoleArn
    from engine.doctor import lint_trust_policy

    path: Path = flags["lint_trust_policy"]
    account = RoleArn.parse(flags["role_arn"]).account if flags["role_arn"] else None
    complaints = lint_trust_policy(
        _read(path),
        account=account,
        tags=bool(flags["session_tag"]),
        external_id=flags["external_id"],
    )
    raise click.exceptions.Exit(print_lint(complaints, str(path), as_json=flags["as_json"]))


def _read(path: Path) -> str:
    """A file that a person wrote; not all of one that is far too long."""
    from engine.doctor import MAX_FILE, read_text

    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise UsageError(f"{path} has more than {MAX_FILE} bytes", fix="Check the name of the file")
    return read_text(data, str(path))


def _with_connection(flags: dict[str, Any]) -> Connection | None:
    """Put what the connection says where no flag says otherwise."""
    path = flags["connection"]
    if path is None:
        return None
    from engine.doctor import read_connection

    connection = read_connection(_read(path))
    given = click.get_current_context().get_parameter_source
    said = {
        "role_arn": connection.role_arn,
        "external_id": connection.external_id,
        "region": connection.region,
        "endpoint_url": connection.endpoint,
        "profile": connection.profile,
        "source": connection.source,
        "session_duration": connection.duration,
    }
    unset = (None, ParameterSource.DEFAULT)
    flags |= {name: value for name, value in said.items() if value and given(name) in unset}
    return connection


def _setup(flags: Mapping[str, Any], connection: Connection | None) -> Setup:
    from engine.credentials.providers.static import StaticProvider
    from engine.doctor import Setup
    from engine.errors import SourceMissing
    from engine.settings import endpoints_from

    environ: dict[str, str] = dict(os.environ)
    if connection and connection.profile_file:
        environ["AWS_SHARED_CREDENTIALS_FILE"] = connection.profile_file
    endpoints = endpoints_from(
        environ,
        region=flags["region"],
        s3=flags["endpoint_url"],
        sts=flags["sts_endpoint_url"],
        ca_bundle=flags["ca_bundle"],
        # A bucket elsewhere is what a doctor is asked to find, and not to pass over.
        **{**network_of(flags), "region_mismatch": "error"},
        profile=flags["profile"],
    )
    source = flags["source"]
    if connection and connection.keys and source == "default":
        source = StaticProvider(connection.keys, "connection file")
    missing = None
    if connection and connection.lacks_source:
        missing = SourceMissing(
            "the connection has a role and no source to assume it with: it holds no keys, and Use "
            "EC2 Role to Assume Role is false",
            fix="Put Access Key and Secret Key in, or set Use EC2 Role to Assume Role = true where "
            "the job runs on EC2, or name another source (--source, --profile)",
        )
    return Setup(endpoints, source, flags["profile"], environ, missing)


def _questions(
    flags: dict[str, Any], connection: Connection | None, url: S3Url | None
) -> list[tuple[str, Question]]:
    """A heading and a question each; the database's role is a second, separate one."""
    from engine.doctor import Probe, Question

    role = role_from(flags, flags["role_arn"], flags["session_duration"])
    emit = flags["emit_policy"]
    probe = Probe.READ if flags["read_only"] else Probe.WRITE
    probe = Probe.NOTHING if flags["no_probe"] else probe
    questions = [("", Question(role, url, probe, emit))]
    if connection and connection.database_role_arn:
        database = role_from(flags, connection.database_role_arn, flags["session_duration"])
        questions.append(("Redshift IAM Role ARN", Question(database, None, Probe.NOTHING, emit)))
    return questions


def _run(
    setup: Setup,
    questions: list[tuple[str, Question]],
    connection: Connection | None,
    flags: Mapping[str, Any],
) -> Verdict:

    from engine.cli.doctor_screen import DoctorScreen
    from engine.doctor import Verdict, examine, open_tools

    screen = DoctorScreen(as_json=flags["as_json"], quiet=flags["quiet"])
    total = Verdict(screen.tell)
    opened: list[Any] = []

    @asynccontextmanager
    async def tools() -> AsyncIterator[None]:
        async with open_tools(setup) as made:
            opened.append(made)
            screen.run_id = made.run_id
            yield

    async def work() -> Verdict:
        for note in connection.notes if connection else ():
            total.tell(note)
        for heading, question in questions:
            if heading:
                screen.subject(heading)
            await examine(question, opened[0], total)
        screen.finish(total)
        return total

    return run_until_signal(tools(), work)
