"""The rules by number, and the tests that hold them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
_NAME = re.compile(r"test_rule_([0-9]{2})_")
RULES = {
    1: "A request has exactly one framing header; a body's length is always given, 0 too",
    2: "Nothing that is sent can end its line; a key is encoded once and sent as it is signed",
    3: "The Host that is sent is the Host that is signed; HTTP/1.1 is all that TLS offers",
    4: "Each attempt is signed when it is sent: under the lease, day and clock of that moment",
    5: "A range is pinned by If-Match, and both stay outside the signature",
    6: "A big body waits for 100 (Continue) where that pays, a second at most; switchable",
    7: "A connection has one request at a time",
    8: "Any number of interim answers is read over, within a limit; 101 is an error",
    9: "Heads have limits and a strict form; HTTP/1.0 is not kept alive",
    10: "A length is digits, and one; a length beside a transfer coding is an error",
    11: "HEAD, 204 and 304 have no body; an end by closing is none over TLS",
    12: "Chunks are taken apart within limits; blanks before a document are nothing",
    13: "An error behind a 200 is an error: complete, copy, copy of a part",
    14: "A range is exactly the one that was asked for, of the version it is pinned to",
    15: "An end too early is an error; bytes too many, or while idle, cost the connection",
    16: "An early answer stops the body and is heard, before a reset too",
    17: "Close means close; a cancelled, timed-out or doubtful connection is never used again",
    18: "Idle connections rest shortly, the youngest goes first, a dead one is replaced for free",
    19: "Complete is never repeated blindly",
    20: "RequestTimeout asks for a new connection; SlowDown for patience on the same one",
    21: "Every wait has a limit; a redirect is followed to hosts of our own making only",
    22: "What came with the head is kept, never more than the body is moved, and to its place",
    23: "A file that shrinks is named, never padded",
    24: "A file that others cut does not kill the process",
    25: "A buffer is not rewritten before it is flushed",
}


def names_by_rule() -> Mapping[int, list[str]]:
    """The functions of this folder by the number in their names, as ``module::function``."""
    found: dict[int, list[str]] = {number: [] for number in RULES}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = _NAME.match(node.name)
                if match:
                    found[int(match[1])].append(f"{path.stem}::{node.name}")
    return found


def number_of(nodeid: str) -> int | None:
    """The rule that a test is for."""
    match = re.search(r"::test_rule_([0-9]{2})_", nodeid)
    return int(match[1]) if match else None


def document() -> str:
    """``docs/http-rules.md``."""
    lines = [
        "# The 25 rules of the HTTP client",
        "",
        "Each is held by tests in `tests/rules`, against an origin that misbehaves on request,",
        "over http and over TLS. `make rules` runs them and prints the result of each; this table",
        "is written by `python -m tests.rules --document`, and a test compares the two.",
        "",
        "| | Rule | Tests |",
        "|---|---|---|",
    ]
    for number, names in names_by_rule().items():
        tests = "<br>".join(f"`{name}`" for name in names)
        lines.append(f"| {number} | {RULES[number]} | {tests} |")
    return "\n".join(lines) + "\n"
