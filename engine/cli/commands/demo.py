"""``s3engine demo``: the main job on embedded real parts, with every comparison made."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.output import Progress, print_error, set_up_logging, size_text
from engine.errors import EngineError
from engine.types import MiB

if TYPE_CHECKING:
    from engine.cli.demo.scene import Scene
    from engine.cli.demo.steps import Outcome

_EPILOG = """\b
Examples:
  s3engine demo
  s3engine demo --sabotage drop-row
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--sabotage",
    type=click.Choice(["drop-row", "flip-byte", "expire"]),
    default=None,
    help="Break something on purpose: the demo must fail and say what.",
)
@click.option("--quiet", "-q", is_flag=True, help="Only the result.")
@click.option("-v", "--verbose", count=True, help="More of the log; up to -vvv.")
@click.pass_context
def command(ctx: click.Context, /, sabotage: str | None, quiet: bool, verbose: int) -> None:
    """Assume a role, stage real data to S3, COPY it into Redshift, compare everything.

    All parts run on this machine: S3 (moto behind a gate that checks signatures and ends
    sessions), STS, and a Redshift double over PostgreSQL.
    """
    import anyio

    from engine.cli.demo.data import write_files
    from engine.cli.demo.scene import running_scene
    from engine.cli.demo.steps import run_steps

    set_up_logging(verbose)
    progress = Progress(run_id="demo", quiet=quiet)
    with tempfile.TemporaryDirectory(prefix="s3engine-demo-") as text:
        folder = Path(text)
        files = write_files(folder)
        with running_scene() as scene:
            _introduce(scene, quiet=quiet)

            async def work() -> Outcome:
                return await run_steps(
                    scene, files, folder / "back", sabotage or "", progress, _say(quiet)
                )

            started = time.monotonic()
            try:
                outcome = anyio.run(work)
            except EngineError as error:
                progress.close()
                print_error(error)
                click.echo(f"demo FAILED: {type(error).__name__}: {error.headline}", err=True)
                ctx.exit(1)
            finally:
                progress.close()
            progress.finish()
            _report(scene, outcome, time.monotonic() - started)


def _say(quiet: bool) -> Callable[[str], None]:
    return lambda text: None if quiet else click.echo(text, err=True)


def _introduce(scene: Scene, *, quiet: bool) -> None:
    from engine.cli.demo.scene import LINK_BYTES_PER_SECOND, STAGING_SESSION_SECONDS

    if quiet:
        return
    click.echo(f"S3 and STS   {scene.aws.endpoint} (gate over moto)", err=True)
    click.echo(f"Redshift     {scene.redshift.jdbc_url} (double over PostgreSQL)", err=True)
    click.echo(
        f"link         limited to {size_text(LINK_BYTES_PER_SECOND)}/s by the gate, so that "
        f"sessions of {STAGING_SESSION_SECONDS} s end while an object is on its way",
        err=True,
    )


def _report(scene: Scene, outcome: Outcome, seconds: float) -> None:
    log = scene.aws.gate.log
    uploads = log.keys_by_upload()
    renewals = sum(len(keys) - 1 for keys in uploads.values() if len(keys) > 1)
    click.echo(
        f"objects      {len(outcome.loads)} files staged, {outcome.objects_compared} fetched "
        "again and byte-identical"
    )
    click.echo(
        f"bytes        {outcome.bytes_up:,} up, {outcome.bytes_down:,} down, "
        f"{(outcome.bytes_up + outcome.bytes_down) / MiB / seconds:.2f} MiB/s over "
        f"{seconds:.1f} s, COPY included"
    )
    click.echo(f"STS calls    {len(log.where(action='AssumeRole'))}")
    click.echo(
        f"renewals     {renewals} inside uploads (by the gate's log: "
        f"{sum(len(keys) > 1 for keys in uploads.values())} of {len(uploads)} multipart uploads "
        "signed by two or more sessions)"
    )
    click.echo("table          rows in source   rows in target")
    for name, (source, target) in outcome.rows.items():
        click.echo(f"{name:<12} {source:>16,} {target:>16,}")
    click.echo("select origin, count(*) from flights group by origin")
    for origin, count in outcome.origins:
        click.echo(f"{origin:<12} {count:>16}")
    click.echo("demo ok: every comparison holds")
