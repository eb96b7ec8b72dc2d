"""The double of the instance metadata service keeps the rules of IMDSv2."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from engine.testing.gate_iam import Accounts, Role
from engine.testing.imds import ImdsDouble
from engine.types import Credentials

ARN = "arn:aws:iam::111122223333:role/etl-host"
CREDENTIALS = "/latest/meta-data/iam/security-credentials/"


class Sessions:
    """The gate's part, with a clock that a test moves."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.accounts.add_role(Role(ARN, ("ec2.amazonaws.com",), (), None, 3600, None))
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def instance_session(self, role_arn: str, lifetime: float) -> Credentials:
        return self.accounts.service_session(
            role_arn, "ec2.amazonaws.com", "i-1", lifetime, self.now()
        )


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def imds(sessions: Sessions) -> Iterator[ImdsDouble]:
    with ImdsDouble(sessions, region="eu-west-1") as double:
        double.role_arn = ARN
        yield double


def call(
    imds: ImdsDouble, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", imds.port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def token(imds: ImdsDouble, ttl: str = "21600") -> dict[str, str]:
    status, text, _ = call(
        imds, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
    )
    assert status == 200
    return {"X-aws-ec2-metadata-token": text}


def test_a_token_opens_role_credentials_and_region(imds: ImdsDouble) -> None:
    headers = token(imds)
    assert call(imds, "GET", CREDENTIALS, headers)[:2] == (200, "etl-host")
    status, text, _ = call(imds, "GET", CREDENTIALS + "etl-host", headers)
    document = json.loads(text)
    assert status == 200
    assert document["Code"] == "Success"
    assert document["AccessKeyId"].startswith("ASIA")
    assert set(document) >= {"SecretAccessKey", "Token", "Expiration", "LastUpdated", "Type"}
    assert call(imds, "GET", "/latest/meta-data/placement/region", headers)[1] == "eu-west-1"


def test_without_a_token_there_is_nothing_and_never_version_one(imds: ImdsDouble) -> None:
    assert call(imds, "GET", CREDENTIALS)[0] == 401
    assert call(imds, "GET", CREDENTIALS, {"X-aws-ec2-metadata-token": "guess"})[0] == 401
    assert [r.status for r in imds.requests()] == [401, 401]


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "abc"])
def test_a_wrong_lifetime_of_a_token_is_refused(imds: ImdsDouble, ttl: str) -> None:
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": ttl} if ttl else {}
    assert call(imds, "PUT", "/latest/api/token", headers)[0] == 400


def test_a_forwarded_request_for_a_token_is_refused(imds: ImdsDouble) -> None:
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60", "X-Forwarded-For": "10.0.0.1"}
    assert call(imds, "PUT", "/latest/api/token", headers)[0] == 403


def test_a_token_ends(imds: ImdsDouble) -> None:
    imds.max_token_ttl = 0.1
    headers = token(imds)
    time.sleep(0.15)
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 401


def test_the_same_set_is_served_until_the_margin(imds: ImdsDouble, sessions: Sessions) -> None:
    imds.lifetime, imds.margin = 3600, 300
    headers = token(imds)

    def key_id() -> str:
        text = call(imds, "GET", CREDENTIALS + "etl-host", headers)[1]
        return str(json.loads(text)["AccessKeyId"])

    first = key_id()
    sessions.ahead = 3200
    assert key_id() == first
    sessions.ahead = 3400
    assert key_id() != first


def test_a_frozen_service_goes_on_serving_what_has_ended(
    imds: ImdsDouble, sessions: Sessions
) -> None:
    headers = token(imds)
    first = call(imds, "GET", CREDENTIALS + "etl-host", headers)[1]
    imds.frozen, sessions.ahead = True, 100_000
    assert call(imds, "GET", CREDENTIALS + "etl-host", headers)[1] == first


def test_faults(imds: ImdsDouble) -> None:
    headers = token(imds)
    imds.failures_left = 1
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 503
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 200
    imds.redirect_to = "http://127.0.0.2:1/steal"
    status, _, answer = call(imds, "GET", CREDENTIALS, headers)
    assert (status, answer["Location"]) == (307, imds.redirect_to)
    imds.redirect_to, imds.enabled = None, False
    assert call(imds, "PUT", "/latest/api/token")[0] == 403


def test_an_instance_without_a_role(imds: ImdsDouble) -> None:
    imds.role_arn = None
    assert call(imds, "GET", CREDENTIALS, token(imds))[0] == 404
