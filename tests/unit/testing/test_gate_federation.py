"""Sessions by a web identity and by SAML: unsigned, and refused for every reason by its name."""

from __future__ import annotations

import base64
import http.client
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from engine.errors import UsageError
from engine.testing.aws import ACCOUNT, AwsDouble
from engine.types import Credentials
from tests.unit.testing import sdk
from tests.unit.testing.sdk import refused, session_of

ISSUER = "https://oidc.example/id/1"
SUBJECT = "system:serviceaccount:jobs:etl"
EVERYTHING = (("*", "*"),)


def client(aws: AwsDouble, service: str, credentials: Credentials | None = None) -> Any:
    """Of nobody, if not said otherwise: these calls are not signed."""
    return sdk.client(aws, service, credentials or Credentials("none", "none"))


@pytest.fixture
def pod(aws: AwsDouble) -> str:
    """A role that trusts one service account."""
    role = aws.gate.add_role(ACCOUNT, "pod", max_duration=43200, allow=EVERYTHING)
    aws.gate.trust_web_identity(role, issuer=ISSUER, subject="system:serviceaccount:jobs:*")
    return role


@pytest.fixture
def person(aws: AwsDouble) -> tuple[str, str]:
    """A role that trusts a SAML identity provider, and the provider."""
    role = aws.gate.add_role(ACCOUNT, "person", max_duration=43200, allow=EVERYTHING)
    return role, aws.gate.trust_saml(role)


def web(role: str, token: str, **more: Any) -> dict[str, Any]:
    return {"RoleArn": role, "RoleSessionName": "pod", "WebIdentityToken": token, **more}


def test_a_web_token_opens_a_role_without_a_signature(aws: AwsDouble, pod: str) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    token = gate.new_web_token(SUBJECT, ISSUER)
    answer = sts.assume_role_with_web_identity(**web(pod, token, DurationSeconds=43200))
    session = session_of(answer)
    assert session.lifetime == 43200
    assert answer["SubjectFromWebIdentityToken"] == SUBJECT
    assert answer["Provider"] == f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.example/id/1"
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/pod/pod"
    assert client(aws, "s3", session).list_objects_v2(Bucket="bkt")["KeyCount"] == 0
    call = gate.sts_calls(action="AssumeRoleWithWebIdentity")[0]
    assert (call.principal, call.failed) == ("", False)
    assert call.issued_key_id == session.access_key_id
    assert "WebIdentityToken" not in call.parameters
    # The next role is chained, the first was not.
    second = gate.add_role(ACCOUNT, "second", trust=[pod], max_duration=7200)
    host = client(aws, "sts", session)
    asked = {"RoleArn": second, "RoleSessionName": "test"}
    assert refused(host.assume_role, **asked, DurationSeconds=3601) == ("ValidationError", 400)
    assert session_of(host.assume_role(**asked, DurationSeconds=3600)).lifetime == 3600


def test_an_authorization_header_is_not_looked_at(aws: AwsDouble, pod: str) -> None:
    form = web(pod, aws.gate.new_web_token(SUBJECT, ISSUER))
    body = urlencode({"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", **form})
    connection = http.client.HTTPConnection("127.0.0.1", aws.gate.port, timeout=10)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "AWS4-HMAC-SHA256 nonsense",
    }
    connection.request("POST", "/", body, headers)
    assert connection.getresponse().status == 200
    connection.close()


def test_why_a_web_token_is_refused(aws: AwsDouble, pod: str) -> None:
    gate = aws.gate
    call = client(aws, "sts").assume_role_with_web_identity
    good = gate.new_web_token(SUBJECT, ISSUER)
    other = gate.add_role(ACCOUNT, "other")
    foreign = gate.new_web_token(SUBJECT, "https://elsewhere.example")
    mine = gate.new_web_token(SUBJECT, ISSUER, audience="me")
    nobody = gate.new_web_token("system:serviceaccount:web:x", ISSUER)
    ended = gate.new_web_token(SUBJECT, ISSUER, 0)
    assert refused(call, **web(pod, good + "x")) == ("InvalidIdentityToken", 400)
    assert refused(call, **web(pod, foreign)) == ("InvalidIdentityToken", 400)
    assert refused(call, **web(pod, mine)) == ("InvalidIdentityToken", 400)
    assert refused(call, **web(pod, ended)) == ("ExpiredTokenException", 400)
    for role, token in ((pod, nobody), (other, good), (pod + "x", good)):
        assert refused(call, **web(role, token)) == ("AccessDenied", 403)
    assert refused(call, **web(pod, "abc")) == ("ValidationError", 400)
    assert refused(call, **web(pod, "x" * 20_001)) == ("ValidationError", 400)
    assert refused(call, **web(pod, "x" * 20_000)) == ("InvalidIdentityToken", 400)
    for seconds in (899, 43201):
        answer = refused(call, **web(pod, good, DurationSeconds=seconds))
        assert answer == ("ValidationError", 400)
    gate.reject_token(good)
    assert refused(call, **web(pod, good)) == ("IDPRejectedClaim", 403)
    gate.faults.add(kind="status", action="*WebIdentity", code="IDPCommunicationError")
    assert refused(call, **web(pod, good)) == ("IDPCommunicationError", 400)
    with pytest.raises(UsageError):
        gate.reject_token("unknown")
    with pytest.raises(UsageError):
        gate.trust_web_identity(pod + "x", issuer=ISSUER)


def test_a_web_token_ends_by_the_clock_of_the_gate(aws: AwsDouble, pod: str) -> None:
    gate = aws.gate
    call = client(aws, "sts").assume_role_with_web_identity
    gate.clock_offset = -3600
    token = gate.new_web_token(SUBJECT, ISSUER, 60)
    assert call(**web(pod, token))
    gate.clock_offset = -3600 + 61
    assert refused(call, **web(pod, token)) == ("ExpiredTokenException", 400)
    assert call(**web(pod, gate.new_web_token(SUBJECT, ISSUER, 60)))


def test_the_gate_shortens_sessions_of_a_web_identity_too(aws: AwsDouble) -> None:
    role = aws.gate.add_role(ACCOUNT, "short", session_lifetime=8)
    aws.gate.trust_web_identity(role, issuer=ISSUER)
    sts = client(aws, "sts")
    token = aws.gate.new_web_token(SUBJECT, ISSUER)
    assert session_of(sts.assume_role_with_web_identity(**web(role, token))).lifetime == 8
    long = refused(sts.assume_role_with_web_identity, **web(role, token, DurationSeconds=3601))
    assert long == ("ValidationError", 400)


def saml(person: tuple[str, str], assertion: str, **more: Any) -> dict[str, Any]:
    role, provider = person
    return {"RoleArn": role, "PrincipalArn": provider, "SAMLAssertion": assertion, **more}


def test_a_saml_assertion_opens_a_role(aws: AwsDouble, person: tuple[str, str]) -> None:
    gate, sts = aws.gate, client(aws, "sts")
    end = gate.now() + timedelta(seconds=1800)
    assertion = gate.new_saml_assertion(person[0], end)
    root = ElementTree.fromstring(base64.b64decode(assertion, validate=True))
    statement = root.find(".//{urn:oasis:names:tc:SAML:2.0:assertion}AuthnStatement")
    assert statement is not None
    assert statement.get("SessionNotOnOrAfter") == end.strftime("%Y-%m-%dT%H:%M:%SZ")
    session = session_of(sts.assume_role_with_saml(**saml(person, assertion)))
    assert session.lifetime is not None
    assert 1790 <= session.lifetime <= 1800
    arn = client(aws, "sts", session).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/person/alice"
    assert client(aws, "s3", session).list_objects_v2(Bucket="bkt")["KeyCount"] == 0
    # The shorter of the two counts.
    short = session_of(sts.assume_role_with_saml(**saml(person, assertion, DurationSeconds=900)))
    assert short.lifetime == 900
    free = gate.new_saml_assertion(person[0])
    asked = saml(person, free, DurationSeconds=43200)
    assert session_of(sts.assume_role_with_saml(**asked)).lifetime == 43200
    call = gate.sts_calls(action="AssumeRoleWithSAML")[0]
    assert "SAMLAssertion" not in call.parameters
    assert call.parameters["PrincipalArn"] == person[1]


def test_why_an_assertion_is_refused(aws: AwsDouble, person: tuple[str, str]) -> None:
    gate = aws.gate
    call = client(aws, "sts").assume_role_with_saml
    good = gate.new_saml_assertion(person[0])
    other = gate.add_role(ACCOUNT, "other")
    stranger = person[0], person[1] + "x"
    assert refused(call, **saml(person, good[4:])) == ("InvalidIdentityToken", 400)
    assert refused(call, **saml(stranger, good)) == ("InvalidIdentityToken", 400)
    assert refused(call, **saml((other, person[1]), good)) == ("AccessDenied", 403)
    for_other = gate.new_saml_assertion(other)
    assert refused(call, **saml(person, for_other)) == ("AccessDenied", 403)
    assert refused(call, **saml((other, person[1]), for_other)) == ("AccessDenied", 403)
    assert refused(call, **saml(person, "x" * 100_001)) == ("ValidationError", 400)
    assert refused(call, **saml(person, "abc")) == ("ValidationError", 400)
    over = gate.new_saml_assertion(person[0], gate.now())
    assert refused(call, **saml(person, over)) == ("ExpiredTokenException", 400)
    gate.clock_offset = 299
    assert call(**saml(person, good))
    gate.clock_offset = 301
    assert refused(call, **saml(person, good)) == ("ExpiredTokenException", 400)
    gate.reject_token(good)
    assert refused(call, **saml(person, good)) == ("IDPRejectedClaim", 403)


def test_knobs_of_sts_reach_every_call_for_a_session(aws: AwsDouble, pod: str) -> None:
    gate = aws.gate
    call = client(aws, "sts").assume_role_with_web_identity
    token = gate.new_web_token(SUBJECT, ISSUER)
    gate.deny_sts("Throttling")
    assert refused(call, **web(pod, token)) == ("Throttling", 400)
    gate.deny_sts(None)
    gate.sts_fail_rate = 1.0
    assert refused(call, **web(pod, token))[1] == 500
    gate.sts_fail_rate = 0.0
    gate.disable_sts(ACCOUNT)
    assert refused(call, **web(pod, token)) == ("RegionDisabledException", 403)
    text = repr((gate, gate.log.entries(), gate.accounts, gate.accounts.role(pod)))
    assert token not in text
