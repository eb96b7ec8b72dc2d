"""``python -m tests.rules``: run the rules' tests and print rule, tests, result.

``--document`` prints ``docs/http-rules.md`` instead.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.rules.table import HERE, RULES, document, number_of


class Results:
    """Counts what came of each rule's tests."""

    def __init__(self) -> None:
        self.passed: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        number = number_of(report.nodeid)
        if number is None or (report.when != "call" and report.passed):
            return
        counter = self.passed if report.passed else self.failed
        counter[number] += 1


def main() -> int:
    if sys.argv[1:] == ["--document"]:
        sys.stdout.write(document())
        return 0
    results = Results()
    code = pytest.main(["-q", "--no-header", str(HERE), *sys.argv[1:]], plugins=[results])
    print("| | Rule | Tests | Result |\n|---|---|---|---|")
    for number, rule in RULES.items():
        passed, failed = results.passed[number], results.failed[number]
        result = "failed" if failed else "kept" if passed else "not tested"
        print(f"| {number} | {rule} | {passed + failed} | {result} |")
    kept = sum(results.passed[n] > 0 and not results.failed[n] for n in RULES)
    print(f"{kept} of {len(RULES)} rules kept")
    return int(code) or int(kept < len(RULES))


if __name__ == "__main__":
    sys.exit(main())
