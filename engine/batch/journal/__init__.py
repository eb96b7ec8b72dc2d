"""What a run has done, in a file, so that it can go on after any death."""

from engine.batch.journal.beginning import Before
from engine.batch.journal.journal import Journal, JournalStatistics
from engine.batch.journal.runs import Run, RunInfo, find_run, list_runs, runs_folder

__all__ = [
    "Before",
    "Journal",
    "JournalStatistics",
    "Run",
    "RunInfo",
    "find_run",
    "list_runs",
    "runs_folder",
]
