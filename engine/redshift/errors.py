"""What Redshift's errors mean: the one table of this room that reads message text.

Redshift answers bad rows, S3's refusals, expired keys and lost races alike with SQLSTATE XX000,
so only the words tell them apart. Where a SQLSTATE does tell, it is asked first.
Error codes: https://docs.aws.amazon.com/redshift/latest/dg/r_Load_Error_Reference.html
What must not live here: asking the database for more.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.errors import DatabaseError

INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"


class Kind(enum.Enum):
    """Why a statement of a load failed."""

    BAD_ROWS = "bad_rows"
    S3_EXPIRED = "s3_expired"
    S3_DENIED = "s3_denied"
    MANIFEST_DENIED = "manifest_denied"
    MISSING_FILE = "missing_file"
    SERIALIZATION = "serialization"
    NO_TABLE = "no_table"
    NO_COLUMN = "no_column"
    DENIED = "denied"
    CANCELLED = "cancelled"
    LOST = "lost"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A kind, in words, with what to do."""

    kind: Kind
    cause: str
    fix: str


_MEANINGS = {
    meaning.kind: meaning
    for meaning in (
        Meaning(
            Kind.BAD_ROWS,
            "rows were refused",
            "Repair the files, or accept some bad rows with --max-errors",
        ),
        Meaning(
            Kind.S3_EXPIRED,
            "the keys given to COPY expired while it ran",
            "Use a role of the cluster (--copy-role), or give a greater estimate of the time",
        ),
        Meaning(
            Kind.S3_DENIED,
            "Redshift may not read the staged files",
            "Allow s3:GetObject and s3:ListBucket on the staging prefix to the role that COPY uses",
        ),
        Meaning(
            Kind.MANIFEST_DENIED,
            "no read permission on the manifest",
            "Allow s3:GetObject on the staging prefix to the role that COPY uses. Redshift words "
            "this as a wrong path, though the manifest exists",
        ),
        Meaning(
            Kind.MISSING_FILE,
            "a staged file is not there, or not as long as it was",
            "Keep other programs and lifecycle rules off the staging prefix, then load again",
        ),
        Meaning(
            Kind.SERIALIZATION,
            "another transaction wrote to the table at the same time",
            "Load again; nothing was loaded",
        ),
        Meaning(
            Kind.NO_TABLE,
            "the table does not exist",
            "Create it first, and name it with its schema",
        ),
        Meaning(
            Kind.NO_COLUMN,
            "the table has no column of this name",
            "Compare --columns with the table's columns",
        ),
        Meaning(
            Kind.DENIED,
            "the database user lacks a right",
            "Grant INSERT on the table to the user",
        ),
        Meaning(
            Kind.CANCELLED,
            "the statement was cancelled, by its time limit or by somebody",
            "Load again; nothing was loaded",
        ),
        Meaning(
            Kind.LOST,
            "the connection was lost before COMMIT",
            "Load again; nothing was loaded",
        ),
        Meaning(Kind.OTHER, "the database refused the statement", ""),
    )
}

_BY_SQLSTATE = {
    UNDEFINED_TABLE: Kind.NO_TABLE,
    "42703": Kind.NO_COLUMN,
    "3F000": Kind.NO_TABLE,
    INSUFFICIENT_PRIVILEGE: Kind.DENIED,
    "57014": Kind.CANCELLED,
    "40001": Kind.SERIALIZATION,
}

# In lower case, first match wins: the text of S3's error stands inside texts that also name the
# manifest. Sources of the wordings: REDSHIFT.md, "Error texts of real Redshift".
_BY_TEXT = (
    ("expiredtoken", Kind.S3_EXPIRED),
    ("provided token has expired", Kind.S3_EXPIRED),
    ("token has expired", Kind.S3_EXPIRED),
    ("copy with manifest parameter requires full path", Kind.MANIFEST_DENIED),
    ("mandatory url is not present", Kind.MISSING_FILE),
    ("nosuchkey", Kind.MISSING_FILE),
    ("specified key does not exist", Kind.MISSING_FILE),
    ("the specified s3 prefix", Kind.MISSING_FILE),
    ("invalidrange", Kind.MISSING_FILE),
    ("accessdenied", Kind.S3_DENIED),
    ("access denied", Kind.S3_DENIED),
    ("invalidaccesskeyid", Kind.S3_DENIED),
    ("signaturedoesnotmatch", Kind.S3_DENIED),
    ("not authorized to assume", Kind.S3_DENIED),
    ("not authorized to get credentials", Kind.S3_DENIED),
    ("status 403", Kind.S3_DENIED),
    ("serializable isolation violation", Kind.SERIALIZATION),
    ("conflict with concurrent transaction", Kind.SERIALIZATION),
    ("nonexistent table", Kind.NO_TABLE),
    ("canceled on user's request", Kind.CANCELLED),
    ("stl_load_errors", Kind.BAD_ROWS),
    ("sys_load_error_detail", Kind.BAD_ROWS),
)
_SERIALIZATION_MESSAGE = "1023"


def classify(error: DatabaseError) -> Meaning:
    """What ``error`` means for a load whose COMMIT was not yet sent."""
    return _MEANINGS[_kind(error)]


def history_hidden(error: DatabaseError) -> bool:
    """Whether ``error`` says that a system table is not there, or not for this user.

    Serverless workgroups refuse ``stl_`` tables with 42501.
    """
    return error.sqlstate in (UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE)


def _kind(error: DatabaseError) -> Kind:
    if error.lost:
        return Kind.LOST
    if error.sqlstate in _BY_SQLSTATE:
        return _BY_SQLSTATE[error.sqlstate]
    text = f"{error.headline}\n{error.facts.get('detail', '')}".lower()
    for words, kind in _BY_TEXT:
        if words in text:
            return kind
    first = error.headline.removeprefix("ERROR:").split()
    return Kind.SERIALIZATION if first[:1] == [_SERIALIZATION_MESSAGE] else Kind.OTHER
