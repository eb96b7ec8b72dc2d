"""The text of COPY, and of what is quoted around it. PURE.

https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html
Rules of this file:
- COPY takes no ``$1``, so text is built; every piece is a quoted identifier, a quoted literal, a
  number, or a keyword of ours. There is no way in for free text.
- Redshift keeps PostgreSQL 8.0's rules for literals: a backslash escapes. Both ``'`` and the
  backslash are doubled, or an S3 key could close the literal.
- Secrets are replaced while the text is built, never by a pattern afterwards.
What must not live here: sending the text.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, final

from engine.errors import LoadRefused
from engine.redact import mask_key_id
from engine.types import Credentials, S3Url

# https://docs.aws.amazon.com/redshift/latest/dg/r_names.html
_MAX_NAME_BYTES = 127
# https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-load.html#copy-maxerror
_MAX_ERRORS = 100_000
# A comma is legal in the name of a role, but it parts the roles of a chain.
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=.@/-]{1,512}")
# https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html
_KEY_ID = re.compile(r"[A-Za-z0-9_]{16,128}")
_SECRET_KEY = re.compile(r"[A-Za-z0-9/+=_.-]{16,128}")
_TOKEN = re.compile(r"[A-Za-z0-9/+=_.:-]{1,16384}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")
_KEYWORD = re.compile(r"[A-Z_]+(?: [A-Z_]+)*")
_TEMPORARY_KEY = "ASIA"

CopyOption = tuple[str, str | int | None]
"""A keyword of COPY with its value: a string is quoted, a number is not, None has no value."""


class CopyFormat(Protocol):
    """What COPY has to know of a format; ``formats.StagingFormat`` is more than that.

    Formats name options and never write SQL, so that all quoting is in this file.
    """

    @abstractmethod
    def copy_options(self, gzip: bool) -> Sequence[CopyOption]:
        """What COPY has to be told about such files."""


@final
@dataclass(frozen=True, slots=True)
class Sql:
    """A statement as it is sent, and as it may be seen. Prints as the latter."""

    text: str = field(repr=False)
    public: str

    def __str__(self) -> str:
        return self.public


@final
@dataclass(frozen=True, slots=True)
class CopyRole:
    """COPY reads with a role of the cluster, which Redshift itself renews while COPY runs.

    Attributes:
        arns: The role attached to the cluster, then the roles of a chain in order; or
            ``"default"`` for the cluster's default role.

    Raises:
        LoadRefused: No role, or not the ARN of a role.
    """

    arns: tuple[str, ...] | Literal["default"]

    def __post_init__(self) -> None:
        if self.arns == "default":
            return
        if not self.arns:
            raise LoadRefused("COPY is given no role", fix="Name a role ARN, or 'default'")
        for arn in self.arns:
            if not _ROLE_ARN.fullmatch(arn):
                raise LoadRefused(
                    f"{arn[:200]!r} is not the ARN of a role",
                    fix="Write it as arn:aws:iam::111122223333:role/name, chains with commas",
                )

    @classmethod
    def parse(cls, text: str) -> CopyRole:
        """Read ``default``, one ARN, or a chain of ARNs parted by commas."""
        if text.strip().lower() == "default":
            return cls("default")
        return cls(tuple(arn.strip() for arn in text.split(",") if arn.strip()))


@final
@dataclass(frozen=True, slots=True)
class CopyKeys:
    """COPY reads with keys, which must live until COPY has ended, or the load is rolled back.

    Raises:
        LoadRefused: Keys that cannot be written into SQL, or temporary ones without a token.
            The message never quotes them.
    """

    credentials: Credentials

    def __post_init__(self) -> None:
        keys = self.credentials
        if not _KEY_ID.fullmatch(keys.access_key_id):
            raise LoadRefused("the access key id for COPY is not one")
        if not _SECRET_KEY.fullmatch(keys.secret_access_key):
            raise LoadRefused("the secret access key for COPY holds characters that none has")
        if keys.session_token is not None and not _TOKEN.fullmatch(keys.session_token):
            raise LoadRefused("the session token for COPY holds characters that none has")
        if keys.access_key_id.startswith(_TEMPORARY_KEY) and keys.session_token is None:
            # Redshift would answer InvalidAccessKeyId, which sends people looking for a typo.
            raise LoadRefused("temporary keys (ASIA...) without their session token")


CopyAuthority = CopyRole | CopyKeys


@final
@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What COPY is told beside the format. None and False leave Redshift's own default.

    Attributes:
        max_errors: MAXERROR, 0..100000. COPY fails when it meets this many bad rows; 0 and 1
            both mean at the first. It may pass over more than were allowed by the time it stops.
        region: Region of the staging bucket where it is not the cluster's own.
        timeformat, dateformat: A format of Redshift, or ``auto``.
        acceptinvchars: The character that replaces invalid UTF-8; None refuses such rows.
        compupdate: ``ON``, ``OFF`` or ``PRESET``.

    Raises:
        LoadRefused: A value that COPY does not take.
    """

    max_errors: int = 0
    region: str | None = None
    timeformat: str | None = None
    dateformat: str | None = None
    emptyasnull: bool = False
    blanksasnull: bool = False
    truncatecolumns: bool = False
    trimblanks: bool = False
    acceptinvchars: str | None = None
    statupdate: bool | None = None
    compupdate: Literal["ON", "OFF", "PRESET"] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_errors <= _MAX_ERRORS:
            raise LoadRefused(f"MAXERROR {self.max_errors} is not 0..{_MAX_ERRORS}")
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise LoadRefused(f"{self.region!r} is not an AWS Region")
        if self.compupdate not in (None, "ON", "OFF", "PRESET"):
            raise LoadRefused(f"COMPUPDATE {self.compupdate!r} is not ON, OFF or PRESET")
        char = self.acceptinvchars
        if char is not None and (len(char) != 1 or not char.isascii() or char == "\0"):
            raise LoadRefused(f"ACCEPTINVCHARS {char!r} is not one ASCII character")

    def copy_options(self) -> Sequence[CopyOption]:
        """The options as keywords with values, in a fixed order."""
        words: list[CopyOption] = []
        valued = (
            ("REGION", self.region),
            ("TIMEFORMAT", self.timeformat),
            ("DATEFORMAT", self.dateformat),
            ("ACCEPTINVCHARS", self.acceptinvchars),
            ("MAXERROR", self.max_errors or None),
        )
        words += [(word, value) for word, value in valued if value is not None]
        flags = (
            ("EMPTYASNULL", self.emptyasnull),
            ("BLANKSASNULL", self.blanksasnull),
            ("TRUNCATECOLUMNS", self.truncatecolumns),
            ("TRIMBLANKS", self.trimblanks),
            (f"COMPUPDATE {self.compupdate}", self.compupdate is not None),
            ("STATUPDATE ON", self.statupdate is True),
            ("STATUPDATE OFF", self.statupdate is False),
        )
        return words + [(word, None) for word, said in flags if said]


@final
@dataclass(frozen=True, slots=True)
class CopyStatement:
    """One COPY from a manifest.

    Attributes:
        table: ``table`` or ``schema.table``, unquoted.
        manifest_url: The manifest at S3.
        authority: With whose rights Redshift reads.
        format: Kind of the files.
        columns: The columns that the files hold, in order; empty means all of the table's.
        gzip: Whether all of them are gzip.
    """

    table: str
    manifest_url: S3Url
    authority: CopyAuthority
    format: CopyFormat
    columns: tuple[str, ...] = ()
    gzip: bool = False
    options: CopyOptions = CopyOptions()

    def build(self) -> Sql:
        """The statement, as sent and as it may be seen.

        Raises:
            LoadRefused: A name or a value that cannot be quoted.
        """
        if not self.manifest_url.key:
            raise LoadRefused(f"{self.manifest_url} is no object, so no manifest")
        columns = (
            f" ({', '.join(identifier(name) for name in self.columns)})" if self.columns else ""
        )
        head = f"COPY {table_name(self.table)}{columns}\nFROM {literal(str(self.manifest_url))}\n"
        said = [*self.format.copy_options(self.gzip), *self.options.copy_options()]
        tail = "\n".join(["\nMANIFEST", *(_option(word, value) for word, value in said)])
        return Sql(
            f"{head}{_authority(self.authority)}{tail}",
            f"{head}{_public_authority(self.authority)}{tail}",
        )


def identifier(name: str) -> str:
    """``name`` quoted. Redshift still folds it to lower case, unless its session says not to.

    Raises:
        LoadRefused: Empty, over 127 bytes, or with a NUL.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise LoadRefused(f"the name {name!r} is not valid Unicode") from None
    if not 1 <= size <= _MAX_NAME_BYTES or "\0" in name:
        raise LoadRefused(f"{name[:60]!r} is not a name", fix="Redshift's names have 1..127 bytes")
    return '"' + name.replace('"', '""') + '"'


def table_name(table: str) -> str:
    """``schema.table`` or ``table``, each part quoted.

    Raises:
        LoadRefused: More than one dot, or a part that is no name.
    """
    parts = table.split(".")
    if len(parts) > 2:
        raise LoadRefused(
            f"{table[:200]!r} is not a table", fix="Write schema.table, without quotes"
        )
    return ".".join(identifier(part) for part in parts)


def literal(text: str) -> str:
    """``text`` as a literal of Redshift: ``'`` and the backslash doubled.

    Raises:
        LoadRefused: A NUL, which no statement can carry, or invalid Unicode.
    """
    if "\0" in text:
        raise LoadRefused(f"{text[:60]!r} holds a NUL")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise LoadRefused(f"{text[:60]!r} is not valid Unicode")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _option(word: str, value: str | int | None) -> str:
    assert _KEYWORD.fullmatch(word), word
    if value is None:
        return word
    return f"{word} {value}" if isinstance(value, int) else f"{word} {literal(value)}"


def _authority(authority: CopyAuthority) -> str:
    if isinstance(authority, CopyRole):
        return _public_authority(authority)
    keys = authority.credentials
    text = (
        f"ACCESS_KEY_ID {literal(keys.access_key_id)} "
        f"SECRET_ACCESS_KEY {literal(keys.secret_access_key)}"
    )
    if keys.session_token is None:
        return text
    return f"{text} SESSION_TOKEN {literal(keys.session_token)}"


def _public_authority(authority: CopyAuthority) -> str:
    if isinstance(authority, CopyRole):
        if authority.arns == "default":
            return "IAM_ROLE default"
        # One literal, no blanks: https://docs.aws.amazon.com/redshift/latest/dg/
        # copy-parameters-authorization.html
        return f"IAM_ROLE {literal(','.join(authority.arns))}"
    keys = authority.credentials
    text = f"ACCESS_KEY_ID '{mask_key_id(keys.access_key_id)}' SECRET_ACCESS_KEY '***'"
    return text if keys.session_token is None else f"{text} SESSION_TOKEN '***'"
