"""Moving many objects: what to move, how many at once, what came of it."""

from engine.batch.manifest import Manifest, ManifestEntry
from engine.batch.report import Failure, Report
from engine.batch.runner import run_batch

__all__ = ["Failure", "Manifest", "ManifestEntry", "Report", "run_batch"]
