"""``s3engine credentials show``: which credentials would be used, masked."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.options import Session, engine_options, output_options
from engine.cli.output import print_json
from engine.redact import mask_key_id


@click.group()
def command() -> None:
    """Show which credentials would be used."""


@command.command(epilog="\b\nExample:\n  s3engine credentials show --role-arn ARN --source ec2\n")
@engine_options
@output_options
def show(**flags: Any) -> None:
    """Get credentials as the other commands would, and print them masked."""
    session = Session(flags)

    async def work() -> None:
        lease = session.engine.lease
        credentials = await lease.ready()
        ends = credentials.expires_at.isoformat() if credentials.expires_at else None
        if flags["as_json"]:
            print_json(
                {
                    "v": 1,
                    "event": "credentials",
                    "access_key_id": mask_key_id(credentials.access_key_id),
                    "expires_at": ends,
                    "lifetime": credentials.lifetime,
                }
            )
            return
        click.echo(f"{session.engine!r}")
        click.echo(f"key      {mask_key_id(credentials.access_key_id)}")
        click.echo(f"ends     {ends or 'never'}")

    session.run(work)
