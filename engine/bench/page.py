"""The frame of a report in HTML: one file that needs nothing else, no script. PURE.

What lives here: the document, its style, tables. What must not: what is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

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
@media print{body{margin:0;max-width:none}h2{break-after:avoid}svg{break-inside:avoid}}
"""


def document(title: str, body: Iterable[str]) -> str:
    """The whole page; ``title`` is escaped, ``body`` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(body)}</body></html>\n"
    )


def facts_table(facts: Mapping[str, object]) -> str:
    """Names and values, escaped."""
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def rows_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A row of heads, then rows of cells. Heads are escaped, cells are HTML."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
