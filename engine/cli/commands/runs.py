"""``s3engine runs``: past runs, and what can be gone on with."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import GroupedCommand
from engine.redact import redact

if TYPE_CHECKING:
    from engine.batch.journal import RunInfo

_EPILOG = """\b
Examples:
  s3engine runs
  s3engine runs --json | jq 'select(.state == "stopped").run'
"""
# Where stdout is no terminal, or a wide one.
_WIDTH = 100
_ROW = "{:<10} {:<20} {:<9} {:>19} {:>9}  {}"


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def command(as_json: bool) -> None:
    """List the runs of this user and host, the newest last.

    A run that was stopped or has failures goes on when the same command is typed again, or with
    s3engine resume RUN; s3engine clean RUN takes away what it left.
    """
    from engine.batch.journal import list_runs, runs_folder

    found = list_runs(runs_folder(os.environ), datetime.now(UTC))
    if as_json:
        for info in found:
            click.echo(json.dumps(_as_json(info)))
        return
    if not found:
        click.echo("no runs", err=True)
        return
    click.echo(_ROW.format("RUN", "BEGUN", "STATE", "DONE", "LEFT", "COMMAND"))
    for info in found:
        click.echo(_as_text(info))
        if info.problem:
            click.echo(redact(f"  {info.problem}"), err=True)


def _as_text(info: RunInfo) -> str:
    run = info.run
    if run is None:
        return _ROW.format(info.id, "-", info.state, "-", "-", "-").rstrip()
    done = f"{run.objects:,}"
    if run.planned_objects is not None:
        done += f" of {run.planned_objects:,}"
    left = "-" if info.left is None else f"{info.left:,}"
    line = _ROW.format(info.id, _instant(run.started_at), info.state, done, left, _command_of(info))
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _as_json(info: RunInfo) -> dict[str, Any]:
    row: dict[str, Any] = {
        "v": 1,
        "event": "run",
        "run": info.id,
        "state": info.state,
        "path": _shown(str(info.path)),
    }
    run = info.run
    if run is None:
        return {**row, "problem": redact(info.problem)}
    return {
        **row,
        "started_at": _instant(run.started_at),
        "ended_at": _instant(run.ended_at) if run.ended_at is not None else None,
        "objects": run.objects,
        "bytes": run.bytes,
        "left": info.left,
        "failed": run.failed,
        "open_uploads": info.uploads,
        "processes": info.sessions,
        "pid": info.holder.pid if info.holder is not None else None,
        "host": info.holder.host if info.holder is not None else None,
        "command": [_shown(argument) for argument in run.command],
        "give_again": list(run.left_out),
        "cwd": _shown(run.cwd),
    }


def _command_of(info: RunInfo) -> str:
    assert info.run is not None
    given = [f"{flag} ..." for flag in info.run.left_out]
    return _shown(" ".join([shlex.join(info.run.command), *given])) or "(a program)"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC).isoformat()[:19]}Z"


def _shown(text: str) -> str:
    """A name may have bytes that are no text, and what moves the cursor."""
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)
