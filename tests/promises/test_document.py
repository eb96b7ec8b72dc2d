"""No promise without a test, and the document is what the table says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.promises.table import PROMISES, ROOT, document, missing


def test_every_promise_has_tests_and_each_is_written() -> None:
    assert sorted(PROMISES) == list(range(1, 23))
    assert [number for number, promise in PROMISES.items() if not promise.tests] == []
    assert list(missing()) == []


@pytest.mark.prove
def test_every_named_test_is_collected() -> None:
    """By pytest itself, which does not take every function of that name."""
    nodes = {node for promise in PROMISES.values() for node in promise.tests}
    files = sorted({f"tests/{node.partition('::')[0]}" for node in nodes})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stdout.splitlines() if "::" in line]
    collected = {line.removeprefix("tests/").partition("[")[0] for line in lines}
    assert nodes - collected == set(), done.stderr


def test_the_document_is_up_to_date() -> None:
    path = ROOT / "docs" / "promises.md"
    assert path.read_text() == document(), "python -m tests.promises --document > docs/promises.md"
