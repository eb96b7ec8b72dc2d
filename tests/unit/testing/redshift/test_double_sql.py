"""Redshift's lexical rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.testing.redshift import sql
from engine.testing.redshift.sql import Kind

# Pieces that a tokenizer can stumble over, in any order.
PIECES = st.sampled_from(
    [
        "'",
        "''",
        "\\",
        '"',
        ";",
        "--",
        "\n",
        "/*",
        "*/",
        "$$",
        "$a$",
        "$1",
        "E'",
        "select",
        "1.5",
        "ü",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join)


@given(TEXTS)
def test_tokens_and_pieces_lose_nothing(text: str) -> None:
    assert "".join(t.text for t in sql.tokenize(text)) == text
    assert ";".join(sql.split(text)) == text


@given(st.text().filter(lambda s: "\0" not in s))
def test_literals_and_names_round_trip(text: str) -> None:
    (literal,) = sql.tokenize(sql.quote_literal(text))
    assert literal.kind is Kind.STRING
    assert sql.string_value(literal.text) == text
    (name,) = sql.tokenize(sql.quote_name(text))
    assert name.kind is Kind.QUOTED
    assert sql.name_value(name) == sql.fold(text)


@given(st.text(), st.text(alphabet="a;'\\-/*$", max_size=8))
def test_a_quoted_literal_never_ends_early(value: str, after: str) -> None:
    assert len(sql.split(f"select {sql.quote_literal(value)}")) == 1
    assert sql.split(f"select {sql.quote_literal(value)};x")[1] == "x"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("select 1; select 2;", 2),
        ("select ';'; select \"a;b\"", 2),
        (r"select 'x\'; y'; select 2", 2),
        ("select 1 -- ; not here\n; select 2", 2),
        ("/* a /* nested ; */ ; */ select 1; select 2", 2),
        ("do $x$ begin; $$;$$ end; $x$; select 2", 2),
        ("  ; -- nothing\n;", 0),
        ("select 'open; select 2", 1),
    ],
)
def test_statements(text: str, count: int) -> None:
    assert len(sql.statements(text)) == count


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("'a''b'", "a'b"),
        (r"'a\'b'", "a'b"),
        (r"'a\\b'", "a\\b"),
        (r"'\t\n'", "\t\n"),
        (r"'\101'", "A"),
        (r"E'\x'", "x"),
    ],
)
def test_escapes(literal: str, value: str) -> None:
    assert sql.string_value(literal) == value
