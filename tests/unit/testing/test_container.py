"""The double of the container credentials endpoint, as ECS and EKS Pod Identity have it."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.errors import UsageError
from engine.testing.aws import ACCOUNT, AwsDouble
from engine.testing.container import ECS, EKS, ContainerDouble
from engine.testing.gate_iam import Accounts, Role
from engine.types import Credentials

ARN = "arn:aws:iam::111122223333:role/etl-task"
boto3: Any = importlib.import_module("boto3")  # it has no types


class Sessions:
    """The gate's part, with a clock that a test moves."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.accounts.add_role(Role(ARN, (ECS,), (), None, 3600, None))
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def service_session(
        self,
        role_arn: str,
        service: str,
        session_name: str,
        lifetime: float,
        transitive_tags: Mapping[str, str] | None = None,
    ) -> Credentials:
        return self.accounts.service_session(role_arn, service, session_name, lifetime, self.now())


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def container(sessions: Sessions) -> Iterator[ContainerDouble]:
    with ContainerDouble(sessions) as double:
        double.role_arn = ARN
        yield double


def call(
    container: ContainerDouble, token: str | None = "", method: str = "GET", path: str = ""
) -> tuple[int, dict[str, str], http.client.HTTPMessage]:
    """One request with the right token, another one, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=5)
    used = container.token if token == "" else token
    headers = {"Accept": "application/json"} | ({"Authorization": used} if used else {})
    try:
        connection.request(method, path or urlsplit(container.full_uri).path, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text else {}, response.headers
    finally:
        connection.close()


def test_the_document_and_who_gets_it(container: ContainerDouble) -> None:
    status, document, headers = call(container)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert set(document) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert document["RoleArn"] == ARN
    assert document["AccessKeyId"].startswith("ASIA")
    container.with_account_id = True
    assert call(container)[1]["AccountId"] == ACCOUNT
    assert container.token is not None
    for token in (None, "guess", f"x{container.token}"):
        assert call(container, token)[0] == 401
    assert call(container, path="/v2/credentials/other")[0] == 404
    assert call(container, method="POST")[0] == 405
    entries = container.requests()
    assert [e.status for e in entries] == [200, 200, 401, 401, 401, 404, 405]
    assert [e.with_token for e in entries] == [True, True, False, True, True, True, True]
    assert {e.accept for e in entries} == {"application/json"}
    assert container.token not in repr((container, entries))


def test_a_rotated_token_shuts_the_old_one_out(container: ContainerDouble) -> None:
    old = container.token
    new = container.rotate_token()
    assert call(container, old)[0] == 401
    assert call(container, new)[0] == 200
    container.token = None  # ECS asks for none
    assert call(container, None)[0] == 200
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN" not in container.environment()


def test_the_same_set_until_five_minutes_before_the_end(
    container: ContainerDouble, sessions: Sessions
) -> None:
    container.lifetime = 3600
    first = call(container)[1]
    sessions.ahead = 3600 - 305
    assert call(container)[1] == first
    sessions.ahead = 3600 - 295
    second = call(container)[1]
    assert second["AccessKeyId"] != first["AccessKeyId"]
    container.margin = 3590
    sessions.ahead += 20
    assert call(container)[1]["AccessKeyId"] != second["AccessKeyId"]
    container.frozen = True
    last = call(container)[1]
    sessions.ahead += 10_000
    assert call(container)[1] == last


def test_dates_are_by_the_clock_of_the_sessions(
    container: ContainerDouble, sessions: Sessions
) -> None:
    sessions.ahead, container.lifetime = -3600, 900
    _, document, headers = call(container)
    ends = datetime.fromisoformat(document["Expiration"])
    assert 898 <= (ends - parsedate_to_datetime(headers["Date"])).total_seconds() <= 900
    assert ends < datetime.now(UTC)


def test_faults(container: ContainerDouble) -> None:
    container.failures_left = 2
    assert [call(container)[0] for _ in range(3)] == [500, 500, 200]
    container.error_code = "TooBusy"
    status, document, _ = call(container)
    assert (status, document["code"]) == (400, "TooBusy")
    container.error_status = 200
    status, document, _ = call(container)
    assert (status, "AccessKeyId" in document) == (200, False)
    container.error_code = None
    container.rate_limit = 1
    assert [call(container)[0] for _ in range(2)] == [200, 429]
    container.rate_limit = None
    container.delay = 0.05
    began = time.monotonic()
    assert call(container)[0] == 200
    assert time.monotonic() - began >= 0.05
    container.role_arn = None
    assert call(container)[0] == 404


def test_a_redirect_shows_whether_it_is_followed(
    container: ContainerDouble, sessions: Sessions
) -> None:
    with ContainerDouble(sessions) as other:
        other.role_arn, other.token = ARN, None
        container.redirect_to = other.full_uri
        status, document, headers = call(container)
        assert (status, document, headers["Location"]) == (307, {}, other.full_uri)
        assert other.requests() == []
        assert call(other)[0] == 200


def test_a_reset_is_a_fresh_start(container: ContainerDouble) -> None:
    old = container.full_uri, container.token
    call(container)
    container.failures_left = 3
    container.reset()
    assert container.requests() == []
    assert (container.full_uri, container.token) != old
    container.role_arn = ARN
    assert call(container)[0] == 200


def test_the_aws_client_takes_its_keys_from_here(
    aws: AwsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = aws.container
    task = aws.gate.add_role(ACCOUNT, "task", trust=[ECS], allow=[("*", "*")])
    container.role_arn = task
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name, value in container.environment().items():
        monkeypatch.setenv(name, value)
    session = boto3.Session(region_name=aws.region)
    assert session.get_credentials().method == "container-role"
    sts = session.client("sts", endpoint_url=aws.endpoint)
    expected = f"arn:aws:sts::{ACCOUNT}:assumed-role/task/task-1"
    assert sts.get_caller_identity()["Arn"] == expected
    assert [r.status for r in container.requests()] == [200]
    aws.reset()
    assert container.requests() == []


def test_tags_of_pod_identity_go_along_the_chain(aws: AwsDouble) -> None:
    gate, container = aws.gate, aws.container
    pod = gate.add_role(ACCOUNT, "pod", trust=[EKS])
    closed = gate.add_role(ACCOUNT, "closed", trust=[pod], tag_session=False)
    container.role_arn, container.lifetime = pod, 3600
    status, document, _ = call(container)
    assert (status, "does not trust ecs-tasks" in document["message"]) == (500, True)
    container.service = EKS
    container.transitive_tags = {"kubernetes-namespace": "jobs"}
    document = call(container)[1]
    sts = boto3.client(
        "sts",
        endpoint_url=aws.endpoint,
        region_name=aws.region,
        aws_access_key_id=document["AccessKeyId"],
        aws_secret_access_key=document["SecretAccessKey"],
        aws_session_token=document["Token"],
    )
    with pytest.raises(sts.exceptions.ClientError, match="sts:TagSession"):
        sts.assume_role(RoleArn=closed, RoleSessionName="test")
    with pytest.raises(UsageError):
        gate.service_session(pod, ECS, "x", 900)
