"""``s3engine ls``: the objects below a prefix."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.object_options import bucket_options
from engine.cli.options import GroupedCommand, engine_options, output_options, s3_options
from engine.cli.output import print_json
from engine.cli.session import Session
from engine.types import S3Url

_EPILOG = """\b
Examples:
  s3engine ls s3://bucket/prefix/
  s3engine ls s3://bucket/ --json
"""


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("prefix")
@engine_options
@s3_options
@bucket_options
@output_options
def command(prefix: str, **flags: Any) -> None:
    """List the objects whose keys start with PREFIX: size, time, URL."""
    url = S3Url.parse(prefix)
    session = Session(flags)

    async def work() -> None:
        async for info in session.engine.list(url):
            if flags["as_json"]:
                print_json(
                    {
                        "v": 1,
                        "event": "listed",
                        "url": str(info.url),
                        "bytes": info.size,
                        "etag": info.etag,
                    }
                )
            else:
                when = f"{info.last_modified:%Y-%m-%dT%H:%M:%SZ}" if info.last_modified else "-"
                click.echo(f"{info.size:>15,}  {when}  {info.url}")

    session.run(work)
