"""One HTML page of a comparison: conditions, ratios, a plot a measure. PURE, no dependency.

What lives here: the page. What must not: arithmetic, which ``report_compare`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks import bars
from benchmarks.report_compare import OURS, Against, Runs, spreads
from engine.bench.page import document, facts_table, rows_table
from engine.bench.plots import Bar
from engine.bench.plots import bars as plot

_UNITS = {"cpu": ("CPU", 1.0, "s"), "wall": ("Wall time", 1.0, "s"), "rss": ("VmHWM", 2**20, "MiB")}

Row = tuple[str, Runs, Mapping[str, str], Mapping[str, Any]]


def page(
    conditions: Mapping[str, Any], rows: Sequence[Row], standings: Sequence[bars.Standing] = ()
) -> str:
    """The whole page.

    Args:
        rows: Of each cell its title, runs, notes and summary.
        standings: Against the bars.
    """
    plain = {n: v for n, v in conditions.items() if not isinstance(v, dict) and n != "kind"}
    versions = conditions.get("versions", {})
    verifies = {f"{n} {versions[n]}": v for n, v in conditions.get("verifies", {}).items()}
    body = [
        "<p>Clients alternate, each in a fresh process against an origin on loopback. Bars are "
        "medians, whiskers the range of all rounds. Where the ranges of two clients overlap, no "
        "winner is named.</p>",
        "<h2>Conditions</h2>",
        facts_table(plain),
        "<h2>What each client verifies</h2>",
        facts_table(verifies),
        "<h2>Best peer / s3engine</h2>",
        rows_table(
            ["", *(name for name, _, _ in _UNITS.values()), "origin's CPU"],
            [_overview_row(row[0], row[3]) for row in rows],
        ),
        f"<h2>{escape(bars.HEAD.capitalize())}</h2>",
        rows_table(["", "peers' checksums", ""], bars.html_rows(standings)),
        *(_cell(*row) for row in rows),
    ]
    return document("s3engine beside its peers", body)


def _overview_row(title: str, found: Mapping[str, Any]) -> list[str]:
    share = "-"
    if origin := found.get("origin"):
        share = f"{origin['share']:.2f} of {escape(origin['leanest'])}"
        if not origin["holds"]:
            share = f'<span class="over">{share}, over {origin["limit"]}</span>'
    return [escape(title), *(_ratio(found.get(measure)) for measure in _UNITS), share]


def _ratio(found: Against | None) -> str:
    if found is None:
        return "-"
    return (
        f"<b>{found.median:.2f}</b> [{found.least:.2f}..{found.most:.2f}] {escape(found.peer)}"
        f"<br>{escape(found.verdict)}"
    )


def _cell(title: str, runs: Runs, notes: Mapping[str, str], _: Mapping[str, Any]) -> str:
    parts = [f"<h2>{escape(title)}</h2>"]
    for measure, (name, divisor, unit) in _UNITS.items():
        by_client = spreads(runs, measure)
        if not by_client:
            continue
        parts.append(f"<h3>{name}</h3>")
        rows = [
            Bar(
                client,
                spread.median / divisor,
                spread.least / divisor,
                spread.most / divisor,
                client in OURS,
            )
            for client, spread in by_client.items()
        ]
        parts.append(plot(rows, unit))
    missing = [f"{name}: {why}" for name, why in notes.items() if not runs.get(name)]
    if missing:
        parts.append(f"<p>{escape('; '.join(missing))}</p>")
    return "".join(parts)
