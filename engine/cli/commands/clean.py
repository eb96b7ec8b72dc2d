"""``s3engine clean``: what stopped runs left open at S3 and on the disk is taken away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from engine.cli.object_options import bucket_options
from engine.cli.options import GroupedCommand, engine_options, output_options, s3_options
from engine.cli.output import print_error, print_json
from engine.cli.session import Session
from engine.errors import EngineError, UsageError

if TYPE_CHECKING:
    from engine.batch.journal import RunInfo
    from engine.batch.journal.clean import Cleaned

_EPILOG = """\b
Examples:
  s3engine clean --dry-run
  s3engine clean 5f0c1d2e
"""
# What of a run may be cleaned without being named: nobody will look for it.
_STATES = ("stopped", "failed")
# What is said is said here: of the engine's events nothing.
_SILENT = {"as_json": False, "quiet": True}


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("run", required=False)
@click.option("--dry-run", is_flag=True, help="Only say what would be taken away.")
@engine_options
@s3_options
@bucket_options
@output_options
@click.pass_context
def command(ctx: click.Context, /, run: str | None, dry_run: bool, **flags: Any) -> None:
    """Abort the uploads that RUN left open, remove its unfinished files, forget the run.

    Without RUN: of all runs that were stopped or have failures. What is open at S3 is known from
    the runs of this user and host; uploads of others are never touched. S3 is asked with the
    options of the run's own command; those that are given here go first.
    """
    from engine.batch.journal import find_run, list_runs, runs_folder

    folder, now = runs_folder(os.environ), datetime.now(UTC)
    if run is None:
        found = [info for info in list_runs(folder, now) if info.state in _STATES]
    else:
        found = [find_run(folder, run, now)]
    failed = 0
    for info in found:
        try:
            cleaned = _clean(ctx, info, flags, dry_run=dry_run)
        except EngineError as error:
            if run is not None:
                raise
            error.add_note(f"of run {info.id}, which is left as it is")
            print_error(error)
            failed = failed or error.exit_code
            continue
        _show(info, cleaned, flags, dry_run=dry_run)
        failed = failed or bool(cleaned.left)
    if not found and not flags["quiet"]:
        click.echo("nothing to clean", err=True)
    ctx.exit(int(failed))


def _clean(ctx: click.Context, info: RunInfo, flags: dict[str, Any], *, dry_run: bool) -> Cleaned:
    if not info.uploads:
        import anyio

        return anyio.run(_clean_here, info, dry_run)
    with _in_folder_of(info):
        session = Session(_flags_of(ctx, info, flags))

        async def work() -> Cleaned:
            from engine.api.cleaning import clean

            return await clean(session.engine, info, dry_run=dry_run)

        return session.run(work)


async def _clean_here(info: RunInfo, dry_run: bool) -> Cleaned:
    """Where nothing is at S3."""
    from engine.batch.journal.clean import clean_run
    from engine.threads import ThreadDoor

    door = ThreadDoor(1)
    try:
        return await clean_run(info, None, door, datetime.now(UTC), dry_run=dry_run)
    finally:
        door.close()


def _flags_of(ctx: click.Context, info: RunInfo, flags: dict[str, Any]) -> dict[str, Any]:
    """Those of the command that began the run, and over them those that are given now."""
    given = {
        name: value
        for name, value in flags.items()
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }
    arguments = list(info.run.command) if info.run is not None else []
    root = ctx.find_root().command
    begun_by = None
    if isinstance(root, click.Group) and arguments:
        begun_by = root.get_command(ctx, arguments[0])
    if begun_by is None:
        return {**flags, **_SILENT}
    try:
        recorded = begun_by.make_context(arguments[0], arguments[1:], parent=ctx.parent).params
    except click.ClickException as error:
        raise UsageError(
            f"the command of run {info.id} cannot be read any more: {error.format_message()}",
            fix="Give --region, --role-arn and what else reaches its bucket",
        ) from None
    return {**flags, **recorded, **given, **_SILENT}


@contextmanager
def _in_folder_of(info: RunInfo) -> Iterator[None]:
    """Names of files in its command are as they were typed."""
    before = Path.cwd()
    with suppress(OSError):
        os.chdir(info.run.cwd if info.run is not None else before)
    try:
        yield
    finally:
        os.chdir(before)


def _show(info: RunInfo, cleaned: Cleaned, flags: dict[str, Any], *, dry_run: bool) -> None:
    if flags["as_json"]:
        print_json(
            {
                "v": 1,
                "event": "cleaned",
                "run": info.id,
                "dry_run": dry_run,
                "aborted": [{"url": str(url), "upload": id_} for url, id_ in cleaned.aborted],
                "removed": [_text(path) for path in cleaned.removed],
                "left": [{"what": what, "reason": reason} for what, reason in cleaned.left],
            }
        )
        return
    would = "would be " if dry_run else ""
    for url, upload_id in cleaned.aborted:
        click.echo(f"{would}aborted  {url}  upload {upload_id}")
    for path in cleaned.removed:
        click.echo(f"{would}removed  {_text(path)}")
    for what, reason in cleaned.left:
        click.echo(f"left: {what}: {reason}", err=True)
    if not flags["quiet"]:
        forgotten = "stays" if cleaned.left or dry_run else "is forgotten"
        click.echo(
            f"run {info.id} {forgotten}: {len(cleaned.aborted)} uploads {would}aborted, "
            f"{len(cleaned.removed)} files {would}removed",
            err=True,
        )


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
