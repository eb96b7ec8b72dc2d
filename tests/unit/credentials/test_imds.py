"""The instance metadata service as a source: version 2 only, quick to say no, slow to give up."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from engine.clock import LoopClock
from engine.config import Endpoints
from engine.credentials import Broker, SourceContext
from engine.credentials.providers.imds import ImdsProvider, from_environment
from engine.errors import CredentialsError, SourceMissing, SourceUnavailable, UsageError
from engine.testing.clock import run_virtual
from engine.testing.gate import Gate
from engine.testing.imds import ImdsDouble
from engine.threads import ThreadDoor
from tests.unit.credentials.plans import NoSts
from tests.unit.origin import Exchange, run_origin

EC2 = "ec2.amazonaws.com"
HOUR = 3600.0


@pytest.fixture
def imds(gate: Gate) -> Iterator[ImdsDouble]:
    with ImdsDouble(gate) as double:
        double.role_arn = gate.add_role("111122223333", "etl-host", trust=[EC2])
        yield double


def seconds_left(credentials: Any) -> float:
    return float((credentials.expires_at - credentials.issued_at).total_seconds())


async def test_keys_by_version_two(imds: ImdsDouble) -> None:
    provider = ImdsProvider(imds.endpoint)
    credentials = await provider.fetch()
    assert credentials.access_key_id.startswith("ASIA")
    assert abs(seconds_left(credentials) - imds.lifetime) <= 2
    assert provider.is_role and provider.renews
    assert provider.describe() == "instance role etl-host (IMDSv2)"
    assert [(r.method, r.with_token, r.status) for r in imds.requests()] == [
        ("PUT", False, 200), ("GET", True, 200), ("GET", True, 200),
    ]  # fmt: skip


async def test_a_token_that_was_forgotten_is_got_again_once(imds: ImdsDouble) -> None:
    imds.max_token_ttl = 0.0  # over at once, as if the service had been started anew
    provider = ImdsProvider(imds.endpoint)
    with pytest.raises(SourceUnavailable, match="with 401"):
        await provider.fetch()
    assert [r.status for r in imds.requests()] == [200, 401, 200, 401]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"enabled": False}, "switched off for this instance"),
        ({"role_arn": None}, "No role is attached"),
    ],
)
async def test_what_is_not_set_up_is_missing_and_not_asked_again(
    imds: ImdsDouble, setting: dict[str, Any], words: str
) -> None:
    for name, value in setting.items():
        setattr(imds, name, value)
    async with Broker(ImdsProvider(imds.endpoint), clock=LoopClock()) as broker:
        with pytest.raises(SourceMissing, match=words):
            await broker.lease.ready()
        assert broker.statistics().fetches == 1


async def test_version_one_is_never_asked(imds: ImdsDouble) -> None:
    imds.hop_limit_exceeded = imds.allow_v1 = True
    with pytest.raises(SourceMissing, match="hop limit of 2") as caught:
        await ImdsProvider(imds.endpoint, timeout=0.1).fetch()
    assert "no usable answer" in caught.value.headline
    assert [r.method for r in imds.requests()] == ["PUT"]


async def test_nobody_there_is_missing_at_first_and_trouble_later(imds: ImdsDouble) -> None:
    provider = ImdsProvider(imds.endpoint)
    await provider.fetch()
    port = imds.port
    imds.stop()
    with pytest.raises(SourceUnavailable, match="no usable answer") as caught:
        await provider.fetch()
    assert caught.value.retryable
    with pytest.raises(SourceMissing) as missing:
        await ImdsProvider(f"http://127.0.0.1:{port}").fetch()
    assert not missing.value.retryable


@contextlib.contextmanager
def a_port_that_swallows_everything() -> Iterator[int]:
    """Its queue of connections is full, so that further ones get no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_off_ec2_it_costs_one_second() -> None:
    """Nobody answers at 169.254.169.254 there, neither a connection nor a refusal."""

    async def main(endpoint: str) -> float:
        async with Broker(ImdsProvider(endpoint), clock=LoopClock()) as broker:
            with pytest.raises(SourceMissing, match="Not on EC2"):
                await broker.lease.ready()
            return anyio.current_time()

    with a_port_that_swallows_everything() as port:
        taken = run_virtual(partial(main, f"http://127.0.0.1:{port}"))
    assert taken == pytest.approx(1, abs=0.2)


async def test_as_many_attempts_as_asked_for(imds: ImdsDouble) -> None:
    imds.failures_left = 2
    with pytest.raises(SourceUnavailable, match="with 503"):
        await ImdsProvider(imds.endpoint, attempts=2).fetch()
    imds.failures_left = 2
    assert await ImdsProvider(imds.endpoint, attempts=3).fetch()


async def test_a_redirect_is_not_followed(imds: ImdsDouble, gate: Gate) -> None:
    with ImdsDouble(gate) as thief:
        imds.redirect_to = thief.endpoint
        with pytest.raises(CredentialsError, match="redirect") as caught:
            await ImdsProvider(imds.endpoint).fetch()
        assert not caught.value.retryable
        assert thief.requests() == []


async def test_an_error_in_a_200_is_told(imds: ImdsDouble) -> None:
    imds.error_code = "AssumeRoleUnauthorizedAccess"
    with pytest.raises(SourceUnavailable, match="AssumeRoleUnauthorizedAccess"):
        await ImdsProvider(imds.endpoint).fetch()


async def test_a_set_at_its_end_is_used_on(
    imds: ImdsDouble, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="engine")
    provider = ImdsProvider(imds.endpoint, random=Random(1))
    imds.frozen = True
    first = await provider.fetch()
    gate.clock_offset = imds.lifetime - 100  # EC2 should have had a new one for 200 s
    assert seconds_left(await provider.fetch()) <= 100
    for ahead in (imds.lifetime - 30, imds.lifetime + 5 * HOUR):
        gate.clock_offset = ahead
        again = await provider.fetch()
        assert again.access_key_id == first.access_key_id
        assert 900 + 120 <= seconds_left(again) <= 900 + 600
    assert len(caplog.records) == 1, "told once a set"
    assert first.secret_access_key not in caplog.text
    imds.frozen = False
    assert (await provider.fetch()).access_key_id != first.access_key_id


async def test_a_short_session_is_not_taken_for_one_at_its_end(imds: ImdsDouble) -> None:
    imds.lifetime = 8
    assert seconds_left(await ImdsProvider(imds.endpoint).fetch()) <= 8


class Service:
    """IMDS on the virtual clock: a new set ``margin`` seconds before the end, until ``until``."""

    def __init__(self, lifetime: float = 6 * HOUR, until: float = float("inf")) -> None:
        self.lifetime, self.until = lifetime, until
        self.end = self.begun = 0.0
        self.issued = 0

    async def __call__(self, exchange: Exchange) -> None:
        now = anyio.current_time()
        if now > self.end - 300 and now <= self.until:
            self.issued += 1
            self.begun, self.end = now, now + self.lifetime
        body = b"token" if exchange.request.method == "PUT" else b"host"
        if exchange.request.target.endswith("/host"):
            document = {
                "Code": "Success", "AccessKeyId": f"ASIA{self.issued:012}",
                "SecretAccessKey": "s", "Token": "t",
                "Expiration": _at(self.end).isoformat(), "LastUpdated": _at(self.begun).isoformat(),
            }  # fmt: skip
            body = json.dumps(document).encode()
        await exchange.answer(200, body, date=format_datetime(_at(now), usegmt=True))


class Forever(deque[Any]):
    """The same script for every request."""

    def popleft(self) -> Any:
        return self[0]


def _at(seconds: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))


@pytest.mark.slow
def test_a_day_of_keys_takes_a_set_every_six_hours_and_nobody_waits() -> None:
    async def main() -> None:
        async with run_origin() as origin:
            service = Service()
            origin.script = Forever([service])
            provider = ImdsProvider(f"http://127.0.0.1:{origin.port}")
            async with Broker(provider, clock=LoopClock(), random=Random(3)) as broker:
                while anyio.current_time() < 24 * HOUR:
                    credentials = await broker.lease.ready()
                    assert credentials.access_key_id == f"ASIA{service.issued:012}" or (
                        anyio.current_time() < service.begun + service.lifetime
                    )
                    await anyio.sleep(60)
                assert broker.statistics().waits_after_first == 0
                assert 4 <= service.issued <= 6
                assert broker.statistics().fetches < 100

    run_virtual(main)


def test_a_service_that_is_stuck_when_we_start_is_used_on() -> None:
    async def main() -> None:
        async with run_origin() as origin:
            service = Service(lifetime=HOUR, until=0)
            service.issued, service.end = 1, HOUR
            origin.script = Forever([service])
            await anyio.sleep(2 * HOUR)
            provider = ImdsProvider(f"http://127.0.0.1:{origin.port}", random=Random(3))
            async with Broker(provider, clock=LoopClock()) as broker:
                keys = await broker.lease.ready()
                assert keys.access_key_id == "ASIA000000000001"
                assert broker.remaining(keys) > 900

    run_virtual(main)


def context(environ: dict[str, str], imds: str | None = None) -> SourceContext:
    return SourceContext(
        environ=environ, endpoints=Endpoints(imds=imds), sts=NoSts(), session_name="s",
        door=ThreadDoor(),
    )  # fmt: skip


async def test_the_standard_variables(imds: ImdsDouble) -> None:
    with pytest.raises(SourceMissing, match="switched off by AWS_EC2_METADATA_DISABLED"):
        from_environment(context({"AWS_EC2_METADATA_DISABLED": "TRUE"}))
    for name, value in (
        ("AWS_METADATA_SERVICE_TIMEOUT", "soon"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "-1"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "inf"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "0"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1.5"),
    ):
        with pytest.raises(UsageError, match=name):
            from_environment(context({name: value}))
    imds.failures_left = 1
    environ = {"AWS_METADATA_SERVICE_TIMEOUT": "2", "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "2"}
    assert await from_environment(context(environ, imds.endpoint)).fetch()


def test_an_outage_of_the_service_is_not_seen() -> None:
    """It gives the same set for 18 hours, 13 of them behind its end; then it is well again."""

    async def main() -> None:
        async with run_origin() as origin:
            service = Service(until=2 * HOUR)
            origin.script = Forever([service])
            provider = ImdsProvider(f"http://127.0.0.1:{origin.port}", random=Random(3))
            async with Broker(provider, clock=LoopClock(), random=Random(3)) as broker:
                while anyio.current_time() < 24 * HOUR:
                    await broker.lease.ready()
                    await anyio.sleep(20)
                    if anyio.current_time() > 20 * HOUR:
                        service.until = float("inf")
                assert service.issued >= 2
                assert broker.statistics().waits_after_first == 0
                assert broker.statistics().fetches < 200

    run_virtual(main)
