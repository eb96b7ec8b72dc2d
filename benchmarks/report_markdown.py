"""What a comparison found, as Markdown for a repository. PURE.

What lives here: the page. What must not: arithmetic (``report_compare``, ``bars``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import bars

_COLUMNS = ("CPU", "wall", "VmHWM", "goodput")


def page(conditions: Mapping[str, Any], standings: Sequence[bars.Standing]) -> str:
    """Conditions, then a table of the marks: a row for each job and mode of the peers' checksums.

    A figure is the best peer / s3engine, and which peer that was; bold where the bar is missed.
    """
    columns = [
        name for name in _COLUMNS if any(m.what == name for line in standings for m in line.marks)
    ]
    head = ("job", "peers' checksums", *columns)
    rows = [head, ("---",) * len(head), *(_row(line, columns) for line in standings)]
    facts = [f"- {name}: {value}" for name, value in conditions.items() if _is_fact(name, value)]
    versions = ", ".join(f"{n} {v}" for n, v in conditions.get("versions", {}).items())
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*facts, f"- clients: {versions}", "", *table, ""])


def _is_fact(name: str, value: Any) -> bool:
    return not isinstance(value, dict) and name != "kind"


def _row(line: bars.Standing, columns: Sequence[str]) -> tuple[str, ...]:
    marks = {mark.what: mark for mark in line.marks}
    return (line.job, line.peers, *(_cell(marks.get(name)) for name in columns))


def _cell(mark: bars.Mark | None) -> str:
    if mark is None:
        return ""
    bar = f" (bar {mark.bar})" if mark.bar and mark.what == "CPU" else ""
    return f"**{mark.figure}**{bar}" if mark.met is False else mark.figure + bar
