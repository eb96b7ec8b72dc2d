"""The offline lint: each mistake by its words, and nothing to say of a good policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.doctor import Complaint, Level, lint_trust_policy

OWN, OTHER = "222233334444", "111122223333"
USER = f"arn:aws:iam::{OTHER}:user/etl"
ID = {"StringEquals": {"sts:ExternalId": "acme-42"}}
ORG = {"StringEquals": {"aws:PrincipalOrgID": "o-abc"}}


def lint(
    *statements: object, tags: bool = False, external_id: str | None = None, **top: object
) -> tuple[Complaint, ...]:
    policy = {"Version": "2012-10-17", "Statement": list(statements), **top}
    return lint_trust_policy(json.dumps(policy), account=OWN, tags=tags, external_id=external_id)


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
    assert lint(allow(condition=ID), statement) == ()


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
        (allow(condition=ID, action="*"), "error", "actions of STS only"),
        (allow(condition=ID, action="sts:AssumeRol"), "error", "it lets nobody in"),
        (allow(condition=ID, action="sts:Asume*"), "error", "it lets nobody in"),
        (allow(condition=ID, action="sts:AssumeRole "), "error", "it lets nobody in"),
        (allow(condition=ID, action="sts:GetCallerIdentity"), "error", "it lets nobody in"),
        (allow(condition=ID, action="sts:Assume*"), "warning", "more than to assume"),
        (allow(condition=ID, action="sts:AssumeRol?"), "warning", "more than to assume"),
        (
            allow(condition=ID, action="sts:AssumeRoleWithSAML"),
            "error",
            "AWS cannot call sts:AssumeRoleWithSAML",
        ),
        (
            allow({"Federated": f"arn:aws:iam::{OWN}:saml-provider/adfs"}),
            "error",
            "Federated cannot call sts:AssumeRole",
        ),
        (
            {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:assumerole"},
            "error",
            "whatever else is allowed",
        ),
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


@pytest.mark.parametrize(
    ("action", "meant"),
    [
        ("sts:AssumeRol", "sts:AssumeRole"),
        ("STS:ASSUMEROLL", "sts:AssumeRole"),
        ("sts:AssumeRoleWithWebIdentiy", "sts:AssumeRoleWithWebIdentity"),
        ("sts:TagSesion", "sts:TagSession"),
        ("AssumeRole", "sts:AssumeRole"),
    ],
)
def test_a_misspelt_action_is_told_with_what_was_meant(action: str, meant: str) -> None:
    (told,) = lint(allow(condition=ID, action=action))
    assert (told.level, told.fix) == (Level.ERROR, f"Did you mean {meant}?")


@pytest.mark.parametrize("action", ["STS:assumerole", ["sts:AssumeRole", "sts:SetContext"]])
def test_actions_have_no_case_and_may_come_together(action: object) -> None:
    assert lint(allow(condition=ID, action=action)) == ()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}], "only Deny"),
        (
            [{"Effect": "Deny", "Principal": {"AWS": USER}, "Action": "sts:*", "Condition": ORG}],
            "only Deny",
        ),
        ([allow(condition=ID, action="sts:TagSession")], "no statement lets anybody"),
        ([allow({"AWS": "AIDAIOSFODNN7EXAMPLE"})], "no statement lets anybody"),
    ],
)
def test_a_policy_that_lets_nobody_in_is_an_error(statements: list[object], words: str) -> None:
    found = lint(*statements)
    assert [c.statement for c in found if c.level is Level.ERROR and words in c.text] == [0], found


def test_a_policy_without_statements_is_told_once() -> None:
    assert len(lint()) == 1


def test_actions_may_be_spread_over_statements() -> None:
    assert lint(allow(condition=ID), allow(condition=ID, action="sts:TagSession"), tags=True) == ()


def test_the_id_of_a_deleted_user_is_no_confused_deputy() -> None:
    for account in (OWN, None):
        policy = {
            "Version": "2012-10-17",
            "Statement": [allow(condition=ID), allow({"AWS": "AIDAIOSFODNN7EXAMPLE"})],
        }
        found = lint_trust_policy(json.dumps(policy), account=account)
        assert [c.text[:20] for c in found] == ["AIDAIOSFODNN7EXAMPLE"], found


OTHER_ID = {"StringEquals": {"sts:ExternalId": "globex-77"}}


@pytest.mark.parametrize(
    ("conditions", "sent", "errors"),
    [
        ([ID], "acme-42", []),
        ([ID], "globex-77", [1]),
        ([ID], "ACME-42", [1]),
        ([ID, OTHER_ID], "globex-77", []),
        ([ID, OTHER_ID], "initech-9", [1, 2]),
        ([{"StringEquals": {"sts:ExternalId": ["acme-42", "acme-43"]}}], "acme-43", []),
        ([{"StringEqualsIgnoreCase": {"STS:externalid": "acme-42"}}], "ACME-42", []),
        ([{"StringLike": {"sts:ExternalId": "acme-[4]*"}}], "acme-42", [1]),
        ([{"StringLike": {"sts:ExternalId": "acme-4?"}}], "acme-42", []),
        ([{"ForAnyValue:StringEquals": {"sts:ExternalId": "acme-42"}}], "globex-77", [1]),
        ([ID | {"StringLike": {"sts:ExternalId": "b*"}}], "acme-42", [1]),
    ],
)
def test_the_external_id_that_will_be_sent_is_compared(
    conditions: list[object], sent: str, errors: list[int]
) -> None:
    found = lint(*(allow(condition=condition) for condition in conditions), external_id=sent)
    told = [c for c in found if "wants another external id" in c.text]
    assert [(c.level, c.statement) for c in told] == [(Level.ERROR, n) for n in errors]
    for secret in ("acme-42", "acme-43", "globex-77", "initech-9", "ACME-42"):
        assert secret not in str(found)


def test_ids_that_differ_in_case_only_are_told_so() -> None:
    (told,) = lint(allow(condition=ID), external_id="Acme-42")
    assert told.text == "wants another external id: a***2, not A***2" and "case" in told.fix


def test_an_external_id_that_is_not_asked_for_is_a_warning() -> None:
    own = allow({"AWS": f"arn:aws:iam::{OWN}:user/etl"})
    (told,) = lint(own, external_id="acme-42")
    assert told.level is Level.WARNING and "no statement asks for one" in told.text
    assert lint(own, external_id=" ") == ()


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
        ('{"Role": {"Arn": "x"}}', "without its AssumeRolePolicyDocument"),
        ('{"Role": 3}', "without its AssumeRolePolicyDocument"),
        ('{"Roles": []}', "one policy at a time"),
        ('{"Role": {"AssumeRolePolicyDocument": "{"}}', "AssumeRolePolicyDocument is not JSON"),
        ('{"AssumeRolePolicyDocument": [1]}', "AssumeRolePolicyDocument is no object"),
        ('{"Version": "2012-10-17", "Statement": [], "Role": 3}', "without its"),
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


@pytest.mark.parametrize("encode", [lambda p: p, json.dumps, lambda p: quote(json.dumps(p))])
def test_what_get_role_prints_is_read(encode: Callable[[object], object]) -> None:
    """The account of the role is in it, too: the principal is of another one, and that is told."""
    policy = {"Version": "2012-10-17", "Statement": [allow({"AWS": OTHER})]}
    arn = f"arn:aws:iam::{OWN}:role/teams/partner"
    role = {"RoleName": "partner", "Arn": arn, "AssumeRolePolicyDocument": encode(policy)}
    asked = lint_trust_policy(json.dumps(policy), account=OWN)
    assert lint_trust_policy(json.dumps({"Role": role})) == asked
    assert lint_trust_policy(json.dumps(role)) == asked
    assert "confused deputy" in asked[1].text and asked[1].level is Level.ERROR


def test_a_policy_may_be_url_encoded_or_a_text_of_json() -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": allow(condition=ID)})
    for form in (text, quote(text), f" {quote(text)}\n", json.dumps(text), json.dumps(quote(text))):
        assert lint_trust_policy(form, account=OWN) == ()


@pytest.mark.parametrize("version", ["2020-01-01", "2012-10-7", 20121017, ["2012-10-17"]])
def test_a_version_that_iam_does_not_know_is_an_error(version: object) -> None:
    (told,) = lint(allow(condition=ID), Version=version)
    assert told.level is Level.ERROR and "2012-10-17 and 2008-10-17 only" in told.text


def test_an_old_version_and_a_typing_error_are_told() -> None:
    found = lint(allow(condition=ID), Version="2008-10-17", Statment=[])
    assert any("Version is not" in c.text and c.level is Level.WARNING for c in found)
    assert any(c.fix == "Did you mean Statement?" for c in found)


_KEYS = st.sampled_from(
    [
        "Role",
        "AssumeRolePolicyDocument",
        "Statement",
        "Effect",
        "Principal",
        "AWS",
        "Service",
        "Federated",
        "Action",
        "Condition",
    ]
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
    for complaint in lint_trust_policy(text, account=OWN, tags=tags, external_id="acme"):
        assert complaint.text and complaint.level in Level
