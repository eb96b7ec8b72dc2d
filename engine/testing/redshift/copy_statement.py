"""The grammar of COPY as far as the double knows it.

What lives here: text in, ``CopyStatement`` out, or an error. What must not: S3, rows, the
database. https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from engine.errors import UsageError
from engine.testing.redshift import sql
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.sql import Kind, Token
from engine.testing.redshift.statements import OWN_WORDING
from engine.types import Credentials, S3Url

MAX_ERRORS_LIMIT = 100_000
_SYNTAX = "42601"


@dataclass(frozen=True, slots=True)
class CopyStatement:
    """One COPY.

    Attributes:
        schema: "" where the search path decides.
        columns: The column list, or () for all columns.
        source: The ``s3://`` URL behind FROM.
        role: The string behind IAM_ROLE (``default`` for the word), "" in key mode.
        keys: The keys of key mode, None in role mode.
        max_error: COPY fails when so many rows are refused; 0 and 1 mean the first.
        time_format: "" for the default ``YYYY-MM-DD HH:MI:SS``, or ``auto``, or a format.
        public_text: The statement with its secrets masked.
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    source: str
    public_text: str
    role: str = ""
    keys: Credentials | None = field(default=None, repr=False)
    csv: bool = False
    manifest: bool = False
    gzip: bool = False
    quote: str = '"'
    delimiter: str = ","
    ignore_header: int = 0
    null_as: str = "\\N"
    empty_as_null: bool = False
    blanks_as_null: bool = False
    max_error: int = 0
    region: str = ""
    time_format: str = ""
    date_format: str = ""
    truncate_columns: bool = False
    accept_invalid: str = ""
    no_load: bool = False

    @property
    def auth(self) -> str:
        """``role`` or ``keys``."""
        return "role" if self.role else "keys"


def parse_copy(text: str) -> CopyStatement:
    """Read a COPY statement.

    Raises:
        ServerError: The text is not a COPY that the double knows; the message says whether the
            wording is the double's own.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = sql.significant(sql.tokenize(text))
        self._at = 0
        self._values: dict[str, object] = {}
        self._key_parts: dict[str, str] = {}
        self._secrets: list[Token] = []
        self._auths: set[str] = set()

    def parse(self) -> CopyStatement:
        self._expect("copy")
        names = [self._name()]
        while self._take("."):
            names.append(self._name())
        if len(names) > 2:
            raise _refused("COPY into another database is not supported")
        columns: list[str] = []
        if self._take("("):
            columns.append(self._name())
            while self._take(","):
                columns.append(self._name())
            self._expect(")")
        self._expect("from")
        source = self._string()
        while self._at < len(self._tokens):
            self._option()
        self._check(source)
        return CopyStatement(
            schema=names[0] if len(names) == 2 else "",
            table=names[-1],
            columns=tuple(columns),
            source=source,
            public_text=self._public_text(),
            **self._values,  # type: ignore[arg-type]  # checked by _OPTIONS and in the tests
        )

    def _option(self) -> None:
        token = self._next()
        option = _OPTIONS.get(token.word)
        if option is None and token.kind is Kind.WORD:
            raise _refused(f'option "{token.word}" is not known or not built')
        if option is None:
            raise _syntax_error(token)
        name, read = option
        if name == "auth":
            read(self)
            return
        if name in self._values:
            raise _refused(f'conflicting or redundant option "{token.word}"')
        value = read(self)
        if name:
            self._values[name] = value

    def _check(self, source: str) -> None:
        try:
            S3Url.parse(source)
        except UsageError as error:
            raise _refused(error.headline) from None
        if len(self._auths) != 1:
            raise ServerError(
                f"exactly one of IAM_ROLE, CREDENTIALS or the access keys must be given, "
                f"found {', '.join(sorted(self._auths)) or 'none'} {OWN_WORDING}",
                _SYNTAX,
            )
        if "role" not in self._values:
            self._values["keys"] = self._keys()
        if "csv" not in self._values:
            raise _refused("only FORMAT CSV is built")
        if "manifest" not in self._values:
            raise _refused("only COPY with MANIFEST is built")

    def _keys(self) -> Credentials:
        missing = {"id", "secret"} - set(self._key_parts)
        if missing:
            raise _refused("ACCESS_KEY_ID and SECRET_ACCESS_KEY belong together")
        return Credentials(
            self._key_parts["id"], self._key_parts["secret"], self._key_parts.get("token")
        )

    def _public_text(self) -> str:
        return sql.replace(self._text, [(t.start, t.end, "'***'") for t in self._secrets]).strip()

    # One reader for each option; each returns the value that CopyStatement gets.

    def read_flag(self) -> bool:
        return True

    def read_format(self) -> bool:
        self._take("as")
        token = self._next()
        if token.word != "csv":
            raise _refused(f"FORMAT {token.text} is not built")
        return True

    def read_text(self) -> str:
        self._take("as")
        return self._string()

    def read_character(self) -> str:
        value = self.read_text()
        if len(value) != 1:
            raise _refused(f"{value!r} is not one character")
        return value

    def read_invalid_character(self) -> str:
        if self._peek() and (self._peek_word() == "as" or self._peek_kind() is Kind.STRING):
            return self.read_character()
        return "?"

    def read_number(self) -> int:
        self._take("as")
        token = self._next()
        text = sql.string_value(token.text) if token.kind is Kind.STRING else token.text
        if not text.isdigit():
            raise _syntax_error(token)
        return int(text)

    def read_max_error(self) -> int:
        value = self.read_number()
        if value > MAX_ERRORS_LIMIT:
            raise _refused(f"MAXERROR {value} is over {MAX_ERRORS_LIMIT}")
        return value

    def read_switch(self) -> bool:
        if self._peek_word() in ("on", "off", "true", "false", "preset"):
            self._next()
        return True

    def read_role(self) -> None:
        self._only_once("IAM_ROLE")
        if self._take("default"):
            self._values["role"] = "default"
        else:
            self._values["role"] = self._string()

    def read_credentials(self) -> None:
        self._take("as")
        self._only_once("CREDENTIALS")
        parts = dict(re.findall(r"([a-z_]+)=([^;]*)", self._secret()))
        if "aws_iam_role" in parts:
            self._values["role"] = parts["aws_iam_role"]
        names = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "token": "token"}
        self._key_parts.update({names[k]: v for k, v in parts.items() if k in names})

    def read_with(self) -> None:
        self._expect("credentials")
        self.read_credentials()

    def read_key_id(self) -> None:
        self._key("id")

    def read_secret(self) -> None:
        self._key("secret")

    def read_token(self) -> None:
        self._key("token")

    def _only_once(self, auth: str) -> None:
        if auth in self._auths:
            raise _refused(f"{auth} is given twice")
        self._auths.add(auth)

    def _key(self, part: str) -> None:
        self._take("as")
        if part in self._key_parts:
            raise _refused("a part of the access keys is given twice")
        self._auths.add("ACCESS_KEY_ID")
        self._key_parts[part] = self._secret()

    # The cursor.

    def _next(self) -> Token:
        if self._at >= len(self._tokens):
            raise ServerError("syntax error at end of input", _SYNTAX)
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _peek_word(self) -> str:
        token = self._peek()
        return token.word if token else ""

    def _peek_kind(self) -> Kind | None:
        token = self._peek()
        return token.kind if token else None

    def _take(self, text: str) -> bool:
        token = self._peek()
        if token is not None and text in (token.word, token.text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        token = self._next()
        if text not in (token.word, token.text):
            raise _syntax_error(token)

    def _name(self) -> str:
        token = self._next()
        if token.kind not in (Kind.WORD, Kind.QUOTED):
            raise _syntax_error(token)
        return sql.name_value(token)

    def _string(self) -> str:
        token = self._next()
        if token.kind is not Kind.STRING:
            raise _syntax_error(token)
        return sql.string_value(token.text)

    def _secret(self) -> str:
        value = self._string()
        self._secrets.append(self._tokens[self._at - 1])
        return value


# Word -> (field of CopyStatement, reader). An empty field: taken, checked, of no effect here.
_OPTIONS: dict[str, tuple[str, Callable[[_Parser], object]]] = {
    "iam_role": ("auth", _Parser.read_role),
    "credentials": ("auth", _Parser.read_credentials),
    "with": ("auth", _Parser.read_with),
    "access_key_id": ("auth", _Parser.read_key_id),
    "secret_access_key": ("auth", _Parser.read_secret),
    "session_token": ("auth", _Parser.read_token),
    "token": ("auth", _Parser.read_token),
    "csv": ("csv", _Parser.read_flag),
    "format": ("csv", _Parser.read_format),
    "manifest": ("manifest", _Parser.read_flag),
    "gzip": ("gzip", _Parser.read_flag),
    "quote": ("quote", _Parser.read_character),
    "delimiter": ("delimiter", _Parser.read_character),
    "ignoreheader": ("ignore_header", _Parser.read_number),
    "null": ("null_as", _Parser.read_text),
    "emptyasnull": ("empty_as_null", _Parser.read_flag),
    "blanksasnull": ("blanks_as_null", _Parser.read_flag),
    "maxerror": ("max_error", _Parser.read_max_error),
    "region": ("region", _Parser.read_text),
    "timeformat": ("time_format", _Parser.read_text),
    "dateformat": ("date_format", _Parser.read_text),
    "truncatecolumns": ("truncate_columns", _Parser.read_flag),
    "acceptinvchars": ("accept_invalid", _Parser.read_invalid_character),
    "noload": ("no_load", _Parser.read_flag),
    "statupdate": ("", _Parser.read_switch),
    "compupdate": ("", _Parser.read_switch),
}
assert {name for name, _ in _OPTIONS.values()} <= {f.name for f in fields(CopyStatement)} | {
    "auth",
    "",
}


def _refused(reason: str) -> ServerError:
    return ServerError(f"{reason} {OWN_WORDING}", "0A000")


def _syntax_error(token: Token) -> ServerError:
    # A literal may be a secret that stands in a wrong place.
    near = "'***'" if token.kind in (Kind.STRING, Kind.OPEN) else token.text
    return ServerError(f'syntax error at or near "{near}"', _SYNTAX)
