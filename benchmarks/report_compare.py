"""What the runs of a comparison say: medians, ranges, ratios, verdicts. PURE.

What lives here: arithmetic and the text of the tables. What must not: a winner where two ranges
overlap, or from a single round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.bench.statistics import Ratio, Spread, quotient

BASE = "s3engine"
OURS = ("s3engine", "s3engine-cp")
MEASURES = ("cpu", "wall", "rss")
# What costs a round trip, as the origin counts it.
REQUESTS = (
    "put_object",
    "upload_part",
    "get",
    "head",
    "list",
    "create",
    "complete",
    "continue",
)
# The origin's CPU / the leanest client's, above which the origin is what is measured.
ORIGIN_LIMITS = {"http": 0.5, "https": 0.7}

ALLOWED = (
    "the time that requests and bytes need on a connection, over the time that connections were\n"
    "in use, each from when it was set up to its last answer; the rest was waiting, or CPU."
)

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Against:
    """A peer's use / ours: of the medians, and the least and most that the ranges allow."""

    peer: str
    median: float
    least: float
    most: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.least:.2f}..{self.most:.2f}] {self.verdict}"


def ratio(ours: Spread, peer: Spread, name: str) -> Against:
    """Above 1 means that we used less. The verdict names who used less, or nobody."""
    found = Ratio.of(ours, peer)
    verdict = {"above": BASE, "below": name}.get(found.standing, found.standing)
    return Against(name, found.median, found.least, found.most, verdict)


def spreads(runs: Runs, measure: str) -> dict[str, Spread]:
    """By client; one without a finished run is left out."""
    return {
        name: Spread.of([float(run[measure]) for run in own]) for name, own in runs.items() if own
    }


def best_peer(by_client: Mapping[str, Spread]) -> str | None:
    """The client that is not ours with the least median."""
    others = [name for name in by_client if name not in OURS]
    return min(others, key=lambda name: by_client[name].median) if others else None


def summary(runs: Runs, transport: str) -> dict[str, Any]:
    """One cell as values: each measure against its best peer, and the origin's share."""
    result: dict[str, Any] = {}
    for measure in MEASURES:
        by_client = spreads(runs, measure)
        best = best_peer(by_client)
        if best is None or BASE not in by_client:
            continue
        result[measure] = ratio(by_client[BASE], by_client[best], best)
    shares = origin_shares(runs)
    if shares:
        name = min(shares, key=lambda client: _cpu(runs, client))
        result["origin"] = {
            "leanest": name,
            "share": shares[name],
            "limit": ORIGIN_LIMITS[transport],
            "holds": shares[name] <= ORIGIN_LIMITS[transport],
        }
    return result


def origin_shares(runs: Runs) -> dict[str, float]:
    """The origin's CPU / the client's, medians."""
    origin, client = spreads(runs, "origin_cpu"), spreads(runs, "cpu")
    return {name: quotient(origin[name].median, client[name].median) for name in client}


def _cpu(runs: Runs, name: str) -> float:
    return spreads(runs, "cpu")[name].median


def summed_share(own: Sequence[Mapping[str, Any]]) -> str:
    """How much of what was sent came with a checksum that the origin found right."""
    looked = [run["origin"] for run in own if run["checked"]]
    sent = sum(seen["bytes_in"] for seen in looked)
    summed = sum(seen["bytes_summed"] for seen in looked)
    return f"{100 * summed / sent:.0f} %" if sent else "-"


@dataclass(frozen=True, slots=True)
class Link:
    """What a slowed connection allows: seconds a request, bytes per second (0: no limit)."""

    rtt: float = 0.0
    bandwidth: int = 0

    def share(self, run: Mapping[str, Any], moved: int) -> float:
        """How much of what its connections allow a run used; 1 is all of it.

        The time that its requests and bytes need on a connection, over the time that all its
        connections together were in use: each from when it was set up (a round trip for TCP, one
        for TLS) to its last answer. What a start takes, and how soon there are how many, is seen
        in the wall time.
        """
        seen = run["origin"]
        needed = self.rtt * sum(seen[name] for name in REQUESTS)
        if self.bandwidth:
            needed += moved / self.bandwidth
        return float(needed / max(seen["in_use_us"] / 1e6, needed))


def origin_busy(runs: Runs, threads: int) -> tuple[str, float]:
    """The client under which the origin was busiest, and the share of its threads' time."""
    shares = {
        name: Spread.of([run["origin_cpu"] / run["wall"] / threads for run in own]).median
        for name, own in runs.items()
        if own
    }
    name = max(shares, key=lambda client: shares[client])
    return name, shares[name]


def table(
    title: str,
    runs: Runs,
    notes: Mapping[str, str],
    *,
    moved: int = 0,
    link: Link | None = None,
) -> str:
    """One cell: a row a client.

    Args:
        notes: Of clients that have no runs: why.
        moved: Bytes of one run.
        link: Where connections are slowed: two more columns, how many connections were opened
            and how much of what they allow was used.
    """
    lines = [
        title,
        f"  {'client':<16} {'n':>2}  {'CPU s':>6} {'[min..max]':<14}{'x ours':>7}"
        f"  {'wall s':>6} {'[min..max]':<14}{'x ours':>7}  {'VmHWM MiB':>9}"
        f"  {'origin CPU':>10}  {'summed':>6}{'  conns  of allowed' if link else ''}",
    ]
    by = {measure: spreads(runs, measure) for measure in MEASURES}
    shares = origin_shares(runs)
    for name, own in runs.items():
        if not own:
            continue
        line = f"  {name:<16} {by['cpu'][name].rounds:>2}"
        for measure in ("cpu", "wall"):
            line += f"  {_figures(by[measure][name])}{_times(by[measure], name):>7}"
        line += f"  {by['rss'][name].median / 2**20:>9.1f}  {shares[name]:>10.2f}"
        line += f"  {summed_share(own):>6}"
        if link:
            opened = Spread.of([run["origin"]["connections"] for run in own]).median
            share = Spread.of([link.share(run, moved) for run in own]).median
            line += f"  {opened:>5.0f}  {share:>10.2f}"
        lines.append(line)
    lines += [f"  {name:<16} {why}" for name, why in notes.items() if not runs.get(name)]
    return "\n".join(lines)


def _figures(spread: Spread) -> str:
    extent = f"[{spread.least:.2f}..{spread.most:.2f}]"
    return f"{spread.median:>6.2f} {extent:<14}"


def _times(by_client: Mapping[str, Spread], name: str) -> str:
    if BASE not in by_client:
        return "-"
    return f"{quotient(by_client[name].median, by_client[BASE].median):.2f}"


def overview(cells: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """All cells: best peer / ours with the ranges, and whether the origin was lean enough."""
    width = max((len(title) for title, _ in cells), default=0) + 2
    head = f"{'best peer / s3engine':<{width}}{'CPU':<50}{'wall':<50}{'VmHWM':<22}origin CPU"
    lines = [head]
    for title, found in cells:
        cells_of = [_against(found.get(measure)) for measure in ("cpu", "wall")]
        rss = found.get("rss")
        memory = f"{rss.median:.2f} {rss.peer}" if rss else "-"
        origin = found.get("origin")
        share = ""
        if origin:
            mark = "" if origin["holds"] else f" OVER {origin['limit']}: the origin is measured"
            share = f"{origin['share']:.2f}{mark}"
        lines.append(f"{title:<{width}}{cells_of[0]:<50}{cells_of[1]:<50}{memory:<22}{share}")
    return "\n".join(lines)


def _against(found: Against | None) -> str:
    if found is None:
        return "-"
    who = {"tie": "tie", "no verdict": "no verdict", BASE: "s3engine less"}.get(
        found.verdict, "peer less"
    )
    return f"{found.median:.2f} [{found.least:.2f}..{found.most:.2f}] {found.peer}: {who}"
