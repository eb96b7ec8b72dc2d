"""What s3engine has set itself to reach beside its peers, and whether runs reach it. PURE.

What lives here: the bars, and the comparison with them. What must not: a figure that was measured.

A job is compared as s3engine comes, with its CRC64NVME computed, sent and verified: with the best
peer that has its checksums on, and with the best that has them off. Cells that differ only in
checksums take turns round by round, so both are ratios of runs that alternated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.peers.plan import Cell, Sizes
from benchmarks.report_compare import (
    BASE,
    Against,
    Link,
    Runs,
    best_peer,
    origin_busy,
    ratio,
    spreads,
)
from engine.bench.statistics import Spread

# CPU of the best peer / ours, by the job and the transport.
CPU_BARS = {
    ("up-tmpfs", "http"): 2.0,
    ("up-disk", "http"): 2.0,
    ("up-tmpfs", "https"): 1.25,
    ("up-disk", "https"): 1.25,
    ("down-tmpfs", "http"): 1.35,
    ("down-disk", "http"): 2.5,
    ("down-tmpfs", "https"): 0.95,
    ("down-disk", "https"): 0.95,
    ("small-up", "http"): 1.7,
    ("small-up", "https"): 1.5,
    ("small-down", "http"): 1.7,
    ("small-down", "https"): 1.3,
    ("list", "http"): 1.8,
    ("list", "https"): 1.8,
}
# Wall of the best peer / ours; reached too where the ranges overlap. At least level on a network.
WALL_BAR, NETWORK_WALL_BAR = 0.95, 1.0
# Of what the connections allow, on a network with round trips and a bandwidth a connection.
GOODPUT_BAR = 0.90
# Peak memory of the main process.
RSS_BAR = 64 * 2**20
# Of the time of its threads that the origin may be at work before it is what is measured.
BUSY_BAR = 0.80
# What the bars are meant for; shorter runs are mostly start-up.
FULL = Sizes(big=2 * 2**30, count=5_000, small=64 * 2**10, keys=100_000)
# s3engine as it comes.
_OURS = ("on", "default")


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure beside its bar.

    Attributes:
        figure: What was reached, in words, and by whom the other side was.
        met: None where the bar says nothing of it.
    """

    what: str
    bar: str
    figure: str
    met: bool | None

    def __str__(self) -> str:
        verdict = {None: "", True: ": met", False: ": NOT MET"}[self.met]
        return f"{self.what} {self.figure}{f' (bar {self.bar})' if self.bar else ''}{verdict}"


@dataclass(frozen=True, slots=True)
class Standing:
    """One job against the peers of one mode of checksums."""

    job: str
    peers: str
    marks: tuple[Mark, ...]

    def fields(self) -> dict[str, Any]:
        marks = [
            {"what": m.what, "bar": m.bar, "figure": m.figure, "met": m.met} for m in self.marks
        ]
        return {"job": self.job, "peers_checksums": self.peers, "marks": marks}


def standings(
    groups: Sequence[Sequence[Cell]], runs_of: Mapping[Cell, Runs], threads: int
) -> list[Standing]:
    """Of each group of cells that differ only in checksums, a line a mode."""
    found = []
    for group in groups:
        by_mode = {cell.checksums: runs_of.get(cell, {}) for cell in group}
        ours = next((by_mode[m].get(BASE) for m in _OURS if by_mode.get(m, {}).get(BASE)), None)
        if not ours:
            continue
        cell = group[0]
        for mode, runs in by_mode.items():
            mixed = {**{n: r for n, r in runs.items() if n != BASE}, BASE: ours}
            marks = _marks(cell, mixed, threads)
            found.append(Standing(cell.title_without_checksums(), mode, tuple(marks)))
    return found


def _marks(cell: Cell, runs: Runs, threads: int) -> list[Mark]:
    network = bool(cell.rtt_ms or cell.bandwidth)
    marks = []
    cpu = _against(runs, "cpu")
    if cpu is not None:
        bar = None if network else CPU_BARS[cell.work, cell.transport]
        met = None if bar is None or _alone(cpu) else cpu.median >= bar
        marks.append(Mark("CPU", f"{bar:g}" if bar else "", _figure(cpu), met))
    wall = _against(runs, "wall")
    if wall is not None:
        least = NETWORK_WALL_BAR if network else WALL_BAR
        reached = wall.median >= least or wall.verdict == "tie"
        marks.append(Mark("wall", f"{least:g}", _figure(wall), None if _alone(wall) else reached))
    ours = runs[BASE]
    if network and cell.bandwidth:
        link = Link(cell.rtt_ms / 1000, cell.bandwidth)
        share = Spread.of([link.share(run, cell.moved()) for run in ours]).median
        marks.append(Mark("goodput", f"{GOODPUT_BAR:g}", f"{share:.2f}", share >= GOODPUT_BAR))
    rss = Spread.of([float(run["rss"]) for run in ours]).median
    figure = f"{rss / 2**20:.0f} MiB"
    marks.append(Mark("VmHWM", f"{RSS_BAR >> 20} MiB", figure, rss <= RSS_BAR))
    if network:
        name, busy = origin_busy(runs, threads)
        marks.append(
            Mark("origin busy", f"<= {BUSY_BAR:g}", f"{busy:.2f} {name}", busy <= BUSY_BAR)
        )
    return marks


def _alone(found: Against) -> bool:
    """One round has no range: it reaches nothing, and fails nothing."""
    return found.verdict == "no verdict"


def _figure(found: Against) -> str:
    word = {"tie": " tie", "no verdict": ", one round"}.get(found.verdict, "")
    return f"{found.median:.2f} {found.peer}{word}"


def _against(runs: Runs, measure: str) -> Against | None:
    by_client = spreads(runs, measure)
    best = best_peer(by_client)
    return ratio(by_client[BASE], by_client[best], best) if best is not None else None


HEAD = "against the bars: best peer / s3engine as it comes (its checksums on)"


def caution(cells: Sequence[Cell]) -> str:
    """What to think of the bars where jobs are not of the sizes that they are meant for."""
    if all(cell.sizes == FULL for cell in cells):
        return ""
    return "the bars are meant for 2 GiB, 5,000 x 64 KiB and 100,000 keys, not for these sizes"


def text(found: Sequence[Standing]) -> str:
    """For the terminal."""
    lines, job = [HEAD], ""
    for line in found:
        if line.job != job:
            lines.append(job := line.job)
        marks = "; ".join(str(mark) for mark in line.marks)
        lines.append(f"  peers' checksums {line.peers}: {marks}")
    return "\n".join(lines)


def html_rows(found: Sequence[Standing]) -> list[list[str]]:
    """Job, mode of the peers, and the marks, as HTML; what is not met stands out."""
    rows = []
    for line in found:
        marks = [
            f'<span class="over">{escape(str(mark))}</span>'
            if mark.met is False
            else escape(str(mark))
            for mark in line.marks
        ]
        rows.append([escape(line.job), escape(line.peers), "<br>".join(marks)])
    return rows
