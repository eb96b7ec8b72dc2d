"""Moving many objects: what to move, how many at once, what came of it."""

from engine.batch.manifest import Manifest, ManifestEntry
from engine.batch.report import Failure, Outcome, Report
from engine.batch.runner import move_all, run_batch

__all__ = ["Failure", "Manifest", "ManifestEntry", "Outcome", "Report", "move_all", "run_batch"]
