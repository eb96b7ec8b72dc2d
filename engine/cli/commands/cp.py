"""``s3engine cp``: files and trees up, objects and prefixes down, or from S3 to S3."""

from __future__ import annotations

import glob
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.batch import Manifest, ManifestEntry, Report
from engine.batch.manifest import Tree
from engine.cli.copy_options import copy_options, copying, refuse_copy_flags
from engine.cli.kept_run import Invocation, identity_of_copy, tell_resumed
from engine.cli.object_options import object_options, options_of_one
from engine.cli.options import (
    GroupedCommand,
    Size,
    engine_options,
    option,
    output_options,
    s3_options,
    transfer_options,
)
from engine.cli.output import print_error, print_json
from engine.cli.session import Session
from engine.cli.stream_copy import copy_stream, is_stream
from engine.errors import EngineError, ObjectExists, UsageError
from engine.types import S3Url

if TYPE_CHECKING:
    from engine.batch.journal import Journal

_EPILOG = """\b
Examples:
  s3engine cp day.csv.gz s3://bucket/in/
  s3engine cp dump/ s3://bucket/dump/ --role-arn ARN --session-duration 15m
  s3engine cp s3://bucket/dump/ out/
  s3engine cp s3://bucket/dump/ s3://other/dump/
  pg_dump db | s3engine cp - s3://bucket/db.sql
"""


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target")
@click.option("-r", "--recursive", is_flag=True, help="The same as a trailing slash.")
@click.option(
    "--expected-size",
    type=Size(),
    help="About how much comes from stdin, where it is over 500 GiB.",
)
@option(
    "--follow-symlinks",
    is_flag=True,
    help="Upload what links lead to outside of the folder; links to folders never are followed.",
)
@option(
    "--empty-folders",
    is_flag=True,
    help="Upload empty folders, as empty objects whose keys end with a slash.",
)
@option(
    "--no-resume",
    is_flag=True,
    help="Keep no journal: a copy that is stopped leaves nothing, and starts from the beginning.",
)
@engine_options
@s3_options
@transfer_options
@object_options
@copy_options
@output_options
@click.pass_context
def command(
    ctx: click.Context, /, sources: tuple[str, ...], target: str, recursive: bool, **flags: Any
) -> None:
    """Copy files to S3, objects from S3, or from S3 to S3.

    A trailing slash means the whole tree; - is stdin or stdout, for one object. A copy that is
    stopped goes on when it is typed again, or by s3engine resume.

    SIZE is bytes, or has a unit: 8MiB, 10MB. DURATION is seconds, or 15m, 12h. Every option can
    stand in the environment: S3ENGINE_PART_SIZE. It ends with 0 when all is done, 1 where some
    objects failed, 2 for usage, 3 without credentials, 4 when it was stopped on the way.
    """
    one = options_of_one(flags)
    is_copy = all(end.startswith("s3://") for end in (*sources, target))
    if not is_copy:
        refuse_copy_flags(flags)
    if is_stream(sources, target):
        copy_stream(sources, target, one, flags)
        return
    manifest = plan(
        sources,
        target,
        recursive=recursive,
        follow_symlinks=flags["follow_symlinks"],
        empty_folders=flags["empty_folders"],
    )
    if is_copy:
        one = replace(one, version_id=None)  # that of the source, see ``copying``
    session = Session(flags)
    if flags["no_overwrite"]:
        session.progress.skips = frozenset({ObjectExists.code})

    invocation = ctx.find_root().ensure_object(Invocation)

    async def run() -> Report:
        async with (
            copying(session, flags, is_copy=is_copy) as keywords,
            _journal(session, invocation, sources, target, flags) as journal,
        ):
            return await session.engine.run(manifest, options=one, journal=journal, **keywords)

    report = session.run(run)
    session.progress.finish()
    failed = [row.error for row in report.failed if row.error.code not in session.progress.skips]
    skipped = len(report.failed) - len(failed)
    if flags["as_json"]:
        print_json(
            {
                "v": 1,
                "event": "summary",
                "run": session.progress.run_id,
                "objects": report.objects,
                "bytes": report.bytes,
                "verified": report.verified,
                "resumed": report.resumed,
                "skipped": skipped,
                "failed": len(failed),
                "seconds": round(report.seconds, 6),
            }
        )
    if failed:
        _print_reasons(failed)
        invocation.tell_how_to_go_on()
        ctx.exit(_status(failed, report, invocation))
    if not report.objects and not skipped:
        # A prefix with a typing error looks like an empty one; a script must notice.
        click.echo(f"nothing to copy: no object or file in {' '.join(sources)}", err=True)
        ctx.exit(1)


@asynccontextmanager
async def _journal(
    session: Session,
    invocation: Invocation,
    sources: tuple[str, ...],
    target: str,
    flags: dict[str, Any],
) -> AsyncIterator[Journal | None]:
    """The journal of the copy, unless none is wanted; what it goes on with is told."""
    if flags["no_resume"]:
        yield None
        return
    identity = identity_of_copy(sources, target, session.engine.s3_endpoint, flags)
    async with invocation.journal(session.engine, identity) as journal:
        session.invocation = invocation
        if journal is not None:
            session.progress.run_id = journal.run_id
            if journal.before is not None and not flags["quiet"]:
                tell_resumed(journal, journal.before, as_json=flags["as_json"])
        yield journal


def _status(failed: list[EngineError], report: Report, invocation: Invocation) -> int:
    """The exit code where objects failed."""
    from engine.transfer.resume import outlives

    if not report.objects and {error.exit_code for error in failed} == {3}:
        return 3  # nothing moved, and permission was the only reason
    if invocation.go_on and all(outlives(error) for error in failed):
        return 4
    return 1


def _print_reasons(errors: list[EngineError]) -> None:
    """One error of each code in full; the failed objects have been named one by one already."""
    by_code: dict[str, list[EngineError]] = {}
    for error in errors:
        by_code.setdefault(error.code, []).append(error)
    for same in by_code.values():
        if len(same) > 1:
            same[0].add_note(f"{len(same) - 1} more failed with this code")
        print_error(same[0])


def plan(sources: tuple[str, ...], target: str, *, recursive: bool, **of_trees: bool) -> Manifest:
    """What to move; everything that can be checked is checked here, before a byte moves.

    Args:
        of_trees: What ``Tree`` is told of folders that go up.

    Raises:
        UsageError: The two sides do not fit together, or a source does not exist.
    """
    remote = [source.startswith("s3://") for source in sources]
    if target.startswith("s3://"):
        if all(remote):
            return _plan_copy(sources, target, recursive=recursive)
        if any(remote):
            raise UsageError("some sources are at S3 and some are not", fix="Copy them apart")
        return _plan_upload(sources, target, of_trees, recursive=recursive)
    if not all(remote):
        raise UsageError(
            f"neither {sources[0]} nor {target} is an S3 URL",
            fix="Write one side as s3://bucket/key",
        )
    return _plan_download(sources, target, recursive=recursive)


def _plan_upload(
    sources: tuple[str, ...], target: str, of_trees: Mapping[str, bool], *, recursive: bool
) -> Manifest:
    prefix = S3Url.parse(target)
    paths = [path for source in sources for path in _expand(source)]
    into = len(paths) > 1 or not prefix.key or prefix.key.endswith("/")
    trees, entries = [], []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            if not recursive and not text.endswith("/"):
                raise UsageError(f"{text} is a folder", fix=f"Write {text}/ for all that is in it")
            trees.append(Tree("upload", path, prefix, None, **of_trees))
        elif path.is_file():
            url = prefix.join(path.name) if into else prefix
            entries.append(ManifestEntry("upload", path, url, path.stat().st_size))
        else:
            raise UsageError(f"no such file: {text}")
    _refuse_twins([str(entry.url) for entry in entries])
    return Manifest(trees, entries)


def _plan_download(sources: tuple[str, ...], target: str, *, recursive: bool) -> Manifest:
    urls = [S3Url.parse(source) for source in sources]
    folder = Path(target)
    into = len(urls) > 1 or target.endswith("/") or folder.is_dir()
    trees, entries = [], []
    for url in urls:
        if recursive or not url.key or url.key.endswith("/"):
            if folder.is_file():
                raise UsageError(f"{target} is a file; a tree needs a folder")
            trees.append(Tree("download", folder, _as_prefix(url)))
        else:
            name = url.key.rsplit("/", 1)[-1]
            if into and name in ("", ".", ".."):
                raise UsageError(f"{url} has no name for a file", fix="Name the file to write")
            entries.append(ManifestEntry("download", folder / name if into else folder, url))
    _refuse_twins([str(entry.path) for entry in entries])
    return Manifest(trees, entries)


def _plan_copy(sources: tuple[str, ...], target: str, *, recursive: bool) -> Manifest:
    urls, prefix = [S3Url.parse(source) for source in sources], S3Url.parse(target)
    into = len(urls) > 1 or not prefix.key or prefix.key.endswith("/")
    trees, entries = [], []
    for url in urls:
        if recursive or not url.key or url.key.endswith("/"):
            trees.append(Tree("copy", Path(), prefix, _as_prefix(url)))
        else:
            name = url.key.rsplit("/", 1)[-1]
            target_url = prefix.join(name) if into else prefix
            entries.append(ManifestEntry("copy", Path(), target_url, source=url))
    _refuse_twins([str(entry.url) for entry in entries])
    return Manifest(trees, entries)


def _as_prefix(url: S3Url) -> S3Url:
    return url if not url.key or url.key.endswith("/") else S3Url(url.bucket, url.key + "/")


def _expand(source: str) -> list[str]:
    """The files of a pattern that the shell has left alone; a name that exists is itself."""
    if Path(source).exists() or not any(mark in source for mark in "*?["):
        return [source]
    found = sorted(path for path in glob.glob(source, recursive=True) if Path(path).is_file())
    if not found:
        raise UsageError(f"nothing matches {source}")
    return found


def _refuse_twins(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(
                f"two sources would both become {name}", fix="Copy them apart, or as a tree"
            )
        seen.add(name)
