"""The container endpoint as a source: ECS, EKS pod identity, and only where keys may come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.providers import container
from engine.credentials.providers.container import ContainerProvider, from_environment
from engine.errors import CredentialsError, SourceUnavailable, UsageError
from engine.testing.clock import run_virtual
from engine.testing.container import EKS, ContainerDouble
from engine.testing.gate import Gate
from engine.threads import ThreadDoor
from tests.unit.credentials.plans import Place
from tests.unit.origin import answers, run_origin, silent

FULL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
KEYS = b'{"AccessKeyId": "ASIAX", "SecretAccessKey": "s", "Token": "t"'


@pytest.fixture
def endpoint(gate: Gate) -> Iterator[ContainerDouble]:
    with ContainerDouble(gate) as double:
        double.service = EKS
        double.role_arn = gate.add_role("111122223333", "pod", trust=[EKS])
        yield double


def provider(environ: dict[str, str]) -> ContainerProvider:
    return ContainerProvider(environ[FULL], environ, ThreadDoor())


async def test_pod_identity_gives_keys_and_its_token_file_is_read_each_time(
    endpoint: ContainerDouble, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    environ = {FULL: endpoint.full_uri, f"{TOKEN}_FILE": str(path), TOKEN: "not this one"}
    source = provider(environ)
    for _ in range(2):
        path.write_text(endpoint.rotate_token())
        credentials = await source.fetch()
        assert credentials.access_key_id.startswith("ASIA")
        assert credentials.lifetime is not None and credentials.lifetime > 21_000
    assert source.is_role
    assert {(r.accept, r.with_token) for r in endpoint.requests()} == {("application/json", True)}


async def test_a_token_of_the_environment_goes_out_to_the_letter(endpoint: ContainerDouble) -> None:
    assert await provider(endpoint.environment()).fetch()
    endpoint.token = None
    assert await provider({FULL: endpoint.full_uri}).fetch()
    assert [r.with_token for r in endpoint.requests()] == [True, False]


@pytest.mark.parametrize("token", ["secret\n", "secret\r\nX-Evil: 1", "sécret"])
async def test_a_token_that_would_end_its_header_is_not_sent(
    endpoint: ContainerDouble, token: str
) -> None:
    with pytest.raises((CredentialsError, UsageError)) as caught:
        await provider({FULL: endpoint.full_uri, TOKEN: token}).fetch()
    assert not caught.value.retryable
    assert "cret" not in str(caught.value)
    assert endpoint.requests() == []


def test_a_token_file_that_is_not_there_is_named() -> None:
    async def main() -> None:
        environ = {FULL: "http://127.0.0.1:9/x", f"{TOKEN}_FILE": "/nowhere/token"}
        with pytest.raises(CredentialsError, match="/nowhere/token.*No such file") as caught:
            await provider(environ).fetch()
        assert not caught.value.retryable

    run_virtual(main)


def test_three_attempts_a_second_apart() -> None:
    async def main() -> None:
        async with run_origin() as origin:
            environ = {FULL: f"http://127.0.0.1:{origin.port}/x?y=1"}
            origin.script.extend([answers(500), answers(429, b"{}"), answers(200, KEYS + b"}")])
            assert (await provider(environ).fetch()).access_key_id == "ASIAX"
            assert anyio.current_time() == pytest.approx(2, abs=0.1)
            assert {r.target for r in origin.requests} == {"/x?y=1"}
            error = b'{"code": "Nope", "message": "token=hunter2 is wrong"}'
            origin.script.extend([answers(400, error)] * 3)
            with pytest.raises(SourceUnavailable, match="answered with 400.*Nope") as caught:
                await provider(environ).fetch()
            assert "hunter2" not in str(caught.value)
            assert len(origin.requests) == 6

    run_virtual(main)


def test_who_does_not_answer_is_given_two_seconds_each_time() -> None:
    async def main() -> None:
        async with run_origin() as origin:
            origin.script.extend([silent] * 3)
            with pytest.raises(SourceUnavailable, match="no usable answer"):
                await provider({FULL: f"http://127.0.0.1:{origin.port}"}).fetch()
            assert anyio.current_time() == pytest.approx(3 * 2 + 2, abs=0.5)

    run_virtual(main)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"AccessKeyId": 1}', b'{"AccessKeyId": "ASIAX"}', KEYS + b', "Expiration": "x"}',
     KEYS + b', "Expiration": "2001-01-01T00:00:00Z"}'],
)  # fmt: skip
def test_what_is_no_living_set_is_refused(body: bytes) -> None:
    async def main() -> None:
        async with run_origin() as origin:
            origin.script.extend([answers(200, body)] * 3)
            with pytest.raises(SourceUnavailable, match="the container endpoint gave"):
                await provider({FULL: f"http://127.0.0.1:{origin.port}"}).fetch()

    run_virtual(main)


async def test_a_redirect_is_not_followed_and_not_tried_again(
    endpoint: ContainerDouble, gate: Gate
) -> None:
    with ContainerDouble(gate) as thief:
        endpoint.redirect_to = thief.full_uri
        with pytest.raises(CredentialsError, match="redirect") as caught:
            await provider(endpoint.environment()).fetch()
        assert not caught.value.retryable
        assert thief.requests() == []


@pytest.mark.parametrize(
    "uri",
    ["https://any.example/x", "http://localhost:1/x", "http://127.9.9.9", "http://[::1]:1/",
     "http://169.254.170.2/x", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1"],
)  # fmt: skip
def test_where_keys_may_come_from(uri: str) -> None:
    assert provider({FULL: uri}).describe().startswith("container role (http")


@pytest.mark.parametrize(
    "uri",
    ["http://example.com/x", "http://169.254.169.254/", "http://10.0.0.1/", "http://2130706433/",
     "http://localhost.example/", "http://localhost@evil/", "http://127.0.0.1.evil/",
     "ftp://127.0.0.1/", "localhost", "", "http://[::1", "http://127.0.0.1:99999/"],
)  # fmt: skip
def test_where_keys_must_not_come_from(uri: str) -> None:
    with pytest.raises(UsageError):
        provider({FULL: uri})


def test_the_relative_uri_wins_and_cannot_name_another_host(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.environ |= {
        FULL: "http://localhost/full",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x",
    }
    assert from_environment(place.context()).describe() == "container role (http://169.254.170.2)"
    assert container.container_uri(place.environ) == "http://169.254.170.2/v2/x"
    place.environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "@evil.example/"
    with pytest.raises(UsageError, match="not a path"):
        from_environment(place.context())


@pytest.mark.slow
async def test_a_broker_keeps_a_task_s_keys_fresh(endpoint: ContainerDouble) -> None:
    endpoint.lifetime = 5
    async with Broker(provider(endpoint.environment()), clock=LoopClock()) as broker:
        keys: set[str] = set()
        with anyio.move_on_after(6):
            while len(keys) < 2:
                keys.add((await broker.lease.ready()).access_key_id)
                await anyio.sleep(0.05)
        assert len(keys) >= 2
        assert broker.statistics().waits_after_first == 0
