"""Report: what came of a manifest. Its failures are a manifest again."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.batch.manifest import Manifest, ManifestEntry
from engine.errors import EngineError
from engine.types import TransferResult


@dataclass(frozen=True, slots=True)
class Failure:
    """An entry that was not moved, and why."""

    entry: ManifestEntry
    error: EngineError


Outcome = TransferResult | Failure
"""What became of one entry."""


@dataclass(slots=True)
class Report:
    """Counts of what was moved, and everything that was not.

    Attributes:
        objects: Objects that are whole at their destination.
        bytes: Their bytes.
        verified: How many of them were compared, by this process, with a checksum that S3 stores.
        resumed: How many of them an earlier process of the run had moved.
        failed: One row an entry that was not moved; nothing of it is visible.
        seconds: Wall time.
    """

    objects: int = 0
    bytes: int = 0
    verified: int = 0
    resumed: int = 0
    failed: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one entry."""
        if isinstance(outcome, Failure):
            self.failed.append(outcome)
            return
        self.objects += 1
        self.bytes += outcome.size
        self.verified += outcome.verified
        self.resumed += outcome.resumed

    def failures(self) -> Manifest:
        """The entries that were not moved, to be run again."""
        return Manifest(entries=[failure.entry for failure in self.failed])
