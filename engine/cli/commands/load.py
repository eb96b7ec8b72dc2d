"""``s3engine load``: files to S3, then COPY into Redshift, in one transaction."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import click

from engine.cli.object_options import bucket_options, encryption_options
from engine.cli.options import (
    Duration,
    GroupedCommand,
    database_login,
    engine_options,
    option,
    output_options,
    role_from,
    s3_options,
    transfer_options,
)
from engine.cli.output import print_json, size_text
from engine.cli.session import Session, Stopped
from engine.errors import CopyFailed, UsageError

_EPILOG = """\b
Examples:
  s3engine load 'sales/*.csv.gz' --table public.sales --staging s3://bucket/load/ \\
      --database jdbc:redshift://host:5439/dev --copy-role default --header
\b
User and password of the database: S3ENGINE_DB_USER and S3ENGINE_DB_PASSWORD, or UID and PWD in
the URL given by S3ENGINE_DATABASE.
"""


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@option("--table", required=True, help="schema.table or table.")
@option("--staging", required=True, help="s3://bucket/prefix/ for the staged files.")
@option("--database", required=True, help="jdbc:redshift: URL.")
@option("--redshift-endpoint-url", help="The Redshift API's address where it is not AWS.")
@option("--copy-role", help="ARN of a role of the cluster, or 'default'.")
@option("--copy-keys-role", help="ARN of a role whose temporary keys COPY gets instead.")
@option(
    "--copy-keys-duration",
    type=Duration(),
    default=3600,
    show_default=True,
    help="Session length of --copy-keys-role.",
)
@option("--copy-keys-external-id", help="Of --copy-keys-role; else --external-id.")
@option(
    "--copy-estimate",
    type=Duration(),
    default=60,
    show_default=True,
    help="How long COPY will take; keys must outlive twice that.",
)
@option("--columns", help="Comma-separated; default: all of the table's.")
@option("--header", is_flag=True, help="The first row of every file holds names.")
@option("--delimiter", default=",", show_default=True)
@option("--null-as", help="Text that stands for NULL.")
@option("--time-format", help="COPY's TIMEFORMAT; 'auto' takes ISO 8601 too.")
@option("--date-format", help="COPY's DATEFORMAT, or 'auto'.")
@option(
    "--max-errors",
    type=click.IntRange(0, 99_999),
    default=0,
    show_default=True,
    help="Bad rows to pass over; with one more the load fails. COPY gets MAXERROR N+1.",
)
@option("--copy-region", help="Region of the bucket where it is not the cluster's.")
@option("--keep-staged", is_flag=True, help="Leave the staged files after success too.")
@option("--show-values", is_flag=True, help="Show the values of refused rows unmasked.")
@engine_options
@s3_options
@transfer_options
@encryption_options
@bucket_options
@output_options
def command(files: tuple[str, ...], show_values: bool, **flags: Any) -> None:
    """Stage FILES to S3, COPY them into a table, compare, commit."""
    from engine.redshift import CopyOptions, CsvFormat

    user, password = database_login()
    keys_role = flags["copy_keys_role"]
    session = Session(flags)
    options = CopyOptions(
        max_errors=_max_error(flags["max_errors"]),
        region=flags["copy_region"],
        timeformat=flags["time_format"],
        dateformat=flags["date_format"],
    )
    columns = [name.strip() for name in (flags["columns"] or "").split(",") if name.strip()]
    role = None
    if keys_role:
        own = {
            "external_id": flags["copy_keys_external_id"] or flags["external_id"],
            # These are of --role-arn's session, which stages the files.
            "session_policy": None,
            "session_policy_arn": (),
            "session_tag": (),
            "transitive_tag": (),
            "source_identity": None,
            "mfa_serial": None,
            "role_session_name": None,
        }
        role = role_from({**flags, **own}, keys_role, flags["copy_keys_duration"])

    async def work() -> Any:
        return await session.engine.load(
            _expand(files),
            table=flags["table"],
            staging=flags["staging"],
            database=flags["database"],
            user=user,
            password=password,
            copy_role=flags["copy_role"],
            copy_keys_role=role,
            columns=columns,
            format=CsvFormat(
                delimiter=flags["delimiter"], header=flags["header"], null_as=flags["null_as"]
            ),
            options=options,
            keep_staged=flags["keep_staged"],
            estimate_seconds=flags["copy_estimate"],
        )

    try:
        report = session.run(work)
    except CopyFailed as error:
        if show_values:
            _unmask(error)
        raise
    except Stopped:
        click.echo(f"staged files, if any, are kept under {flags['staging']}", err=True)
        raise
    _print_report(report, as_json=flags["as_json"])
    for row in report.rejected:
        click.echo(f"rejected: {row.show() if show_values else row}", err=True)


def _max_error(accepted: int) -> int:
    """MAXERROR is the number of bad rows at which COPY fails, not the number that it accepts."""
    return accepted + 1 if accepted else 0


def _expand(files: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for text in files:
        if Path(text).exists():
            found.append(Path(text))
            continue
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise UsageError(f"no such file: {text}")
        found += [Path(match) for match in matches]
    return found


def _unmask(error: CopyFailed) -> None:
    """Put the values of refused rows, as they are, where the error has them masked."""
    from engine.redshift import RejectedRow

    rows = [row for row in error.rejected if isinstance(row, RejectedRow)]
    if not rows:
        return
    first = rows[0]
    shown = {"value": repr(first.value), "reason": f"{first.code}: {first.reason}"}
    error.facts = {**error.facts, **shown}
    for row in rows[1:]:
        error.add_note(row.show())


def _print_report(report: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "v": 1,
                "event": "load",
                "load": report.load_id,
                "table": report.table,
                "files": report.files_loaded,
                "rows": report.rows_loaded,
                "rejected": report.rows_rejected,
                "bytes": report.bytes_staged,
                "copy_id": report.copy_id,
                "seconds": round(report.seconds, 3),
                "kept_stage": report.kept_stage,
                "warnings": list(report.warnings),
            }
        )
        return
    click.echo(
        f"loaded {report.rows_loaded:,} rows of {report.files_loaded} files "
        f"({size_text(report.bytes_staged)}) into {report.table} in {report.seconds:.1f} s; "
        f"rejected {report.rows_rejected}; COPY {report.copy_id}"
    )
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
