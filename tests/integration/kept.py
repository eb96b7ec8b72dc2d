"""A journal in memory, and what a test looks at after a run that stopped half-way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import anyio
from msgspec import structs

from engine import RetryPolicy, TransferConfig
from engine.protocols import ObjectJournal
from engine.records import DownloadRecord, KeptRange, UploadIntent, UploadRecord
from engine.transfer import TransferContext
from engine.transfer.temporaries import Temporaries
from engine.types import MiB, OpenUpload, PartReceipt, S3Url, UploadId
from tests.integration.conftest import Scene

PART = 5 * MiB
PARTS = 4
SIZE = PARTS * PART - 3
ONCE = RetryPolicy(max_attempts=2, base_delay=0.01, max_delay=0.02)


class Died(BaseException):
    """The process is gone."""


@dataclass
class Rows:
    """What would be on disk."""

    intents: list[UploadIntent] = field(default_factory=list)
    upload: UploadRecord | None = None
    parts: dict[int, PartReceipt] = field(default_factory=dict)
    download: DownloadRecord | None = None
    ranges: list[KeptRange] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    theirs: frozenset[UploadId] = frozenset()

    @property
    def open(self) -> bool:
        return bool(self.intents or self.upload or self.download)


@final
class MemoryJournal(ObjectJournal):
    """Of one object; a new one over the same rows is what a new process sees.

    Args:
        hook: Called before each write, by its name: it may raise.
    """

    def __init__(
        self,
        rows: Rows,
        intent: UploadIntent | None = None,
        hook: Callable[[str], Any] = lambda name: None,
    ) -> None:
        self._rows, self._intent, self._hook = rows, intent, hook
        self.upload = rows.upload
        self.parts: Mapping[int, PartReceipt] = dict(rows.parts)
        self.intents: Sequence[UploadIntent] = list(rows.intents)
        self.download = rows.download
        self.ranges: Sequence[KeptRange] = list(rows.ranges)

    def _write(self, name: str) -> Rows:
        self._hook(name)
        self._rows.said.append(name)
        return self._rows

    async def upload_creating(self) -> None:
        rows = self._write("creating")
        if self._intent is not None:
            rows.intents.append(self._intent)

    async def upload_begun(self, record: UploadRecord) -> None:
        rows = self._write("begun")
        rows.upload, rows.parts = record, {}
        rows.intents.clear()

    async def part_done(self, receipt: PartReceipt) -> None:
        self._write("part").parts[receipt.number] = receipt

    async def download_begun(self, record: DownloadRecord) -> None:
        rows = self._write("begun")
        rows.download, rows.ranges = record, []

    async def range_done(self, kept: KeptRange) -> None:
        self._write("range").ranges.append(kept)

    async def of_others(self, uploads: Sequence[OpenUpload]) -> frozenset[UploadId]:
        return self._rows.theirs & {one.upload_id for one in uploads}

    async def ended(self) -> None:
        rows = self._write("ended")
        rows.upload = rows.download = None
        rows.parts, rows.ranges = {}, []
        rows.intents.clear()


@dataclass(kw_only=True)
class Kept(ABC):
    """One object on its way, over any number of processes.

    Attributes:
        step: What the journal calls a piece of it that is there.
    """

    step: ClassVar[str]

    scene: Scene
    url: S3Url
    config: TransferConfig
    rows: Rows = field(default_factory=Rows)

    @asynccontextmanager
    async def process(self, **journal: Any) -> AsyncIterator[TransferContext]:
        async with self.scene.engine(config=self.config, retry=ONCE) as s3:
            self.begin()
            yield structs.replace(
                s3._ready().context,
                journal=MemoryJournal(self.rows, **journal),
                temporaries=Temporaries("run", s3.run_id),
            )

    def begin(self) -> None:
        """A new process: what was seen of the one before is forgotten."""
        self.rows.said.clear()
        self.scene.events.clear()

    @abstractmethod
    async def run(self, **journal: Any) -> None:
        """A process that moves the object, with a journal made so; to its end, unless it is
        stopped."""

    async def stop_after(self, pieces: int) -> None:
        """A process that is stopped when so many pieces are there."""
        with anyio.CancelScope() as scope:

            def hook(said: str) -> None:
                if self.rows.said.count(self.step) == pieces - 1 and said == self.step:
                    scope.cancel()

            await self.run(hook=hook)
        assert scope.cancelled_caught

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.scene.events if isinstance(event, kind)]
