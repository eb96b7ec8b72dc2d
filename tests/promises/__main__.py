"""``python -m tests.promises``: run the promises' tests and print what came of each.

``--long`` adds the long proofs; ``--document`` prints ``docs/promises.md`` instead.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.promises.table import PROMISES, ROOT, Promise, document


class Results:
    """Counts what came of each test function."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A skipped test shows nothing: it counts neither way.
        if not report.failed and (report.when != "call" or report.skipped):
            return
        counter = self.failed if report.failed else self.passed
        counter[_function(report.nodeid)] += 1

    def of(self, promise: Promise, *, long: bool) -> tuple[int, int, int]:
        """How many passed, failed, and are for ``--long``: a test that is named and never ran."""
        passed = sum(self.passed[node] for node in promise.tests)
        failed = sum(self.failed[node] for node in promise.tests)
        silent = sum(not self.passed[node] + self.failed[node] for node in promise.tests)
        return (passed, failed + silent, 0) if long else (passed, failed, silent)


def _function(nodeid: str) -> str:
    return nodeid.removeprefix("tests/").partition("[")[0]


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["--document"]:
        sys.stdout.write(document())
        return 0
    long = "--long" in arguments
    select = [] if long else ["-m", "not prove"]
    more = [argument for argument in arguments if argument != "--long"]
    nodes = dict.fromkeys(node for promise in PROMISES.values() for node in promise.tests)
    paths = [f"tests/{node}" for node in nodes]
    results = Results()
    command = ["-q", "--no-header", f"--rootdir={ROOT}", *select, *more, *paths]
    code = pytest.main(command, plugins=[results])
    print("| | Promise | Figure | Tests | Result |\n|---|---|---|---|---|")
    kept = 0
    for number, promise in PROMISES.items():
        passed, failed, later = results.of(promise, long=long)
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
