"""No rule without a test, and the document is what the tests say."""

from __future__ import annotations

from pathlib import Path

from tests.rules.table import RULES, document, names_by_rule


def test_every_rule_has_a_test() -> None:
    assert sorted(RULES) == list(range(1, 26))
    assert [number for number, names in names_by_rule().items() if not names] == []


def test_the_document_is_up_to_date() -> None:
    path = Path(__file__).parents[2] / "docs" / "http-rules.md"
    assert path.read_text() == document(), "python -m tests.rules --document > docs/http-rules.md"
