"""A stage, a lease and an executor that do what a test says, for ends the double cannot produce."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import anyio
import anyio.lowlevel

from engine.errors import CredentialsExpired, DatabaseError
from engine.protocols import Executor, Lease
from engine.redshift.copy_manifest import StagedFile
from engine.redshift.request import Stage
from engine.types import Credentials, S3Url

Rows = list[tuple[str | None, ...]]


@final
class MemoryStage(Stage):
    """Keeps objects in a mapping; ``before_return`` runs once the files are there."""

    def __init__(self, before_return: Callable[[], None] = lambda: None) -> None:
        self.objects: dict[S3Url, bytes] = {}
        self.before_return = before_return
        self.sweep_error: Exception | None = None

    async def put_files(self, files: Sequence[tuple[Path, S3Url]]) -> Sequence[StagedFile]:
        for path, url in files:
            self.objects[url] = path.read_bytes()
        self.before_return()
        return [StagedFile(url, len(self.objects[url]), '"e"') for _, url in reversed(files)]

    async def put_bytes(self, url: S3Url, data: bytes) -> None:
        self.objects[url] = data

    async def sweep(self, urls: Sequence[S3Url]) -> None:
        await anyio.lowlevel.checkpoint()
        if self.sweep_error is not None:
            raise self.sweep_error
        for url in urls:
            del self.objects[url]


@final
class FixedLease(Lease):
    """Keys with a fixed time to live, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.keys = Credentials("ASIAIOSFODNN7EXAMPLE", "CANARY" + "s" * 34, "CANARYtoken")

    async def ready(self) -> Credentials:
        return self.keys

    async def at_least(self, seconds: float) -> Credentials:
        if seconds > self.seconds:
            raise CredentialsExpired(f"no set lives {seconds} s")
        return self.keys

    def remaining(self, credentials: Credentials) -> float:
        return self.seconds

    def age(self, credentials: Credentials) -> float:
        return float("inf")

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        """Nothing to remember."""

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        return False

    def report_expired(self, credentials: Credentials) -> None:
        raise AssertionError("nothing expired")


@final
class ScriptedExecutor(Executor):
    """Answers as Redshift does after one COPY.

    Attributes:
        rows: What ``pg_last_copy_count`` says after COPY.
        files: Rows of ``stl_load_commits``: name, lines scanned.
        refused: Rows of ``stl_load_errors`` as ``rejected_rows`` asks for them.
        fail: First word of a statement to the error it raises.
        hold: First words of statements that never answer.
        hidden: Views that this user may not read.
        copies: Whether COPY gets a query id; one that is refused at once gets none.
    """

    def __init__(self, rows: int = 0, files: Rows | None = None) -> None:
        self.rows = rows
        self.files = files or []
        self.refused: Rows = []
        self.fail: dict[str, Exception] = {}
        self.hold: set[str] = set()
        self.hidden: tuple[str, ...] = ()
        self.copies = True
        self.seen: list[str] = []
        self.public: list[str | None] = []
        self.closed = False
        self.copy_id = 17

    @property
    def words(self) -> list[str]:
        """First words of the statements, queries left out."""
        return [word for word in (sql.split()[0] for sql in self.seen) if word != "select"]

    async def execute(self, sql: str, public_sql: str | None = None) -> None:
        self.seen.append(sql)
        self.public.append(public_sql)
        word = sql.split()[0]
        if word == "COPY" and self.copies:
            self.copy_id += 1
        if word in self.hold:
            await anyio.sleep_forever()
        if word in self.fail:
            raise self.fail[word]
        await anyio.lowlevel.checkpoint()

    async def fetch_strings(self, sql: str) -> Rows:
        self.seen.append(sql)
        await anyio.lowlevel.checkpoint()
        if any(view in sql for view in self.hidden):
            raise DatabaseError("permission denied for relation", sqlstate="42501")
        if "pg_last_copy_id" in sql:
            return [(str(self.copy_id), str(self.rows))]
        if "= -1" in sql:
            return []
        assert f"= {self.copy_id}" in sql
        if "count(*)" in sql:
            return [(str(len(self.refused)),)]
        return self.refused if "error" in sql else self.files

    async def aclose(self) -> None:
        self.closed = True


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def touch(path: Path) -> None:
    """Another modification time, the same bytes."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
