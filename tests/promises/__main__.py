"""``python -m tests.promises``: run the promises' tests and print what came of each.

``--long`` adds the long proofs; ``--document`` prints ``docs/promises.md`` instead.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.promises.table import PROMISES, ROOT, Promise, document


class Results:
    """Counts what came of each test function, and those that were left for later."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.later: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A skipped test shows nothing: it counts neither way.
        if not report.failed and (report.when != "call" or report.skipped):
            return
        counter = self.failed if report.failed else self.passed
        counter[_function(report.nodeid)] += 1

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.later.update(_function(item.nodeid) for item in items)

    def of(self, promise: Promise) -> tuple[int, int, int]:
        """How many passed, failed (or never ran though they are named), and are for later."""
        passed = failed = later = 0
        for node in promise.tests:
            passed += self.passed[node]
            later += self.later[node]
            seen = self.passed[node] or self.failed[node] or self.later[node]
            failed += self.failed[node] + (not seen)
        return passed, failed, later


def _function(nodeid: str) -> str:
    return nodeid.removeprefix("tests/").partition("[")[0]


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["--document"]:
        sys.stdout.write(document())
        return 0
    select = [] if "--long" in arguments else ["-m", "not prove"]
    more = [argument for argument in arguments if argument != "--long"]
    nodes = dict.fromkeys(node for promise in PROMISES.values() for node in promise.tests)
    paths = [f"tests/{node}" for node in nodes]
    results = Results()
    command = ["-q", "--no-header", f"--rootdir={ROOT}", *select, *more, *paths]
    code = pytest.main(command, plugins=[results])
    print("| | Promise | Figure | Tests | Result |\n|---|---|---|---|---|")
    kept = 0
    for number, promise in PROMISES.items():
        passed, failed, later = results.of(promise)
        result = "failed" if failed else "not tested" if not passed else "kept"
        if result == "kept" and promise.open:
            result = f"not yet: {promise.open}"
        kept += result == "kept"
        count = f"{passed + failed}" + (f" ({later} long ones not run)" if later else "")
        print(f"| {number} | {promise.says} | {promise.figure} | {count} | {result} |")
    print(f"{kept} of {len(PROMISES)} kept")
    return int(code) or int(kept < len(PROMISES))


if __name__ == "__main__":
    sys.exit(main())
