"""What a statement is to Redshift, and its text as PostgreSQL takes it.

What lives here: sorting statements (``Role``) and rewriting words that PostgreSQL does not know.
What must not: running anything, or the grammar of COPY (``copy_statement.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from engine.testing.redshift import sql
from engine.testing.redshift.sql import Kind, Token

OWN_WORDING = "(the wording is the Redshift double's own)"


class Role(Enum):
    """What the proxy does with a statement."""

    PLAIN = auto()
    COPY = auto()
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    TRUNCATE = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the backend gets it.

    Attributes:
        text: The text for PostgreSQL; for COPY the client's own.
        role: How the proxy treats it.
        refusal: For ``Role.REFUSED`` the message of the error.
    """

    text: str
    role: Role = Role.PLAIN
    refusal: str = ""


# Commands of PostgreSQL that Redshift does not have, by their first word. The list is not whole:
# it holds what a client library for PostgreSQL is known to send by habit.
_UNKNOWN_COMMANDS = frozenset(
    {"savepoint", "release", "unlisten", "listen", "notify", "do", "unload", "reindex", "cluster"}
)
_ROLES = {
    "begin": Role.BEGIN,
    "start": Role.BEGIN,
    "commit": Role.COMMIT,
    "end": Role.COMMIT,
    "rollback": Role.ROLLBACK,
    "abort": Role.ROLLBACK,
    "truncate": Role.TRUNCATE,
}
# Settings of Redshift. PostgreSQL takes unknown settings only with a prefix.
_SETTINGS = frozenset(
    {
        "query_group",
        "wlm_query_slot_count",
        "enable_result_cache_for_session",
        "analyze_threshold_percent",
        "describe_field_name_in_uppercase",
        "json_serialization_enable",
    }
)
_SETTING_PREFIX = "redshift."
_SORT_STYLES = frozenset({"compound", "interleaved"})
_MAX_VARCHAR = "65535"


def understand(text: str) -> Statement:
    """Sort and rewrite one statement (no semicolon at its top level)."""
    tokens = sql.significant(sql.tokenize(text))
    if not tokens:
        return Statement(text)
    first = tokens[0].word
    if first == "copy":
        return _understand_copy(text, tokens)
    if first in _UNKNOWN_COMMANDS:
        return Statement(
            text, Role.REFUSED, f'command "{first.upper()}" not supported {OWN_WORDING}'
        )
    if first == "rollback" and any(t.word == "to" for t in tokens):
        return Statement(text, Role.REFUSED, f"savepoints are not supported {OWN_WORDING}")
    edits = [*_folded_names(tokens), *_edits(first, tokens)]
    return Statement(sql.replace(text, edits), _ROLES.get(first, Role.PLAIN))


def _understand_copy(text: str, tokens: Sequence[Token]) -> Statement:
    words = [t.word for t in tokens]
    if "from" in words and words.index("from") + 1 < len(words):
        source = tokens[words.index("from") + 1]
        if source.kind is Kind.STRING:
            return Statement(text, Role.COPY)
    return Statement(text, Role.REFUSED, f"COPY reads only from 's3://...' {OWN_WORDING}")


def _folded_names(tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
    # Redshift folds quoted names too, unless enable_case_sensitive_identifier is on.
    for token in tokens:
        folded = sql.fold(token.text)
        if token.kind is Kind.QUOTED and folded != token.text:
            yield token.start, token.end, folded


def _edits(first: str, tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
    if first in ("set", "reset", "show"):
        for token in tokens[1:3]:
            if token.word in _SETTINGS:
                yield token.start, token.start, _SETTING_PREFIX
    if first in ("create", "alter") and any(t.word == "table" for t in tokens[:4]):
        yield from _table_words(tokens)


def _table_words(tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
    """Cuts DISTSTYLE, DISTKEY, SORTKEY, ENCODE, BACKUP and keys; gives VARCHAR(MAX) a number."""
    at = 0
    while at < len(tokens):
        end = _cut_end(tokens, at)
        if end > at:
            yield tokens[at].start, tokens[end - 1].end, ""
            at = end
            continue
        if tokens[at].word == "max" and at and tokens[at - 1].text == "(":
            yield tokens[at].start, tokens[at].end, _MAX_VARCHAR
        key_end, replacement = _key_end(tokens, at)
        if key_end > at:
            yield tokens[at].start, tokens[key_end - 1].end, replacement
        at = max(key_end, at + 1)


def _key_end(tokens: Sequence[Token], at: int) -> tuple[int, str]:
    """Redshift takes keys and does not enforce them; PostgreSQL must not see them."""
    word = tokens[at].word
    following = tokens[at + 1].word if at + 1 < len(tokens) else ""
    of_table = bool(at) and (
        tokens[at - 1].text in (",", "(") or tokens[at - 2].word == "constraint"
    )
    if (word, following) == ("primary", "key"):
        return _behind_list(tokens, at + 2), "CHECK (true)" if of_table else "NOT NULL"
    if word == "unique" and (not of_table or tokens[at + 1].text == "("):
        return _behind_list(tokens, at + 1), "CHECK (true)" if of_table else ""
    if (word, following) == ("foreign", "key"):
        return _behind_list(tokens, at + 2), "CHECK (true)"
    if word == "references":
        end = at + 2
        while end + 1 < len(tokens) and tokens[end].text == ".":
            end += 2
        return _behind_list(tokens, end), ""
    return at, ""


def _cut_end(tokens: Sequence[Token], at: int) -> int:
    """Index behind the words to cut at ``at``; ``at`` itself where nothing is cut."""
    word = tokens[at].word
    following = tokens[at + 1].word if at + 1 < len(tokens) else ""
    if at and tokens[at - 1].text in ("(", ",") and following not in ("sortkey", "distkey"):
        return at  # a column that is called so
    if word in ("diststyle", "encode", "backup"):
        return min(at + 2, len(tokens))
    if word in _SORT_STYLES and following == "sortkey":
        return _behind_list(tokens, at + 2)
    if word in ("distkey", "sortkey"):
        return at + 2 if following == "auto" else _behind_list(tokens, at + 1)
    return at


def _behind_list(tokens: Sequence[Token], at: int) -> int:
    if at < len(tokens) and tokens[at].text == "(":
        while at < len(tokens) and tokens[at].text != ")":
            at += 1
        return min(at + 1, len(tokens))
    return at
