"""The second SigV4 against botocore's signer, which AWS publishes and uses."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from engine.testing import sigv4
from engine.types import Credentials

KEYS = [
    "plain",
    "a b",
    "a+b",
    "a%20b",
    "../x",
    "x//y",
    "#h",
    "ü/日本",
    "-dash",
    "a&b=c?d",
    "~_.-",
    "a:b@c",
]
LONG_TERM = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = Credentials("ASIAEXAMPLE", "secret/+", "IQoJ/token+==")


def _boto(service: str, method: str, url: str, body: bytes, credentials: Credentials) -> AWSRequest:
    signer = {"s3": S3SigV4Auth}.get(service, SigV4Auth)
    request = AWSRequest(method=method, url=url, data=body, headers={"X-Amz-Meta-A": "b   c"})
    request.context["client_config"] = None
    request.context["payload_signing_enabled"] = True
    boto = BotoCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )
    signer(boto, service, "eu-west-1").add_auth(request)
    return request


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("credentials", [LONG_TERM, SESSION], ids=["long", "session"])
def test_a_signed_object_request_is_what_botocore_signs(key: str, credentials: Credentials) -> None:
    query = "list-type=2&prefix=a%2Fb%20c&uploads&x=%2B"
    url = f"http://127.0.0.1:9000/bucket/{quote(key, safe='/-_.~')}?{query}"
    theirs = _boto("s3", "PUT", url, b"hello", credentials)
    at = sigv4.parse_timestamp(theirs.context["timestamp"])
    ours = sigv4.sign(
        "PUT",
        url,
        {"X-Amz-Meta-A": "b   c"},
        hashlib.sha256(b"hello").hexdigest(),
        credentials,
        "eu-west-1",
        "s3",
        at,
    )
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert ours.get("X-Amz-Security-Token") == credentials.session_token


def test_other_services_encode_the_path_twice() -> None:
    url = "https://service.eu-west-1.amazonaws.com/a%20b/c?x=1"
    theirs = _boto("execute-api", "POST", url, b"body", SESSION)
    at = sigv4.parse_timestamp(theirs.context["timestamp"])
    ours = sigv4.sign(
        "POST",
        url,
        {"X-Amz-Meta-A": "b   c"},
        hashlib.sha256(b"body").hexdigest(),
        SESSION,
        "eu-west-1",
        "execute-api",
        at,
    )
    assert ours["Authorization"] == theirs.headers["Authorization"]


def test_the_default_port_is_no_part_of_the_host() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with_port, without = (
        sigv4.sign("GET", url, {}, sigv4.EMPTY_SHA256, LONG_TERM, "us-east-1", "s3", at)
        for url in ("https://h:443/b", "https://h/b")
    )
    assert with_port == without


def test_a_signature_is_found_again_from_the_received_request() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    url = "http://h:1/b/k%2B?b=2&a=1"
    headers = sigv4.sign("GET", url, {}, sigv4.EMPTY_SHA256, SESSION, "us-east-1", "s3", at)
    authorization = sigv4.parse_authorization(headers["Authorization"])
    received = [(name.upper(), f"  {value} ") for name, value in headers.items()]

    def again(target: str) -> str:
        return sigv4.expected_signature(
            authorization,
            "GET",
            target,
            received,
            sigv4.EMPTY_SHA256,
            SESSION.secret_access_key,
            headers["X-Amz-Date"],
        )

    assert sigv4.same_signature(again("/b/k%2B?b=2&a=1"), authorization.signature)
    assert sigv4.same_signature(again("/b/k+?a=1&b=2"), authorization.signature)
    assert not sigv4.same_signature(again("/b/k%20?a=1&b=2"), authorization.signature)


@pytest.mark.parametrize("text", ["", "Basic abc", "AWS AKID:sig", "AWS4-HMAC-SHA256 Credential=a"])
def test_another_authorization_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        sigv4.parse_authorization(text)
