"""``s3engine rm``: delete objects that are named one by one."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.object_options import bucket_options
from engine.cli.options import GroupedCommand, engine_options, output_options, s3_options
from engine.cli.session import Session
from engine.errors import UsageError
from engine.types import S3Url

_EPILOG = """\b
Example:
  s3engine rm s3://bucket/a.csv s3://bucket/b.csv
"""


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@engine_options
@s3_options
@bucket_options
@output_options
def command(urls: tuple[str, ...], **flags: Any) -> None:
    """Delete the named objects. There is no deleting of whole prefixes yet."""
    targets = [S3Url.parse(url) for url in urls]
    for target in targets:
        if not target.key or target.key.endswith("/"):
            raise UsageError(f"{target} names a prefix", fix="Name the objects one by one")
    session = Session(flags)
    count = session.run(lambda: session.engine.delete(targets))
    if not flags["quiet"]:
        click.echo(f"deleted {count} (S3 does not say which of them existed)", err=True)
