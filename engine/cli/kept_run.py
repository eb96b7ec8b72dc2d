"""The journal of a command: which it is, what is said of it, and how to go on from it.

What must not live here: what a journal keeps (``engine.batch.journal``), what is copied.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from engine.cli.output import print_json, size_text
from engine.errors import CredentialsError, EngineError, JournalError, UsageError

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.batch.journal import Before, Journal

# Flags that decide what is stored: who asks for other ones does other work. Whose credentials it
# is done by, and how fast, is no part of it.
_OF_THE_WORK = (
    "recursive", "storage_class", "content_type", "no_guess_mime_type", "content_encoding",
    "content_language", "content_disposition", "cache_control", "expires", "metadata", "tag",
    "preserve_mtime", "sse", "sse_kms_key_id", "sse_kms_context", "bucket_key", "sse_c_key_file",
    "expected_bucket_owner", "request_payer", "no_overwrite", "if_none_match", "if_match",
    "version_id", "raw_encrypted", "through", "no_tags", "source_endpoint_url",
    "source_bucket_owner", "source_sse_c_key_file", "follow_symlinks", "empty_folders",
)  # fmt: skip


@dataclass
class Invocation:
    """One command line, from its arguments to its exit code.

    Attributes:
        arguments: After ``s3engine``.
        resumes: The run that the command must be of, where it is resumed by its id.
    """

    arguments: Sequence[str] = ()
    resumes: str = ""
    _journal: Journal | None = field(default=None, init=False)
    _left_out: Sequence[str] = field(default=(), init=False)

    @property
    def go_on(self) -> str:
        """The command that goes on; empty where nothing was kept."""
        if self._journal is None or not self._journal.kept:
            return ""
        again = "".join(f" {name} ..." for name in self._left_out)
        return f"s3engine resume {self._journal.run_id}{again}"

    def tell_how_to_go_on(self) -> None:
        """One line for people, if there is something to go on with."""
        if self.go_on:
            click.echo(f"go on with: {self.go_on}", err=True)

    def status_of(self, error: EngineError) -> int:
        """The exit code of a command that ``error`` ends: 4 where it can be gone on with once
        there are credentials again."""
        if self.go_on and isinstance(error, CredentialsError):
            return 4
        return error.exit_code

    @asynccontextmanager
    async def journal(self, engine: Engine, identity: str) -> AsyncIterator[Journal | None]:
        """The journal of what the command does; None where none can be kept here, which is told.

        Raises:
            RunInUse: Another process does the same work.
            JournalDamaged, JournalVersion: It cannot be gone on with.
            UsageError: The run that is to be resumed is another one.
        """
        from engine.cli.kept_command import without_secrets

        command, self._left_out = without_secrets(self.arguments)
        async with AsyncExitStack() as stack:
            journal: Journal | None = None
            try:
                journal = await stack.enter_async_context(
                    engine.open_journal(identity=identity, command=command, left_out=self._left_out)
                )
            except (JournalError, UsageError) as error:
                if type(error) not in (JournalError, UsageError):
                    raise
                click.echo(
                    f"warning[{error.code}]: {error.headline}; if this stops, it starts from the "
                    "beginning (--no-resume says so beforehand)",
                    err=True,
                )
            if self.resumes and (journal is None or journal.run_id != self.resumes):
                raise UsageError(
                    f"the command of run {self.resumes} means something else by now",
                    fix="Set the environment as it was: endpoint, AWS_PROFILE, S3ENGINE_*",
                )
            self._journal = journal
            yield journal


def identity_of_copy(
    sources: Sequence[str], target: str, endpoint: str | None, flags: Mapping[str, Any]
) -> str:
    """What moves where, and as what."""
    import json

    ends = [_absolute(end) for end in (*sources, target)]
    asked = {name: str(flags[name]) for name in _OF_THE_WORK if flags.get(name)}
    return json.dumps(["cp", 1, ends, endpoint or "aws", sorted(asked.items())])


def _absolute(end: str) -> str:
    """A trailing slash has a meaning."""
    if end.startswith("s3://"):
        return end
    return os.path.abspath(end) + ("/" if end.endswith("/") else "")


def tell_resumed(journal: Journal, before: Before, *, as_json: bool) -> None:
    """That an earlier process is gone on with, and what it left."""
    last = before.last
    if as_json:
        print_json(
            {
                "v": 1,
                "event": "resumed",
                "run": journal.run_id,
                "objects": before.objects,
                "bytes": before.bytes,
                "half_way": before.half_way,
                "sessions": before.sessions,
            }
        )
        return
    at = f" at {before.seen_at:%Y-%m-%dT%H:%M:%SZ}" if before.seen_at is not None else ""
    if last is not None and last.ended_at is None:
        how = f"stopped without a goodbye{at} (process {last.pid} on {last.host} is gone)"
    elif last is not None and last.outcome == "failed":
        how = f"ended with failures{at}"
    else:
        how = f"stopped{at}"
    click.echo(
        f"resuming {journal.run_id}: {how}\n"
        f"  {before.objects} objects done ({size_text(before.bytes)}), {before.half_way} half-way",
        err=True,
    )
