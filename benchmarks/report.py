"""What runs say: ratios to s3engine, measured alternately, with their spread. PURE.

What lives here: medians, ranges, verdicts, the table. What must not: a verdict where two ranges
overlap, or from a single round. An absolute figure never stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Run
from engine.bench.statistics import Spread

BASE = "s3engine"
MEASURES = ("wall", "cpu", "max_rss")
_TITLES = {"wall": "wall", "cpu": "CPU", "max_rss": "max RSS"}
_UNITS = {"wall": (1.0, "s"), "cpu": (1.0, "s"), "max_rss": (2.0**20, "MiB")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One client against s3engine in one measure; ratios are of the runs of one round each."""

    median: float
    least: float
    most: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.median:5.2f} [{self.least:.2f}..{self.most:.2f}] {self.verdict}"


def compare(base: Sequence[float], other: Sequence[float]) -> Comparison:
    """``other / base``, round by round. Above 1 means that s3engine used less."""
    ratios = [b / a for a, b in zip(base, other, strict=True)]
    return Comparison(median(ratios), min(ratios), max(ratios), _verdict(base, other))


def _verdict(base: Sequence[float], other: Sequence[float]) -> str:
    if len(base) < 2:
        return "no verdict"
    if max(base) < min(other):
        return "s3engine less"
    if max(other) < min(base):
        return "s3engine more"
    return "tie"


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    return Spread.of(values).median


def table(title: str, runs: Mapping[str, Sequence[Run]]) -> str:
    """One job: a row a client, its ratios to s3engine, and what s3engine itself used."""
    head = f"{'client':<15}" + "".join(f"{_TITLES[name]:<36}" for name in MEASURES)
    lines = [title, f"  {head}origin's CPU / client's"]
    for client, own in runs.items():
        cells = [_cell(name, client, runs) for name in MEASURES]
        share = median([run.origin_cpu / run.cpu for run in own])
        lines.append(f"  {client:<15}" + "".join(f"{cell:<36}" for cell in cells) + f"{share:.2f}")
    return "\n".join(lines)


def _cell(measure: str, client: str, runs: Mapping[str, Sequence[Run]]) -> str:
    own = values(runs[client], measure)
    if client != BASE:
        return str(compare(values(runs[BASE], measure), own))
    divisor, unit = _UNITS[measure]
    figures = [value / divisor for value in own]
    return f" 1.00 = {median(figures):.2f} [{min(figures):.2f}..{max(figures):.2f}] {unit}"


def values(runs: Sequence[Run], measure: str) -> list[float]:
    """One measure of all runs, in order of rounds."""
    return [float(getattr(run, measure)) for run in runs]


def summary(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """The table as values, for the JSON file."""
    result: dict[str, dict[str, Any]] = {}
    for client in runs:
        if client == BASE:
            continue
        result[client] = {}
        for measure in MEASURES:
            found = compare(values(runs[BASE], measure), values(runs[client], measure))
            result[client][measure] = {
                "median_ratio": found.median,
                "min_ratio": found.least,
                "max_ratio": found.most,
                "verdict": found.verdict,
            }
    return result
