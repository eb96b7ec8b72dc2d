"""``s3engine ls``: the objects below a prefix."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import click

from engine.cli.object_options import bucket_options
from engine.cli.options import GroupedCommand, engine_options, output_options, s3_options
from engine.cli.session import Session
from engine.types import ObjectInfo, S3Url

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

    as_line = _as_json if flags["as_json"] else _as_text

    async def work() -> None:
        # A write for each page: a listing may have millions of lines.
        async for page in session.engine.list_pages(url):
            click.echo("\n".join([as_line(info) for info in page]))

    session.run(work)


def _as_text(info: ObjectInfo) -> str:
    seen, url = info.last_modified, info.url
    if seen is not None and seen.tzinfo is not UTC:
        seen = seen.astimezone(UTC)
    if seen is None:
        return f"{info.size:>15,}  -  s3://{url.bucket}/{url.key}"
    # Faster than isoformat(), which asks the time zone; this is most of what a line costs.
    day = (seen.year, seen.month, seen.day, seen.hour, seen.minute, seen.second)
    when = "%04d-%02d-%02dT%02d:%02d:%02dZ" % day  # noqa: UP031
    return f"{info.size:>15,}  {when}  s3://{url.bucket}/{url.key}"


def _as_json(info: ObjectInfo) -> str:
    row = {"v": 1, "event": "listed", "url": str(info.url), "bytes": info.size, "etag": info.etag}
    return json.dumps(row)
