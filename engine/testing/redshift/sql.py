"""Redshift's lexical rules: tokens, statements, literals and names.

What lives here: text in, tokens out, without looking at what the statement means. What must not:
sockets, or knowledge of COPY (``statements.py``).

Redshift keeps the rules of PostgreSQL 8.0: a backslash escapes inside every string literal, so
``'a\\'b'`` is one literal. Comments nest, and dollar quotes hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a token is."""

    SPACE = "space"
    COMMENT = "comment"
    WORD = "word"
    QUOTED = "quoted name"
    STRING = "string"
    DOLLAR = "dollar quote"
    NUMBER = "number"
    MARK = "mark"
    OPEN = "unterminated"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text, from ``start`` up to ``start + len(text)``."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset behind the token, in characters."""
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """The word in lower case; "" for what is not an unquoted word."""
        return self.text.lower() if self.kind is Kind.WORD else ""


_TOKEN = re.compile(
    r"""
    (?P<SPACE>\s+)
  | (?P<COMMENT>--[^\n]*)
  | (?P<STRING>[eE]?'(?:[^'\\]|''|\\.)*')
  | (?P<QUOTED>"(?:[^"]|"")*")
  | (?P<WORD>[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*)
  | (?P<NUMBER>\d+(?:\.\d+)?|\$\d+)
  | (?P<OPEN>[eE]?'|")
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_DOLLAR = re.compile(r"\$(?:[A-Za-z_][A-Za-z_0-9]*)?\$")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"''|\\([0-7]{1,3}|.)", re.DOTALL)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def tokenize(text: str) -> list[Token]:
    """All tokens of ``text``; their texts joined are the text again."""
    tokens = []
    at = 0
    while at < len(text):
        token = _next_token(text, at)
        tokens.append(token)
        at = token.end
    return tokens


def significant(tokens: Sequence[Token]) -> list[Token]:
    """The tokens that are neither blanks nor comments."""
    return [t for t in tokens if t.kind not in (Kind.SPACE, Kind.COMMENT)]


def split(text: str) -> list[str]:
    """The pieces between top-level semicolons; joined by ``;`` they are the text again."""
    pieces = []
    start = 0
    for token in tokenize(text):
        if token.kind is Kind.MARK and token.text == ";":
            pieces.append(text[start : token.start])
            start = token.end
    pieces.append(text[start:])
    return pieces


def statements(text: str) -> list[str]:
    """The pieces of ``split`` that hold more than blanks and comments."""
    return [piece for piece in split(text) if significant(tokenize(piece))]


def string_value(literal: str) -> str:
    """The value of a string literal as it stands in SQL, quotes and escapes taken off."""
    body = literal[literal.index("'") + 1 : -1]
    return _ESCAPE.sub(_unescape, body)


def name_value(token: Token) -> str:
    """The name that a word or quoted name means; Redshift folds both to lower case."""
    if token.kind is Kind.QUOTED:
        return fold(token.text[1:-1].replace('""', '"'))
    return fold(token.text)


def fold(name: str) -> str:
    """``name`` with its ASCII letters in lower case, which is all that Redshift folds."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


def quote_literal(value: str) -> str:
    """``value`` as a string literal: quotes and backslashes doubled."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """``name`` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def without_literals(text: str) -> str:
    """``text`` with every string literal masked: for what was not understood."""
    tokens = tokenize(text)
    literals = (Kind.STRING, Kind.OPEN, Kind.DOLLAR)
    return "".join("'***'" if t.kind in literals else t.text for t in tokens)


def replace(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    """``text`` with the stretches ``(start, end, replacement)`` replaced; they may not overlap."""
    out = []
    at = 0
    for start, end, replacement in sorted(edits):
        out.append(text[at:start])
        out.append(replacement)
        at = end
    out.append(text[at:])
    return "".join(out)


def _next_token(text: str, at: int) -> Token:
    if text.startswith("/*", at):
        return _block_comment(text, at)
    dollar = _DOLLAR.match(text, at)
    if dollar:
        end = text.find(dollar[0], dollar.end())
        if end < 0:
            return Token(Kind.OPEN, text[at:], at)
        return Token(Kind.DOLLAR, text[at : end + len(dollar[0])], at)
    match = _TOKEN.match(text, at)
    if match is None or match.lastgroup is None:
        return Token(Kind.MARK, text[at], at)
    if match.lastgroup == "OPEN":
        return Token(Kind.OPEN, text[at:], at)
    return Token(Kind[match.lastgroup], match[0], at)


def _block_comment(text: str, at: int) -> Token:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return Token(Kind.COMMENT, text[at : edge.end()], at)
    return Token(Kind.OPEN, text[at:], at)


def _unescape(match: re.Match[str]) -> str:
    escaped: str | None = match[1]
    if escaped is None:
        return "'"
    if escaped.isdigit() and escaped[0] in "01234567":
        return chr(int(escaped, 8) & 0xFF)
    return _CONTROL.get(escaped, escaped)
