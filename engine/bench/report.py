"""What a benchmark found: the table, the document, the page. PURE.

What lives here: arithmetic over runs, and their forms. What must not: a winner where two ranges
overlap, or a figure whose conditions are not beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.bench.bench import CEILING, JobResult, Measured
from engine.bench.page import document, facts_table, rows_table
from engine.bench.plots import Bar, bars
from engine.bench.statistics import Ratio, Spread, quotient
from engine.bench.tools import OURS
from engine.bench.workload import Work
from engine.types import GiB, KiB, MiB

Rates = Mapping[str, Spread]
# An interpreter with its imports takes a few tenths of a second.
SHORT_SECONDS = 2.0


def amount_text(work: Work) -> str:
    """``10.0 GiB``, or ``40 keys``."""
    if work.verb == "list":
        return f"{len(work.items):,} keys"
    for unit, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if work.bytes >= unit:
            return f"{work.bytes / unit:.1f} {name}"
    return f"{work.bytes} B"


def title(work: Work) -> str:
    """``upload 10.0 GiB in 40 objects``."""
    count = len(work.items)
    plural = "" if count == 1 else "s"
    objects = "" if work.verb == "list" else f" in {count:,} object{plural}"
    memory = " (from and to memory)" if work.in_memory else ""
    return f"{work.verb} {amount_text(work)}{objects}{memory}"


def rates(result: JobResult) -> dict[str, Spread]:
    """Bytes or keys per second of each tool, in the job's unit."""
    return {name: _rate(result.work, runs) for name, runs in result.runs.items()}


def _rate(work: Work, runs: Sequence[Measured]) -> Spread:
    return Spread.of([run.rate / work.scale for run in runs])


def _of(runs: Sequence[Measured], measure: str) -> Spread:
    return Spread.of([float(getattr(run.usage, measure)) for run in runs])


def standing(base: Spread | None, own: Spread) -> str:
    """``1.03 tie``: how many times as fast as s3engine, and whether that says anything."""
    if base is None:
        return "-"
    found = Ratio.of(base, own)
    word = {"tie": " tie", "no verdict": " ?"}.get(found.standing, "")
    return f"{found.median:.2f}{word}"


def table(result: JobResult, versions: Mapping[str, str]) -> str:
    """One job for the terminal: a row a tool, then the ceiling."""
    work, found = result.work, rates(result)
    rounds = max((spread.rounds for spread in found.values()), default=0)
    head = f"{work.verb} {amount_text(work)}"
    lines = [
        f"{head:<22}  {'median ' + work.unit:>14}  {f'range of {rounds}':<17}  "
        f"{'x vs s3engine':<13}  {'CPU s':>7}  peak RSS"
    ]
    base = found.get(OURS)
    for name, spread in found.items():
        runs = result.runs[name]
        own = "1.00" if name == OURS else standing(base, spread)
        who = name if name == OURS else f"{name} {versions.get(name, '')}"
        lines.append(
            f"  {who:<20}  {_figure(spread.median):>14}  "
            f"[{_figure(spread.least):>6} - {_figure(spread.most):>6}]  {own:<13}  "
            f"{_of(runs, 'cpu').median:>7.2f}  {_of(runs, 'rss').median / MiB:.0f} MiB"
        )
    lines += [f"  {name:<20}  {why}" for name, why in result.left_out.items() if name != CEILING]
    if result.ceiling:
        lines.append(_ceiling_line(result, base))
    elif CEILING in result.left_out:
        lines.append(f"ceiling: not measured ({result.left_out[CEILING]})")
    ours = result.runs.get(OURS, ())
    if ours and _of(ours, "wall").median < SHORT_SECONDS:
        lines.append(
            f"note: runs of under {SHORT_SECONDS:g} s are mostly start-up; give more or bigger "
            "objects to see the transfer"
        )
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ceiling_line(result: JobResult, base: Spread | None) -> str:
    top = _rate(result.work, result.ceiling)
    used = f", {100 * quotient(base.median, top.median):.0f} % of it used" if base else ""
    return (
        f"ceiling: raw sockets {_figure(top.median)} {result.work.unit} "
        f"[{_figure(top.least)} - {_figure(top.most)}]{used}"
    )


EXPLAINED = (
    '"tie": the ranges overlap, no winner is claimed. "?": one round says nothing. The ceiling: '
    "bare sockets that send and drop the bytes of the same requests, without files and checksums."
)


def as_document(
    conditions: Mapping[str, Any], results: Sequence[JobResult], missing: Mapping[str, str]
) -> dict[str, Any]:
    """Everything, for a file of JSON.

    Args:
        missing: Tools that were asked for and are not there: why.
    """
    return {
        "v": 1,
        "conditions": dict(conditions),
        "not_installed": dict(missing),
        "jobs": [_job(result) for result in results],
    }


def _job(result: JobResult) -> dict[str, Any]:
    found = rates(result)
    base = found.get(OURS)
    work = result.work
    return {
        "verb": work.verb,
        "objects": len(work.items),
        "bytes": work.bytes,
        "in_memory": work.in_memory,
        "checksum": work.checksum,
        "unit": work.unit,
        "tools": {
            name: {
                "rate": _spread(spread),
                "cpu_seconds": _spread(_of(result.runs[name], "cpu")),
                "peak_rss_bytes": _spread(_of(result.runs[name], "rss")),
                "vs_s3engine": _ratio(base, spread) if name != OURS else None,
                "runs": [run_fields(run) for run in result.runs[name]],
            }
            for name, spread in found.items()
        },
        "ceiling": {
            "rate": _spread(_rate(work, result.ceiling)),
            "runs": [run_fields(run) for run in result.ceiling],
        }
        if result.ceiling
        else None,
        "left_out": dict(result.left_out),
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "min": spread.least, "max": spread.most}


def _ratio(base: Spread | None, own: Spread) -> dict[str, Any] | None:
    if base is None:
        return None
    found = Ratio.of(base, own)
    return {
        "median": found.median,
        "min": found.least,
        "max": found.most,
        "standing": found.standing,
    }


def run_fields(run: Measured) -> dict[str, Any]:
    """One run, as it stands in the document and in the lines of ``--json``."""
    return {
        "round": run.round + 1,
        "seconds": round(run.usage.wall, 6),
        "cpu_seconds": round(run.usage.cpu, 6),
        "peak_rss_bytes": run.usage.rss,
        "peak_rss_bytes_of_tree": run.usage.rss_tree,
        "amount": run.amount,
    }


def page(
    conditions: Mapping[str, Any], results: Sequence[JobResult], missing: Mapping[str, str]
) -> str:
    """One HTML file that needs nothing else."""
    plain = {name: value for name, value in conditions.items() if not isinstance(value, dict)}
    versions = conditions.get("versions", {})
    verifies = {
        f"{name} {versions.get(name, '')}": text
        for name, text in conditions.get("verifies", {}).items()
    }
    body = [
        "<p>Rounds take turns, each run in a fresh process. Bars are medians, whiskers the range "
        "of all rounds. Where two ranges overlap, no winner is claimed.</p>",
        *(_section(result, versions) for result in results),
        "<h2>Conditions</h2>",
        facts_table(plain),
        "<h2>What each tool verifies</h2>",
        facts_table(verifies),
    ]
    if missing:
        body += ["<h2>Not installed</h2>", facts_table(missing)]
    return document("s3engine bench", body)


def _section(result: JobResult, versions: Mapping[str, str]) -> str:
    work, found = result.work, rates(result)
    base = found.get(OURS)
    rows = [
        [
            escape(f"{name} {versions.get(name, '')}"),
            f"<b>{_figure(spread.median)}</b>",
            f"{_figure(spread.least)} - {_figure(spread.most)}",
            "1.00" if name == OURS else escape(standing(base, spread)),
            str(spread.rounds),
        ]
        for name, spread in found.items()
    ]
    heads = ["", f"median {work.unit}", "range", "x vs s3engine", "rounds"]
    parts = [f"<h2>{escape(title(work))}</h2>", rows_table(heads, rows)]
    shown = {**found, **({CEILING: _rate(work, result.ceiling)} if result.ceiling else {})}
    parts += [f"<h3>{escape(work.unit)}</h3>", bars(_bars(shown), work.unit)]
    for measure, name, scale, unit in (("cpu", "CPU", 1.0, "s"), ("rss", "Peak RSS", MiB, "MiB")):
        spreads = {tool: _of(runs, measure) for tool, runs in result.runs.items()}
        parts += [f"<h3>{name}</h3>", bars(_bars(spreads, scale), unit)]
    if result.ceiling:
        parts.append(f"<p>{escape(_ceiling_line(result, base))}</p>")
    if result.left_out:
        parts += ["<h3>Left out</h3>", facts_table(result.left_out)]
    return "".join(parts)


def _bars(spreads: Rates, scale: float = 1.0) -> list[Bar]:
    return [
        Bar(name, s.median / scale, s.least / scale, s.most / scale, name == OURS)
        for name, s in spreads.items()
    ]
