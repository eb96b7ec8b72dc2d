"""The gate refuses what AWS refuses: wrong keys, missing grants, ended sessions."""

from __future__ import annotations

import http.client
import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from engine.errors import UsageError
from engine.testing.aws import ACCOUNT, AwsDouble
from engine.types import Credentials
from tests.unit.testing.sdk import client, refused, session_of

OTHER = "999900001111"
EVERYTHING = (("*", "*"),)


def assumed(sts: Any, arn: str, **arguments: Any) -> Credentials:
    return session_of(sts.assume_role(RoleArn=arn, RoleSessionName="test", **arguments))


def test_who_is_unknown_wrong_or_late_is_refused(aws: AwsDouble) -> None:
    good = aws.admin.credentials
    nobody = client(aws, "s3", Credentials("AKIANOBODY", "x"))
    assert refused(nobody.list_objects_v2, Bucket="bkt") == ("InvalidAccessKeyId", 403)
    liar = client(aws, "s3", Credentials(good.access_key_id, "x"))
    assert refused(liar.list_objects_v2, Bucket="bkt") == ("SignatureDoesNotMatch", 403)
    stray = client(aws, "s3", Credentials(good.access_key_id, good.secret_access_key, "t"))
    assert refused(stray.list_objects_v2, Bucket="bkt") == ("InvalidToken", 400)
    late = datetime.now(UTC) - timedelta(seconds=1000)
    status, _, body = aws.request("GET", "/bkt", at=late)
    assert (status, b"RequestTimeTooSkewed" in body) == (403, True)
    aws.gate.clock_offset = -1000
    assert aws.request("GET", "/bkt", at=late)[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", aws.gate.port, timeout=10)
    connection.request("GET", "/bkt/k")
    assert connection.getresponse().status == 403
    connection.close()


def test_grants_and_bucket_owners(aws: AwsDouble) -> None:
    gate = aws.gate
    gate.put_object("bkt", "k", b"x")
    reader = gate.add_user(ACCOUNT, "reader", allow=[("s3:GetObject", "b*")])
    s3 = client(aws, "s3", reader.credentials)
    assert s3.get_object(Bucket="bkt", Key="k")["Body"].read() == b"x"
    assert refused(s3.put_object, Bucket="bkt", Key="k", Body=b"") == ("AccessDenied", 403)
    assert refused(s3.list_objects_v2, Bucket="bkt") == ("AccessDenied", 403)
    # Who may not list is not told that a key is missing.
    assert refused(s3.head_object, Bucket="bkt", Key="none")[1] == 403
    admin = client(aws, "s3")
    assert refused(admin.head_object, Bucket="bkt", Key="none")[1] == 404
    assert admin.get_object(Bucket="bkt", Key="k", ExpectedBucketOwner=ACCOUNT)
    answer = refused(admin.get_object, Bucket="bkt", Key="k", ExpectedBucketOwner=OTHER)
    assert answer == ("AccessDenied", 403)
    owned = client(aws, "s3", gate.add_user(OTHER, "u", allow=EVERYTHING).credentials)
    owned.create_bucket(Bucket="theirs")
    assert owned.list_objects_v2(Bucket="theirs", ExpectedBucketOwner=OTHER)["KeyCount"] == 0


def test_trust_identity_policy_and_external_id(aws: AwsDouble) -> None:
    gate = aws.gate
    plain = gate.add_user(ACCOUNT, "plain")
    named = gate.add_role(ACCOUNT, "named", trust=[plain.arn])
    by_root = gate.add_role(ACCOUNT, "root", trust=[f"arn:aws:iam::{ACCOUNT}:root"])
    abroad = gate.add_role(OTHER, "abroad", trust=[plain.arn], external_id="x-1")
    sts = client(aws, "sts", plain.credentials)
    assert assumed(sts, named).access_key_id.startswith("ASIA")
    for arn in (by_root, abroad, named + "x"):
        answer = refused(sts.assume_role, RoleArn=arn, RoleSessionName="test")
        assert answer == ("AccessDenied", 403)
    allowed = gate.add_user(ACCOUNT, "plain", allow=[("sts:AssumeRole", "*")])
    sts = client(aws, "sts", allowed.credentials)
    assert assumed(sts, by_root)
    for more in ({}, {"ExternalId": "x-2"}):
        answer = refused(sts.assume_role, RoleArn=abroad, RoleSessionName="test", **more)
        assert answer == ("AccessDenied", 403)
    session = assumed(sts, abroad, ExternalId="x-1")
    arn = client(aws, "sts", session).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::{OTHER}:assumed-role/abroad/test"


def test_durations(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], max_duration=7200)
    first = gate.add_role(ACCOUNT, "first", trust=["ec2.amazonaws.com"])
    second = gate.add_role(ACCOUNT, "second", trust=[first], max_duration=7200)

    def ask(caller: Any, arn: str, seconds: int) -> str:
        with pytest.raises(ClientError) as caught:
            caller.assume_role(RoleArn=arn, RoleSessionName="test", DurationSeconds=seconds)
        assert caught.value.response["Error"]["Code"] == "ValidationError"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return str(caught.value)

    assert "greater than or equal to 900" in ask(sts, role, 899)
    assert "less than or equal to 43200" in ask(sts, role, 43201)
    assert "MaxSessionDuration" in ask(sts, role, 7201)
    host = client(aws, "sts", gate.instance_session(first, 3600))
    assert "role chaining" in ask(host, second, 3601)
    session = assumed(host, second, DurationSeconds=3600)
    assert session.lifetime == 3600
    with pytest.raises(UsageError):
        gate.instance_session(second, 3600)


def test_a_session_ends_after_its_lifetime(aws: AwsDouble) -> None:
    gate = aws.gate
    role = gate.add_role(
        ACCOUNT, "short", trust=[aws.admin.arn], session_lifetime=5, allow=EVERYTHING
    )
    session = assumed(client(aws, "sts"), role)
    s3, sts = client(aws, "s3", session), client(aws, "sts", session)
    gate.put_object("bkt", "k", b"x")
    assert s3.get_object(Bucket="bkt", Key="k")["Body"].read() == b"x"
    assert session.expires_at is not None
    time.sleep((session.expires_at - datetime.now(UTC)).total_seconds() + 0.01)
    assert refused(s3.get_object, Bucket="bkt", Key="k") == ("ExpiredToken", 400)
    # HEAD has no body, so the client sees only the status.
    assert refused(s3.head_object, Bucket="bkt", Key="k") == ("400", 400)
    assert refused(sts.get_caller_identity) == ("ExpiredToken", 403)
    assert gate.log.where(action="HeadObject")[0].error_code == "ExpiredToken"


def test_sessions_are_revoked_and_sts_fails_when_told(aws: AwsDouble) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], allow=EVERYTHING)
    s3 = client(aws, "s3", assumed(sts, role))
    assert gate.revoke_sessions(role) == 1
    assert refused(s3.list_objects_v2, Bucket="bkt") == ("AccessDenied", 403)
    s3 = client(aws, "s3", assumed(sts, role))
    assert s3.list_objects_v2(Bucket="bkt")["KeyCount"] == 0
    assert gate.expire_sessions(role) == 2
    assert refused(s3.list_objects_v2, Bucket="bkt") == ("ExpiredToken", 400)
    gate.deny_sts("Throttling")
    assert refused(sts.assume_role, RoleArn=role, RoleSessionName="test") == ("Throttling", 400)
    gate.deny_sts(None)
    gate.random, gate.sts_fail_rate = random.Random(1), 1.0
    assert refused(sts.assume_role, RoleArn=role, RoleSessionName="test")[1] == 500


def test_a_session_policy_only_takes_away(aws: AwsDouble) -> None:
    role = aws.gate.add_role(
        ACCOUNT, "r", trust=[aws.admin.arn], allow=[("s3:PutObject", "*"), ("s3:GetObject", "*")]
    )
    allow = {"Effect": "Allow", "Action": ["s3:PutObject", "s3:ListBucket"], "Resource": "*"}
    narrow = {**allow, "Resource": ["arn:aws:s3:::bkt", "arn:aws:s3:::bkt/in/*"]}
    sts = client(aws, "sts")
    policy = json.dumps({"Version": "2012-10-17", "Statement": [narrow]})
    s3 = client(aws, "s3", assumed(sts, role, Policy=policy))
    s3.put_object(Bucket="bkt", Key="in/k", Body=b"")
    assert refused(s3.put_object, Bucket="bkt", Key="out/k", Body=b"") == ("AccessDenied", 403)
    assert refused(s3.get_object, Bucket="bkt", Key="in/k") == ("AccessDenied", 403)
    assert refused(s3.list_objects_v2, Bucket="bkt") == ("AccessDenied", 403)
    for text, code in (("{", "MalformedPolicyDocument"), ("x" * 2049, "PackedPolicyTooLarge")):
        answer = refused(sts.assume_role, RoleArn=role, RoleSessionName="test", Policy=text)
        assert answer == (code, 400)
