"""``cp - s3://...`` and ``cp s3://... -``: stdin to an object, objects to stdout.

What must not live here: how a descriptor is read (``pipes.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from engine.cli.pipes import STDIN, open_descriptor, read_descriptor
from engine.cli.session import Session
from engine.errors import EngineError, UsageError
from engine.events import ObjectDone
from engine.options import ObjectOptions
from engine.types import S3Url

# What stands for stdin and stdout; a file of that name is ``./-``.
DASH = "-"


def is_stream(sources: Sequence[str], target: str) -> bool:
    """Whether one end is stdin or stdout."""
    return DASH in sources or target == DASH


def copy_stream(
    sources: Sequence[str], target: str, options: ObjectOptions, flags: Mapping[str, Any]
) -> None:
    """Copy stdin to one object, or objects to stdout, one after the other.

    Raises:
        UsageError: Found before anything is read or written.
        EngineError: The object was not written; or what went to stdout is not to be trusted.
    """
    if target != DASH:
        url = _target(sources, target)
        session = Session(dict(flags))
        session.run(lambda: _up(session, url, options, flags["expected_size"]))
    else:
        if flags["as_json"]:
            raise UsageError("stdout is for the object, not for JSON", fix="Leave --json out")
        urls = [_object(source) for source in sources]
        session = Session(dict(flags))
        session.run(lambda: _down(session, urls, options))
    session.progress.finish()


async def _up(
    session: Session, url: S3Url, options: ObjectOptions, expected_size: int | None
) -> None:
    async with aclosing(read_descriptor(STDIN)) as pieces:
        await session.engine.upload_stream(
            pieces, url, expected_size=expected_size, options=options
        )


async def _down(session: Session, urls: Sequence[S3Url], options: ObjectOptions) -> None:
    written = 0
    async with open_descriptor() as write:
        for url in urls:
            try:
                async with session.engine.open_read(url, options=options) as reader:
                    async for piece in reader:
                        await write(piece)
                        written += len(piece)
            except EngineError as error:
                if written:
                    error.add_note(f"{written} bytes went to stdout before this was known")
                raise
            session.progress(ObjectDone(url, DASH, "download", reader.info.size, 1, 0.0))


def _target(sources: Sequence[str], target: str) -> S3Url:
    if len(sources) > 1:
        raise UsageError("stdin goes to one object, and alone", fix=f"s3engine cp - {target}")
    if not target.startswith("s3://"):
        raise UsageError(f"{target} is not an S3 URL", fix="Write it as s3://bucket/key")
    return _object(target)


def _object(text: str) -> S3Url:
    if text == DASH:
        raise UsageError("stdin to stdout is no copy", fix="Name an object: s3://bucket/key")
    url = S3Url.parse(text)
    if not url.key or url.key.endswith("/"):
        raise UsageError(f"{text} names no object", fix="A stream needs the whole key")
    return url
