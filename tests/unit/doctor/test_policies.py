"""The documents: valid, exact, without a secret, and free of what our own lint finds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.credentials import RoleSpec
from engine.doctor import Level, lint_trust_policy
from engine.doctor.policies import (
    EXTERNAL_ID_PLACEHOLDER,
    caller_policy,
    external_id_condition,
    folder,
    transfer_policy,
    trust_policy,
)
from engine.types import S3Url

USER = "arn:aws:iam::111122223333:user/etl"
ROLE = "arn:aws:iam::222233334444:role/teams/stage-writer"
ACTIONS = {
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:GetBucketLocation",
}


def _statements(document: dict[str, object]) -> list[dict[str, Any]]:
    assert document["Version"] == "2012-10-17"
    statements = json.loads(json.dumps(document))["Statement"]
    assert all(statement["Sid"].isalnum() for statement in statements)
    return list(statements)


def test_the_trust_policy_names_the_caller_and_hides_the_external_id() -> None:
    role = RoleSpec(ROLE, external_id="Canary-42", tags={"a": "b"}, source_identity="alice")
    (statement,) = _statements(trust_policy(USER, role, external_id=True))
    assert statement["Principal"] == {"AWS": USER}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": EXTERNAL_ID_PLACEHOLDER}}
    (plain,) = _statements(trust_policy(USER, RoleSpec(ROLE), external_id=False))
    assert plain["Action"] == "sts:AssumeRole" and "Condition" not in plain


DEVICE = "arn:aws:iam::111122223333:mfa/etl"


def test_a_caller_that_shows_an_mfa_code_is_asked_for_one() -> None:
    role = RoleSpec(ROLE, serial_number=DEVICE, token_code="123456")
    mfa = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    (statement,) = _statements(trust_policy(USER, role, external_id=False))
    assert statement["Condition"] == mfa
    (statement,) = _statements(trust_policy(USER, role, external_id=True))
    assert statement["Condition"] == mfa | external_id_condition()
    assert "123456" not in str(statement)


@given(st.booleans(), st.booleans(), st.booleans())
def test_our_own_lint_has_no_error_for_our_own_trust_policy(
    external_id: bool, tags: bool, mfa: bool
) -> None:
    role = RoleSpec(
        ROLE,
        tags={"a": "b"} if tags else {},
        serial_number=DEVICE if mfa else None,
        token_code="123456" if mfa else None,
    )
    text = json.dumps(trust_policy(USER, role, external_id=external_id))
    found = lint_trust_policy(text, account="222233334444", tags=tags)
    assert [c for c in found if c.level is Level.ERROR] == []
    assert bool(found) is not external_id  # a warning where no external id is asked for


def test_the_caller_may_assume_this_role_and_nothing_else() -> None:
    (statement,) = _statements(caller_policy(RoleSpec(ROLE)))
    assert statement["Sid"] == "AssumeStageWriter"
    assert (statement["Action"], statement["Resource"]) == ("sts:AssumeRole", ROLE)


def test_the_role_may_do_what_the_engine_does_and_only_below_the_prefix() -> None:
    statements = _statements(transfer_policy(S3Url("b", "in")))
    assert {action for s in statements for action in s["Action"]} == ACTIONS
    objects = next(s for s in statements if "s3:PutObject" in s["Action"])
    listing = next(s for s in statements if "s3:ListBucket" in s["Action"])
    assert objects["Resource"] == "arn:aws:s3:::b/in/*"
    assert listing["Resource"] == "arn:aws:s3:::b"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["in/*"]}}
    whole = _statements(transfer_policy(S3Url("b"), "aws-cn"))
    assert whole[-1]["Resource"] == "arn:aws-cn:s3:::b/*"
    reader = _statements(transfer_policy(S3Url("b", "in"), read_only=True))
    assert {action for s in reader for action in s["Action"]} == {
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:ListBucket",
    }
    assert "Condition" not in whole[0]


def test_a_prefix_is_a_folder() -> None:
    assert [folder(S3Url("b", key)).key for key in ("", "a", "a/", "a/b")] == [
        "",
        "a/",
        "a/",
        "a/b/",
    ]
