"""Which of the four cases it is, for every kind of caller and role."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.credentials import RoleArn
from engine.doctor import Case, which_case
from engine.doctor.cases import principal_of, who_is
from engine.types import CallerIdentity

ACCOUNTS = st.sampled_from(["111122223333", "222233334444", "999900001111"])
PARTITIONS = st.sampled_from(["aws", "aws-cn", "aws-us-gov"])
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_+=,.@-]{0,20}", fullmatch=True)
IDS = st.sampled_from([None, "acme-42"])


@st.composite
def users(draw: st.DrawFn) -> CallerIdentity:
    account, path = draw(ACCOUNTS), draw(st.sampled_from(["", "teams/etl/"]))
    return CallerIdentity(
        account, f"arn:{draw(PARTITIONS)}:iam::{account}:user/{path}{draw(NAMES)}"
    )


@st.composite
def sessions(draw: st.DrawFn) -> CallerIdentity:
    account, partition = draw(ACCOUNTS), draw(PARTITIONS)
    arn = f"arn:{partition}:sts::{account}:assumed-role/{draw(NAMES)}/{draw(NAMES)}"
    return CallerIdentity(account, arn)


@st.composite
def roles(draw: st.DrawFn) -> RoleArn:
    path = draw(st.sampled_from(["", "teams/etl/"]))
    arn = f"arn:{draw(PARTITIONS)}:iam::{draw(ACCOUNTS)}:role/{path}{draw(NAMES)}"
    return RoleArn.parse(arn)


@given(users(), roles(), IDS, st.booleans())
def test_a_user_is_case_1_2_or_3_whatever_its_source_thinks(
    caller: CallerIdentity, role: RoleArn, external_id: str | None, source_is_role: bool
) -> None:
    """Keys with a session token may be a user's own (GetSessionToken)."""
    found = which_case(caller, role, external_id, source_is_role)
    same = caller.account == role.account
    other = Case.EXTERNAL_ID if external_id else Case.OTHER_ACCOUNT
    assert found.case is (Case.SAME_ACCOUNT if same else other)
    assert found.same_account is same
    assert ("same account" in found.title) is same


@given(sessions(), roles(), IDS, st.booleans())
def test_a_session_is_case_4_in_every_account(
    caller: CallerIdentity, role: RoleArn, external_id: str | None, source_is_role: bool
) -> None:
    found = which_case(caller, role, external_id, source_is_role)
    assert found.case is Case.CHAINED
    assert found.same_account is (caller.account == role.account)


@given(roles(), IDS)
def test_without_an_identity_only_what_is_known_is_said(
    role: RoleArn, external_id: str | None
) -> None:
    user = which_case(None, role, external_id, False)
    session = which_case(None, role, external_id, True, on_ec2=True)
    assert (user.case, session.case) == (Case.UNKNOWN, Case.CHAINED)
    assert user.same_account is session.same_account is None
    assert "account" not in user.title + session.title
    assert session.heading == "case 4  EC2 role -> role"


@given(st.none() | users() | sessions(), IDS, st.booleans())
def test_no_role_is_no_case(
    caller: CallerIdentity | None, external_id: str | None, source_is_role: bool
) -> None:
    found = which_case(caller, None, external_id, source_is_role)
    assert found.case is Case.NO_ROLE and found.heading.startswith("no role  ")


@given(sessions())
def test_a_trust_policy_names_the_role_behind_a_session(caller: CallerIdentity) -> None:
    """Its own ARN ends with the session; that of the role is one that RoleArn reads."""
    named = RoleArn.parse(principal_of(caller))
    assert (named.account, f"role {named.name}") == (caller.account, who_is(caller))
    with_path = f"arn:aws:iam::{caller.account}:role/teams/{named.name}"
    assert principal_of(caller, with_path) == with_path


@given(users())
def test_a_trust_policy_names_a_user_by_its_arn(caller: CallerIdentity) -> None:
    assert principal_of(caller) == caller.arn
    assert who_is(caller) == f"user {caller.arn.rpartition('/')[2]}"


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        ("arn:aws:iam::111122223333:root", "root user"),
        ("arn:aws:iam::111122223333:user/a/b/etl", "user etl"),
        ("arn:aws:sts::111122223333:assumed-role/etl-host/i-01", "role etl-host"),
        ("arn:aws:sts::111122223333:federated-user/alice", "federated-user alice"),
    ],
)
def test_a_caller_is_called_by_what_people_know_it_by(arn: str, name: str) -> None:
    assert who_is(CallerIdentity("111122223333", arn)) == name


def test_root_is_said_to_be_root() -> None:
    root = CallerIdentity("111122223333", "arn:aws:iam::111122223333:root")
    role = RoleArn.parse("arn:aws:iam::111122223333:role/x")
    assert which_case(root, role, None, False).title == "root user -> role"
