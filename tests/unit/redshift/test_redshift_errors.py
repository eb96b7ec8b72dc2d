"""Redshift's wordings, and what they mean."""

import pytest

from engine.errors import DatabaseError
from engine.redshift.errors import Kind, classify, history_hidden

S3 = "S3ServiceException:%s,Status %d,Error %s,Rid 1,ExtRid 2,CanRetry 1"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "Load into table 't' failed.  Check 'stl_load_errors' system table for details.",
            Kind.BAD_ROWS,
        ),
        ("Load into table 't' failed.  Check 'sys_load_error_detail' ...", Kind.BAD_ROWS),
        (S3 % ("The provided token has expired.", 400, "ExpiredToken"), Kind.S3_EXPIRED),
        (S3 % ("Access Denied", 403, "AccessDenied"), Kind.S3_DENIED),
        (S3 % ("The AWS Access Key Id ..", 403, "InvalidAccessKeyId"), Kind.S3_DENIED),
        ("User arn:.. is not authorized to assume IAM Role arn:..", Kind.S3_DENIED),
        ("COPY with MANIFEST parameter requires full path of an S3 object", Kind.MANIFEST_DENIED),
        ("Mandatory url is not present in manifest file.", Kind.MISSING_FILE),
        (
            "Problem reading manifest file - "
            + S3 % ("The specified key does not exist.", 404, "NoSuchKey"),
            Kind.MISSING_FILE,
        ),
        ("HTTP response error code: 416 Message: InvalidRange", Kind.MISSING_FILE),
        ("1023", Kind.SERIALIZATION),
        ("ERROR: 1023", Kind.SERIALIZATION),
        ("could not complete because of conflict with concurrent transaction", Kind.SERIALIZATION),
        ("Cannot COPY into nonexistent table t", Kind.NO_TABLE),
        ("Query (150) canceled on user's request", Kind.CANCELLED),
        ("something new about 1023 things", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_wordings(text: str, kind: Kind) -> None:
    meaning = classify(DatabaseError(text, sqlstate="XX000"))
    assert meaning.kind is kind
    assert meaning.cause
    assert classify(DatabaseError("x", sqlstate="XX000", detail=text)).kind in (kind, Kind.OTHER)


def test_sqlstates_and_lost() -> None:
    assert classify(DatabaseError("x", sqlstate="42P01")).kind is Kind.NO_TABLE
    assert classify(DatabaseError("x", sqlstate="42501")).kind is Kind.DENIED
    assert classify(DatabaseError("x", sqlstate="57014")).kind is Kind.CANCELLED
    assert classify(DatabaseError("1023", lost=True)).kind is Kind.LOST
    assert history_hidden(DatabaseError("x", sqlstate="42501"))
    assert not history_hidden(DatabaseError("x", sqlstate="XX000"))
