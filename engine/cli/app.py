"""The command ``s3engine``: its table of commands, and how an error ends it.

Exit codes: 0 all done; 1 some objects failed, or a load was rolled back; 2 usage; 3 credentials or
permission before anything moved; 4 stopped and resumable, or a COMMIT whose fate is unknown;
130 SIGINT, 143 SIGTERM, both resumable.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from difflib import get_close_matches

import click

from engine.cli.kept_run import Invocation
from engine.cli.output import mask_tracebacks, print_error, show_traceback
from engine.cli.session import Stopped, stopped
from engine.errors import EngineError
from engine.version import VERSION

COMMANDS = {
    "cp": ("Transfer", "copy files and trees to and from S3"),
    "resume": ("Transfer", "go on with a stopped run"),
    "load": ("Transfer", "stage files to S3, then COPY them into Redshift"),
    "ls": ("Inspect", "list the objects below a prefix"),
    "rm": ("Inspect", "delete objects"),
    "runs": ("Inspect", "list past runs, and what can be gone on with"),
    "clean": ("Inspect", "take away what stopped runs left at S3 and here"),
    "doctor": ("Setup", "check credentials, role and bucket; say what to change where"),
    "credentials": (
        "Setup",
        "show credentials, or lend them: env, process, serve, exec",
    ),
    "bench": ("Setup", "measure transfers to a bucket, beside other tools"),
    "demo": ("Setup", "run the main job on embedded real parts"),
    "testing": ("Setup", "run the test doubles of S3, STS and Redshift"),
}
"""Name -> (group, what it does). The command is ``command`` in ``cli/commands/<name>.py``."""


class _Commands(click.Group):
    """Commands by name, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"engine.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, (group, text) in COMMANDS.items():
            groups.setdefault(group, []).append((name, text))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


_EPILOG = """\b
Try it without an AWS account:
  s3engine demo
Copy a folder under a role:
  s3engine cp dump/ s3://bucket/dump/ --role-arn arn:aws:iam::111122223333:role/writer
"""


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.version_option(VERSION, prog_name="s3engine")
def app() -> None:
    """Move many objects to and from S3 under assumed roles that are renewed while you work."""


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Ends the process with the exit code of the error, if any."""
    given = sys.argv[1:] if arguments is None else arguments
    invocation = Invocation(given)
    mask_tracebacks()
    try:
        status = app.main(args=given, prog_name="s3engine", standalone_mode=False, obj=invocation)
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.ClickException as error:
        error.show()
        status = 2
    except (click.Abort, KeyboardInterrupt):
        status = stopped(signal.SIGINT, invocation.go_on)
    except Stopped as stop:
        status = stopped(stop.number, invocation.go_on)
    except EngineError as error:
        print_error(error)
        invocation.tell_how_to_go_on()
        status = invocation.status_of(error)
    except OSError as error:
        print_error(EngineError(f"cannot write or read: {error.strerror or error}"))
        status = 1
    except Exception as error:
        found = _unexpected(error)
        print_error(found)
        status = found.exit_code
    sys.exit(status if isinstance(status, int) else 0)


def _unexpected(error: Exception) -> EngineError:
    """A mistake of ours, in the words of an error; S3ENGINE_DEBUG shows where, too."""
    if isinstance(error, ExceptionGroup):
        leaves = _leaves(error)
        ours = [leaf for leaf in leaves if isinstance(leaf, EngineError)]
        if ours:
            return ours[0]
        error = leaves[0]
    if os.environ.get("S3ENGINE_DEBUG"):
        show_traceback(error)
    return EngineError(
        f"unexpected {type(error).__name__}: {error}",
        fix="This is a bug of s3engine; S3ENGINE_DEBUG=1 shows where it happened",
    )


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found
