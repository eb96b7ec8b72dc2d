"""``s3engine resume RUN``: go on with a stopped run, by its id."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from engine.cli.kept_run import Invocation
from engine.cli.options import GroupedCommand
from engine.errors import UsageError

_EPILOG = """\b
Examples:
  s3engine resume 01ab23cd
  s3engine resume 01ab23cd --external-id VALUE --max-concurrency 32
"""


@click.command(
    cls=GroupedCommand,
    epilog=_EPILOG,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("run")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF THE COMMAND]...")
@click.pass_context
def command(ctx: click.Context, run: str, options: tuple[str, ...]) -> None:
    """Go on with a run that was stopped or had failures, in the folder that it was begun in.

    The same as to type its command again. Options that follow are added to it: an external id is
    never kept, so it is given again, or stands in S3ENGINE_EXTERNAL_ID.
    """
    from engine.batch.journal import find_run, runs_folder

    info = find_run(runs_folder(os.environ), run, datetime.now(UTC))
    found = info.run
    if found is None:
        raise UsageError(f"run {info.id} cannot be gone on with: {info.problem}")
    if info.state == "done":
        raise UsageError(f"run {info.id} is done", fix="Type its command again to do it anew")
    if not found.command:
        raise UsageError(
            f"run {info.id} was not begun by a command", fix="Run the program again that began it"
        )
    _check_left_out(info.id, found.left_out, options)
    try:
        os.chdir(found.cwd)
    except OSError as error:
        raise UsageError(f"cannot enter {found.cwd}: {error.strerror}") from None
    name, *rest = found.command
    invocation = ctx.find_root().ensure_object(Invocation)
    invocation.arguments, invocation.resumes = found.command, info.id
    ctx.exit(_run([name, *options, *rest], invocation))


def _check_left_out(run: str, left_out: tuple[str, ...], options: tuple[str, ...]) -> None:
    """What was not kept must be there again, by a flag or by the environment."""
    given = {option.partition("=")[0] for option in options}
    for name in left_out:
        variable = "S3ENGINE_" + name.lstrip("-").replace("-", "_").upper()
        if name not in given and not os.environ.get(variable):
            raise UsageError(
                f"run {run} was begun with {name}, which is not kept",
                fix=f"s3engine resume {run} {name} ..., or set {variable}",
            )


def _run(arguments: list[str], invocation: Invocation) -> int:
    from engine.cli.app import app

    status = app.main(args=arguments, prog_name="s3engine", standalone_mode=False, obj=invocation)
    return status if isinstance(status, int) else 0
