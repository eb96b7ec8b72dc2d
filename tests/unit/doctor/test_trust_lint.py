"""The offline lint: each mistake by its words, and nothing to say of a good policy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.doctor import Complaint, Level, lint_trust_policy

OWN, OTHER = "222233334444", "111122223333"
USER = f"arn:aws:iam::{OTHER}:user/etl"
ID = {"StringEquals": {"sts:ExternalId": "acme-42"}}
ORG = {"StringEquals": {"aws:PrincipalOrgID": "o-abc"}}


def lint(*statements: object, tags: bool = False, **top: object) -> tuple[Complaint, ...]:
    policy = {"Version": "2012-10-17", "Statement": list(statements), **top}
    return lint_trust_policy(json.dumps(policy), account=OWN, tags=tags)


def allow(
    principal: object = None, condition: object = None, action: object = "sts:AssumeRole"
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": USER} if principal is None else principal,
        "Action": action,
    }
    return statement if condition is None else {**statement, "Condition": condition}


@pytest.mark.parametrize(
    "statement",
    [
        allow(condition=ID),
        allow({"AWS": f"arn:aws:iam::{OWN}:user/etl"}),
        allow(condition=ORG),
        allow({"AWS": "*"}, ID | ORG)
        | {"Principal": {"AWS": f"arn:aws:iam::{OWN}:role/teams/etl-host"}},
        allow({"Service": "ec2.amazonaws.com"}),
        allow({"Service": "x.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": "arn:aws:x:::y*"}}),
        allow(
            {"Federated": f"arn:aws:iam::{OWN}:oidc-provider/oidc.example/id/1"},
            {"StringEquals": {"oidc.example/id/1:sub": "me", "oidc.example/id/1:aud": "sts"}},
            "sts:AssumeRoleWithWebIdentity",
        ),
        allow(condition={"StringEquals": {"STS:externalid": ["acme-42", "acme-43"]}}),
        {"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole", "Condition": ORG},
    ],
)
def test_a_good_statement_is_left_alone(statement: object) -> None:
    assert lint(statement) == ()


@pytest.mark.parametrize(
    ("statement", "level", "words"),
    [
        (allow("*"), "error", "any AWS account may assume"),
        (allow({"AWS": ["*"]}), "error", "any AWS account may assume"),
        (allow("*", ORG), "warning", "only a Condition limits it"),
        (allow("*", {"StringLike": {"aws:PrincipalArn": "*"}}), "error", "any AWS account"),
        (allow(), "warning", "confused deputy"),
        (allow({"AWS": OTHER}), "error", "confused deputy"),
        (
            allow({"AWS": OTHER}, {"ArnEquals": {"aws:PrincipalArn": USER}}),
            "warning",
            "confused deputy",
        ),
        (allow({"AWS": OTHER}, ID), "note", f"the whole account {OTHER}"),
        (allow({"AWS": f"arn:aws:iam::{OWN}:root"}), "note", "not its root user"),
        (allow({"Service": "x.amazonaws.com"}), "warning", "confused deputy"),
        (allow({"Service": "ec2"}), "error", "no service"),
        (allow({"AWS": "1234"}), "error", "neither an account nor an ARN"),
        (allow({"AWS": "arn:aws:iam::1234:root"}), "error", "'1234' is no account"),
        (allow({"AWS": f"arn:aws:iam::{OTHER}:user/*"}, ID), "error", "wildcard"),
        (allow({"AWS": f"arn:aws:iam::{OTHER}:group/g"}, ID), "error", "no user, role"),
        (
            allow({"AWS": f"arn:aws:sts::{OWN}:assumed-role/r/s3engine-1"}),
            "warning",
            "one session",
        ),
        (allow({"AWS": "AIDAIOSFODNN7EXAMPLE"}, ID), "warning", "was deleted"),
        (allow({"Who": "x"}), "error", "kind 'Who'"),
        (allow({"AWS": [3]}), "error", "is no text"),
        (allow({"AWS": []}), "error", "is empty"),
        (allow(condition={"StringLike": {"sts:ExternalId": "*"}}), "error", "takes any"),
        (allow(condition={"StringLike": {"sts:ExternalId": "?*"}}), "error", "takes any"),
        (allow(condition={"StringLike": {"sts:ExternalId": "acme-*"}}), "warning", "takes many"),
        (
            allow(condition={"StringEqualsIfExists": {"sts:ExternalId": "acme-42"}}),
            "error",
            "holds where none is sent",
        ),
        (
            allow(condition={"ForAllValues:StringEquals": {"sts:ExternalId": "acme-42"}}),
            "error",
            "holds where none is sent",
        ),
        (allow(condition={"Null": {"sts:ExternalId": "false"}}), "error", "nearly any"),
        (allow(condition={"StringNotEquals": {"sts:ExternalId": "ab"}}), "error", "nearly any"),
        (allow(condition={"StringEquals": {"sts:ExternalId": "a b"}}), "error", "nobody can send"),
        (allow(condition={"StringEquals": {"sts:ExternalId": []}}), "error", "no value"),
        (allow(condition="x"), "error", "Condition is no object"),
        (
            allow({"Federated": f"arn:aws:iam::{OWN}:oidc-provider/oidc.example"}),
            "error",
            "everyone whom oidc.example vouches for",
        ),
        (
            allow({"Federated": f"arn:aws:iam::{OWN}:saml-provider/adfs"}),
            "warning",
            "no condition on saml:aud",
        ),
        (
            {"Effect": "Allow", "NotPrincipal": {"AWS": USER}, "Action": "sts:AssumeRole"},
            "error",
            "NotPrincipal lets in everyone",
        ),
        ({"Effect": "Allow", "Action": "sts:AssumeRole"}, "error", "no Principal"),
        (allow(condition=ID, action="s3:GetObject"), "error", "actions of STS only"),
        (allow(condition=ID, action="sts:*"), "warning", "more than to assume"),
        (allow(condition=ID, action=[]), "error", "no Action"),
        ({**allow(condition=ID), "Resource": "*"}, "error", "'Resource' has no place"),
        ({**allow(condition=ID), "Effect": "allow"}, "error", "Effect is 'allow'"),
        ("x", "error", "no object"),
    ],
)
def test_a_mistake_is_told_with_its_statement(statement: object, level: str, words: str) -> None:
    found = lint(allow(condition=ID), statement)
    told = [c for c in found if words in c.text]
    assert told, found
    assert (told[0].level, told[0].statement) == (Level(level), 2)


def test_without_the_role_s_account_another_account_is_a_guess() -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": allow({"AWS": OTHER})})
    told = [c for c in lint_trust_policy(text) if "confused deputy" in c.text]
    assert told[0].level is Level.WARNING and "give --role-arn" in told[0].text


@pytest.mark.parametrize(
    ("action", "missing"),
    [
        ("sts:AssumeRole", True),
        (["sts:AssumeRole", "sts:TagSession"], False),
        ("sts:*", False),
        ("STS:tagsession", False),
    ],
)
def test_tags_need_their_action(action: object, missing: bool) -> None:
    found = lint(allow(condition=ID, action=action), tags=True)
    assert any("sts:TagSession" in c.text for c in found) is missing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no object"),
        ('{"Version": "2012-10-17"}', "nobody may assume"),
        ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "'Version' stands twice"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_policy_is_an_error(text: str, words: str) -> None:
    found = lint_trust_policy(text)
    assert any(c.level is Level.ERROR and words in c.text for c in found), found


def test_bad_json_is_told_by_its_place() -> None:
    (only,) = lint_trust_policy('{\n  "Version": "2012-10-17",\n  oops\n}')
    assert only.place == "line 3 column 3"


def test_an_old_version_and_a_typing_error_are_told() -> None:
    found = lint(allow(condition=ID), Version="2008-10-17", Statment=[])
    assert any("Version is not 2012-10-17" in c.text for c in found)
    assert any(c.fix == "Did you mean Statement?" for c in found)


_KEYS = st.sampled_from(
    ["Statement", "Effect", "Principal", "AWS", "Service", "Federated", "Action", "Condition"]
    + ["StringEquals", "sts:ExternalId", "aws:SourceArn", "NotPrincipal", "Version"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(_JSON | st.text(max_size=40), st.booleans())
def test_no_document_breaks_it(document: object, tags: bool) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    for complaint in lint_trust_policy(text, account=OWN, tags=tags):
        assert complaint.text and complaint.level in Level
