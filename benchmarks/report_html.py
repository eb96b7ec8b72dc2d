"""One HTML page of a comparison: conditions, ratios, a plot a measure. PURE, no dependency.

What lives here: the page. What must not: arithmetic, which ``report_compare`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.plots import Bar, bars
from benchmarks.report_compare import OURS, Ratio, Runs, spreads

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;
color:#1a1a1a;background:#fff}
h2{margin-top:2.2em;border-top:1px solid #ddd;padding-top:.8em}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .8em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
svg{display:inline-block;max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#333}
.tick{fill:#777}.grid{stroke:#e4e4e4}.ours{fill:#0b6e99}.peer{fill:#b8bec5}
.range{stroke:#111;fill:none}.over{color:#b00020}
"""
_UNITS = {"cpu": ("CPU", 1.0, "s"), "wall": ("Wall time", 1.0, "s"), "rss": ("VmHWM", 2**20, "MiB")}

Row = tuple[str, Runs, Mapping[str, str], Mapping[str, Any]]


def page(conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The whole page.

    Args:
        rows: Of each cell its title, runs, notes and summary.
    """
    body = [
        "<h1>s3engine beside its peers</h1>",
        "<p>Clients alternate, each in a fresh process against an origin on loopback. Bars are "
        "medians, whiskers the range of all rounds. Where the ranges of two clients overlap, no "
        "winner is named.</p>",
        _conditions(conditions),
        _overview(rows),
        *(_cell(*row) for row in rows),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<title>s3engine beside its peers</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _conditions(facts: Mapping[str, Any]) -> str:
    plain = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if not isinstance(value, dict) and name != "kind"
    )
    clients = "".join(
        f"<tr><th>{escape(name)} {escape(facts['versions'][name])}</th><td>{escape(text)}</td></tr>"
        for name, text in facts.get("verifies", {}).items()
    )
    return (
        f"<h2>Conditions</h2><table>{plain}</table>"
        f"<h2>What each client verifies</h2><table>{clients}</table>"
    )


def _overview(rows: Sequence[Row]) -> str:
    lines = []
    for title, _, _, found in rows:
        cells = "".join(f"<td>{_ratio(found.get(measure))}</td>" for measure in _UNITS)
        origin = found.get("origin")
        share = "-"
        if origin:
            share = f"{origin['share']:.2f} of {escape(origin['leanest'])}"
            if not origin["holds"]:
                share = f'<span class="over">{share}, over {origin["limit"]}</span>'
        lines.append(f"<tr><td>{escape(title)}</td>{cells}<td>{share}</td></tr>")
    heads = "".join(f"<th>{name}</th>" for name, _, _ in _UNITS.values())
    return (
        "<h2>Best peer / s3engine</h2><table>"
        f"<tr><th></th>{heads}<th>origin's CPU</th></tr>{''.join(lines)}</table>"
    )


def _ratio(found: Ratio | None) -> str:
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
        parts.append(bars(rows, unit))
    missing = [f"{name}: {why}" for name, why in notes.items() if not runs.get(name)]
    if missing:
        parts.append(f"<p>{escape('; '.join(missing))}</p>")
    return "".join(parts)
