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

from engine.cli.options import (
    engine_options,
    option,
    output_options,
    role_from,
    run_until_signal,
)
from engine.cli.output import set_up_logging
from engine.errors import UsageError
from engine.types import S3Url

if TYPE_CHECKING:
    from engine.doctor import Connection, Question, Setup, Verdict

_EPILOG = """\b
Examples:
  s3engine doctor s3://bucket/prefix/ --role-arn arn:aws:iam::111122223333:role/writer
  s3engine doctor --connection s3v2.json
  s3engine doctor --lint-trust-policy trust.json --role-arn arn:aws:iam::111122223333:role/writer
"""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=_EPILOG)
@click.argument("bucket", required=False)
@option(
    "--connection",
    type=_FILE,
    help="File with the properties of an Informatica S3 V2 or Redshift V2 connection.",
)
@option("--no-probe", is_flag=True, help="Write nothing to the bucket.")
@option("--emit-policy", is_flag=True, help="Print the policy documents even where all is well.")
@option("--lint-trust-policy", type=_FILE, help="Read a trust policy instead; nothing is called.")
@engine_options
@output_options
def command(bucket: str | None, **flags: Any) -> None:  # fmt: skip
    """Say which of the four cases of an assumed role this is, and check it step by step.

    With BUCKET (s3://bucket/prefix/) a tiny object is written below the prefix, listed, read and
    deleted again; nothing else is touched.
    """
    if flags["lint_trust_policy"] is not None:
        _lint(flags)
        return
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8") from None
    complaints = lint_trust_policy(text, account=account, tags=bool(flags["session_tag"]))
    raise click.exceptions.Exit(print_lint(complaints, str(path), as_json=flags["as_json"]))


def _with_connection(flags: dict[str, Any]) -> Connection | None:
    """Put what the connection says where no flag says otherwise."""
    path = flags["connection"]
    if path is None:
        return None
    from engine.doctor import read_connection

    connection = read_connection(path.read_text(encoding="utf-8-sig"))
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
        profile=flags["profile"],
    )
    source = flags["source"]
    if connection and connection.keys and source == "default":
        source = StaticProvider(connection.keys, "connection file")
    return Setup(endpoints, source, flags["profile"], environ)


def _questions(
    flags: dict[str, Any], connection: Connection | None, url: S3Url | None
) -> list[tuple[str, Question]]:
    """A heading and a question each; the database's role is a second, separate one."""
    from engine.doctor import Question

    role = role_from(flags, flags["role_arn"], flags["session_duration"])
    probe, emit = not flags["no_probe"], flags["emit_policy"]
    questions = [("", Question(role, url, probe, emit))]
    if connection and connection.database_role_arn:
        database = role_from(flags, connection.database_role_arn, flags["session_duration"])
        questions.append(("Redshift IAM Role ARN", Question(database, None, False, emit)))
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
