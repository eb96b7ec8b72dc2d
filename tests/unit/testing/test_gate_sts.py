"""STS at the gate: every parameter of AssumeRole, the root user, MFA, GetSessionToken, counts.

boto3 is the client: what AWS's own client accepts as AWS is near enough to it.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from engine.errors import UsageError
from engine.testing.aws import ACCOUNT, AwsDouble
from engine.testing.gate_log import RequestLog
from engine.types import Credentials
from tests.unit.testing.sdk import client, refused, session_of

OTHER = "999900001111"
EVERYTHING = (("*", "*"),)


def ask(caller: Any, arn: str, **more: Any) -> Any:
    return caller.assume_role(RoleArn=arn, RoleSessionName="test", **more)


def asked(caller: Any, arn: str, **more: Any) -> tuple[str, int]:
    return refused(caller.assume_role, RoleArn=arn, RoleSessionName="test", **more)


def test_the_root_user_is_told_and_assumes_nothing(aws: AwsDouble) -> None:
    root = aws.gate.add_root_key(ACCOUNT)
    role = aws.gate.add_role(ACCOUNT, "r", trust=[f"arn:aws:iam::{ACCOUNT}:root", root.arn])
    sts = client(aws, "sts", root.credentials)
    told = sts.get_caller_identity()
    assert (told["Arn"], told["UserId"]) == (f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    assert asked(sts, role) == ("AccessDenied", 403)
    assert client(aws, "s3", root.credentials).list_objects_v2(Bucket="bkt")["KeyCount"] == 0
    # A longer session of the root user is cut to an hour, not refused.
    assert session_of(sts.get_session_token(DurationSeconds=7200)).lifetime == 3600


def test_a_session_of_a_user_is_the_user_for_a_while(aws: AwsDouble) -> None:
    gate = aws.gate
    user = gate.add_user(ACCOUNT, "etl", allow=EVERYTHING, session_lifetime=5)
    role = gate.add_role(ACCOUNT, "r", trust=[user.arn], max_duration=7200)
    sts = client(aws, "sts", user.credentials)
    assert refused(sts.get_session_token, DurationSeconds=899) == ("ValidationError", 400)
    assert refused(sts.get_session_token, DurationSeconds=129_601) == ("ValidationError", 400)
    session = session_of(sts.get_session_token(DurationSeconds=129_600))
    assert session.lifetime == 5
    temporary = client(aws, "sts", session)
    assert temporary.get_caller_identity()["Arn"] == user.arn
    assert refused(temporary.get_session_token) == ("AccessDenied", 403)
    # It is a session, so what is assumed with it is chained.
    assert asked(temporary, role, DurationSeconds=3601) == ("ValidationError", 400)
    assert session_of(ask(temporary, role, DurationSeconds=3600)).lifetime == 3600
    assert session_of(ask(sts, role, DurationSeconds=7200)).lifetime == 7200
    gate.clock_offset = 6
    assert refused(temporary.get_caller_identity) == ("ExpiredToken", 403)
    with pytest.raises(UsageError):
        gate.add_user(ACCOUNT, "x", session_lifetime=4)


def test_sessions_of_a_role_say_whose_they_are(aws: AwsDouble) -> None:
    role = aws.gate.add_role(ACCOUNT, "path/r", trust=[aws.admin.arn])
    sts = client(aws, "sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/admin"
    answers = [ask(sts, role), ask(sts, role)]
    told = [client(aws, "sts", session_of(answer)).get_caller_identity() for answer in answers]
    assert {t["Arn"] for t in told} == {f"arn:aws:sts::{ACCOUNT}:assumed-role/r/test"}
    assert {t["UserId"] for t in told} == {answers[0]["AssumedRoleUser"]["AssumedRoleId"]}
    assert told[0]["UserId"].startswith("AROA") and told[0]["UserId"].endswith(":test")
    assert answers[0]["Credentials"]["AccessKeyId"] != answers[1]["Credentials"]["AccessKeyId"]


def test_a_code_is_good_once(aws: AwsDouble) -> None:
    gate = aws.gate
    serial = f"arn:aws:iam::{ACCOUNT}:mfa/etl"
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], require_mfa=True)
    sts = client(aws, "sts")
    assert asked(sts, role) == ("AccessDenied", 403)
    code = gate.new_mfa_code(serial)
    assert asked(sts, role, SerialNumber=serial) == ("AccessDenied", 403)
    assert asked(sts, role, SerialNumber=serial + "x", TokenCode=code) == ("AccessDenied", 403)
    assert asked(sts, role, SerialNumber=serial, TokenCode="12345") == ("ValidationError", 400)
    assert ask(sts, role, SerialNumber=serial, TokenCode=code)
    assert asked(sts, role, SerialNumber=serial, TokenCode=code) == ("AccessDenied", 403)
    # A session that began with a code may assume the role again and again.
    shown = {"SerialNumber": serial, "TokenCode": gate.new_mfa_code(serial)}
    with_mfa = client(aws, "sts", session_of(sts.get_session_token(**shown)))
    assert ask(with_mfa, role) and ask(with_mfa, role)


def test_tags_pass_to_the_next_role_and_stay(aws: AwsDouble) -> None:
    gate = aws.gate
    first = gate.add_role(ACCOUNT, "first", trust=[aws.admin.arn])
    second = gate.add_role(ACCOUNT, "second", trust=[first])
    third = gate.add_role(ACCOUNT, "third", trust=[second], tag_session=False)
    tags = [{"Key": "Project", "Value": "etl"}, {"Key": "team", "Value": ""}]
    sts = client(aws, "sts")
    again = [*tags, {"Key": "TEAM", "Value": "x"}]
    assert asked(sts, first, Tags=again) == ("InvalidParameterValue", 400)
    assert asked(sts, first, Tags=tags, TransitiveTagKeys=["other"])[0] == "InvalidParameterValue"
    one = session_of(ask(sts, first, Tags=tags, TransitiveTagKeys=["project"]))
    host = client(aws, "sts", one)
    override = [{"Key": "project", "Value": "mine"}]
    assert asked(host, second, Tags=override) == ("InvalidParameterValue", 400)
    two = session_of(ask(host, second, Tags=[{"Key": "team", "Value": "b"}]))
    record = gate.accounts.key(two.access_key_id)
    assert record is not None
    assert record.principal.traits.tags == (("Project", "etl"), ("team", "b"))
    assert record.principal.traits.transitive == (("Project", "etl"),)
    # Tags that are only handed on need sts:TagSession in the trust policy all the same.
    assert asked(client(aws, "sts", two), third) == ("AccessDenied", 403)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Tags": [{"Key": "a*", "Value": ""}]}, "ValidationError"),
        ({"Tags": [{"Key": "aws:a", "Value": ""}]}, "ValidationError"),
        ({"Tags": [{"Key": "a", "Value": "x" * 257}]}, "ValidationError"),
        ({"Tags": [{"Key": str(n), "Value": ""} for n in range(51)]}, "ValidationError"),
        (
            {"PolicyArns": [{"arn": f"arn:aws:iam::aws:policy/{n}"} for n in range(11)]},
            "ValidationError",
        ),
        ({"PolicyArns": [{"arn": f"arn:aws:iam::{OTHER}:policy/p"}]}, "ValidationError"),
        ({"PolicyArns": [{"arn": f"arn:aws:iam::{ACCOUNT}:policy/none"}]}, "ValidationError"),
        ({"SourceIdentity": "a"}, "ValidationError"),
        ({"SourceIdentity": "a b"}, "ValidationError"),
        ({"ExternalId": ""}, "ValidationError"),
        ({"Policy": ""}, "ValidationError"),
        ({"Policy": "\u20ac"}, "ValidationError"),
        ({"Policy": "x" * 2049}, "PackedPolicyTooLarge"),
        (
            {"ProvidedContexts": [{"ProviderArn": "a" * 20, "ContextAssertion": "abcd"}] * 6},
            "ValidationError",
        ),
        (
            {"ProvidedContexts": [{"ProviderArn": "a", "ContextAssertion": "abcd"}]},
            "ValidationError",
        ),
        ({"SerialNumber": "short", "TokenCode": "123456"}, "ValidationError"),
    ],
)
def test_a_parameter_out_of_its_limits(
    aws: AwsDouble, parameters: dict[str, Any], code: str
) -> None:
    role = aws.gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn])
    assert asked(client(aws, "sts"), role, **parameters) == (code, 400)


def test_policies_and_tags_are_packed_against_a_limit_of_their_own(aws: AwsDouble) -> None:
    role = aws.gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn])
    sts = client(aws, "sts")
    assert "PackedPolicySize" not in ask(sts, role)
    noise = [{"Key": f"k{n}", "Value": os.urandom(60).hex()} for n in range(50)]
    assert 0 < ask(sts, role, Tags=noise[:5])["PackedPolicySize"] < 100
    assert asked(sts, role, Tags=noise) == ("PackedPolicyTooLarge", 400)


def test_managed_policies_limit_a_session(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], allow=EVERYTHING)
    own = gate.add_policy(ACCOUNT, "put", allow=[("s3:PutObject", "bkt/*")])
    reader = [{"arn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}]
    s3 = client(aws, "s3", session_of(ask(sts, role, PolicyArns=reader)))
    assert s3.list_objects_v2(Bucket="bkt")["KeyCount"] == 0
    assert refused(s3.put_object, Bucket="bkt", Key="k", Body=b"") == ("AccessDenied", 403)
    both = client(aws, "s3", session_of(ask(sts, role, PolicyArns=[*reader, {"arn": own}])))
    both.put_object(Bucket="bkt", Key="k", Body=b"x")
    assert both.get_object(Bucket="bkt", Key="k")["Body"].read() == b"x"


def test_the_source_identity_is_set_once(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    first = gate.add_role(ACCOUNT, "first", trust=[aws.admin.arn])
    second = gate.add_role(ACCOUNT, "second", trust=[first])
    closed = gate.add_role(ACCOUNT, "closed", trust=[first], set_source_identity=False)
    answer = ask(sts, first, SourceIdentity="alice")
    assert answer["SourceIdentity"] == "alice"
    host = client(aws, "sts", session_of(answer))
    assert ask(host, second)["SourceIdentity"] == "alice"
    assert asked(host, second, SourceIdentity="bob") == ("AccessDenied", 403)
    assert asked(host, closed) == ("AccessDenied", 403)
    assert "SourceIdentity" not in ask(sts, first)


def test_throttling_and_regions_where_sts_is_off(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn])
    abroad = gate.add_role(OTHER, "r", trust=[aws.admin.arn])
    gate.faults.add(kind="status", action="AssumeRole", code="Throttling")
    with pytest.raises(ClientError, match="Rate exceeded") as caught:
        ask(sts, role)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    gate.disable_sts(OTHER, "eu-*")
    assert ask(sts, abroad)
    gate.disable_sts(OTHER, "us-*")
    assert asked(sts, abroad) == ("RegionDisabledException", 403)
    assert ask(sts, role)
    gate.reset()
    admin = gate.add_user(ACCOUNT, "admin", allow=EVERYTHING)
    abroad = gate.add_role(OTHER, "r", trust=[admin.arn])
    assert ask(client(aws, "sts", admin.credentials), abroad)


def test_calls_are_counted_by_action_caller_and_end(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], external_id="acme-42")
    ask(sts, role, ExternalId="acme-42", SourceIdentity="alice")
    gate.faults.add(kind="swallow", action="AssumeRole")
    with pytest.raises(Exception, match="closed"):
        ask(sts, role, ExternalId="acme-42")
    asked(sts, role)
    refused(client(aws, "sts", Credentials("AKIANOBODY", "x")).get_caller_identity)
    counts = gate.sts_counts()
    mine = counts["AssumeRole", aws.admin.arn]
    assert (mine.calls, mine.issued, mine.failed) == (3, 2, 2)
    assert counts["GetCallerIdentity", ""].failed == 1
    calls = gate.sts_calls(action="AssumeRole", caller=aws.admin.access_key_id)
    assert [call.failed for call in calls] == [False, True, True]
    assert calls[0].issued_key_id.startswith("ASIA")
    assert calls[0].parameters["SourceIdentity"] == "alice"
    assert calls[0].parameters["ExternalId"] == "***"
    assert gate.sts_calls(action="GetSessionToken") == []


def test_the_file_of_the_log_has_what_the_log_has(aws: AwsDouble, tmp_path: Path) -> None:
    role = aws.gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], require_mfa=True)
    serial = f"arn:aws:iam::{ACCOUNT}:mfa/etl"
    code = aws.gate.new_mfa_code(serial)
    session = session_of(ask(client(aws, "sts"), role, SerialNumber=serial, TokenCode=code))
    client(aws, "sts", session).get_caller_identity()
    log = RequestLog(tmp_path / "log.jsonl")
    for number, entry in enumerate(aws.gate.log.entries()):
        log.put(number, entry, last=True)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["parameters"]["SerialNumber"] == serial
    assert "TokenCode" not in first["parameters"]
    assert first["issued_key_id"] == second["access_key_id"] == session.access_key_id
    assert session.expires_at is not None
    assert second["expires_at"] == session.expires_at.isoformat()
    assert (first["expires_at"], first["service"]) == (None, "sts")


def test_requests_after_the_end_are_found(aws: AwsDouble) -> None:
    gate = aws.gate
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], session_lifetime=5, allow=EVERYTHING)
    session = session_of(ask(client(aws, "sts"), role))
    assert aws.request("GET", "/bkt", credentials=session).status == 200
    gate.expire_sessions(role)
    assert aws.request("GET", "/bkt", credentials=session).status == 400
    assert gate.expired_requests() == []  # it could not know
    gate.clock_offset = 6
    assert aws.request("GET", "/bkt", credentials=session).status == 400
    refused(client(aws, "sts", session).get_caller_identity)
    late = gate.expired_requests()
    assert [(e.action, e.error_code) for e in late] == [("ListObjects", "ExpiredToken")]
    assert late[0].access_key_id == session.access_key_id
    assert late[0].expires_at == session.expires_at
    assert [e.service for e in gate.expired_requests(service=None)] == ["s3", "sts"]


def test_an_ended_session_is_answered_as_other_stores_do(aws: AwsDouble) -> None:
    gate = aws.gate
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], allow=EVERYTHING)
    session = session_of(ask(client(aws, "sts"), role))
    gate.expire_sessions(role)
    gate.expired_as = "AccessDenied"
    status, _, body = aws.request("GET", "/bkt/k", credentials=session)
    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)
    assert aws.request("HEAD", "/bkt/k", credentials=session)[::2] == (403, b"")
    gate.expired_as = ""
    for method in ("GET", "HEAD"):
        answer = aws.request(method, "/bkt/k", credentials=session)
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (400, b"", "0")
    # Whoever may not is still told so.
    reader = gate.add_user(ACCOUNT, "reader")
    assert aws.request("GET", "/bkt/k", credentials=reader.credentials).status == 403


def test_revoking_is_a_deny_and_only_for_what_was_issued_before(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    first = gate.add_role(ACCOUNT, "first", trust=[aws.admin.arn], allow=EVERYTHING)
    second = gate.add_role(ACCOUNT, "second", trust=[first], allow=EVERYTHING)
    old = session_of(ask(sts, first))
    chained = session_of(ask(client(aws, "sts", old), second))
    assert gate.revoke_sessions(first) == 1
    new = session_of(ask(sts, first))
    answers = [aws.request("GET", "/bkt", credentials=session) for session in (old, new, chained)]
    assert [answer.status for answer in answers] == [403, 200, 200]
    assert b"<Code>AccessDenied</Code>" in answers[0].body
    assert asked(client(aws, "sts", old), second) == ("AccessDenied", 403)
    # Who one is, one may ask without any permission.
    assert client(aws, "sts", old).get_caller_identity()["Account"] == ACCOUNT
    assert ask(client(aws, "sts", new), second)
    # Expiry is part of the signature's check and so comes first.
    gate.expire_sessions(first)
    assert aws.request("GET", "/bkt", credentials=old).status == 400


def test_a_server_whose_clock_is_an_hour_off(aws: AwsDouble) -> None:
    gate = aws.gate
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], allow=EVERYTHING)
    gate.clock_offset = 3600
    assert asked(client(aws, "sts"), role) == ("SignatureDoesNotMatch", 403)
    session = gate.service_session(
        gate.add_role(ACCOUNT, "host", trust=["ec2.amazonaws.com"], allow=EVERYTHING),
        "ec2.amazonaws.com",
        "i-1",
        900,
    )
    assert session.issued_at is not None
    assert abs((session.issued_at - gate.now()).total_seconds()) < 2
    assert session.lifetime == 900
    now = gate.now()
    assert aws.request("GET", "/bkt", credentials=session, at=now).status == 200
    late = now - timedelta(seconds=901)
    assert b"RequestTimeTooSkewed" in aws.request("GET", "/bkt", at=late).body
