"""The double of the instance metadata service keeps the rules of IMDSv2."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

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


def test_version_one_only_when_it_is_allowed(imds: ImdsDouble) -> None:
    imds.allow_v1 = True
    assert call(imds, "GET", CREDENTIALS)[:2] == (200, "etl-host")
    assert json.loads(call(imds, "GET", CREDENTIALS + "etl-host")[1])["Code"] == "Success"
    # A token that is wrong stays wrong.
    assert call(imds, "GET", CREDENTIALS, {"X-aws-ec2-metadata-token": "guess"})[0] == 401
    assert call(imds, "GET", CREDENTIALS, token(imds))[0] == 200


def test_an_answer_that_may_not_make_the_hop_never_comes(imds: ImdsDouble) -> None:
    imds.hop_limit_exceeded = imds.allow_v1 = True
    with socket.create_connection(("127.0.0.1", imds.port)) as connection:
        connection.settimeout(0.1)
        connection.sendall(
            b"PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\n"
            b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
        )
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert [(r.method, r.status) for r in imds.requests()] == [("PUT", 0)]
    assert call(imds, "GET", CREDENTIALS)[0] == 200  # only the answer to PUT has the limit
    imds.hop_limit_exceeded = False
    assert token(imds)


def test_tokens_are_forgotten_and_say_how_long_they_live(imds: ImdsDouble) -> None:
    asked = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    status, text, answer = call(imds, "PUT", "/latest/api/token", asked)
    assert (status, answer["X-aws-ec2-metadata-token-ttl-seconds"]) == (200, "60")
    headers = {"X-aws-ec2-metadata-token": text}
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 200
    imds.forget_tokens()
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 401


def test_an_error_comes_with_status_200(imds: ImdsDouble) -> None:
    headers = token(imds)
    imds.error_code = "AssumeRoleUnauthorizedAccess"
    status, text, _ = call(imds, "GET", CREDENTIALS + "etl-host", headers)
    document = json.loads(text)
    assert (status, document["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    assert "AccessKeyId" not in document
    imds.error_code = None
    imds.role_arn = ARN + "-unknown"
    status, text, _ = call(imds, "GET", CREDENTIALS + "etl-host-unknown", headers)
    assert (status, json.loads(text)["Code"]) == (200, "AssumeRoleUnauthorizedAccess")
    imds.role_arn = ARN
    assert json.loads(call(imds, "GET", CREDENTIALS + "etl-host", headers)[1])["AccessKeyId"]


def test_too_many_requests_are_throttled(imds: ImdsDouble) -> None:
    headers = token(imds)
    imds.rate_limit = 3
    statuses = [call(imds, "GET", CREDENTIALS, headers)[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    imds.rate_limit = None
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 200
    imds.failures_left, imds.failure_status = 1, 500
    assert call(imds, "GET", CREDENTIALS, headers)[0] == 500


def test_by_itself_a_new_set_appears_five_minutes_before_the_end_or_at_half_time(
    imds: ImdsDouble, sessions: Sessions
) -> None:
    headers = token(imds)

    def key_id() -> str:
        text = call(imds, "GET", CREDENTIALS + "etl-host", headers)[1]
        return str(json.loads(text)["AccessKeyId"])

    first = key_id()
    sessions.ahead = 21_600 - 305
    assert key_id() == first
    sessions.ahead = 21_600 - 295
    imds.lifetime = 20
    second = key_id()
    assert second != first
    sessions.ahead += 7
    assert key_id() == second
    sessions.ahead += 5
    assert key_id() != second


def test_dates_are_by_the_clock_of_the_sessions(imds: ImdsDouble, sessions: Sessions) -> None:
    sessions.ahead, imds.lifetime = 3600, 900
    headers = token(imds)
    _, text, answer = call(imds, "GET", CREDENTIALS + "etl-host", headers)
    date = parsedate_to_datetime(answer["Date"])
    ends = datetime.fromisoformat(json.loads(text)["Expiration"])
    assert 898 <= (ends - date).total_seconds() <= 900
    assert (date - datetime.now(UTC)).total_seconds() > 3590


def test_the_aws_client_takes_its_keys_from_here(
    imds: ImdsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.endpoint)
    boto3 = importlib.import_module("boto3")
    found = boto3.Session().get_credentials()
    assert found.method == "iam-role"
    assert found.access_key.startswith("ASIA")
    assert [r.method for r in imds.requests()] == ["PUT", "GET", "GET"]


def test_an_instance_without_a_role(imds: ImdsDouble) -> None:
    imds.role_arn = None
    assert call(imds, "GET", CREDENTIALS, token(imds))[0] == 404
