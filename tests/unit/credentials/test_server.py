"""The container protocol on loopback: who is let in, and what botocore makes of the answers."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any, final

import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.server import CredentialServer
from engine.errors import AssumeRoleDenied, UsageError, WrongLoop
from engine.protocols import CredentialProvider
from engine.types import Credentials

SECRET = "Canary-Secret-Access-Key"
SESSION = "Canary-Session-Token"
ROLE = "arn:aws:iam::111122223333:role/loader"


@final
class Source(CredentialProvider):
    """Sets of ``lifetime`` seconds, or keys without an end; while ``open`` is clear it waits."""

    def __init__(self, lifetime: float | None = 900, error: Exception | None = None) -> None:
        self.lifetime, self.error = lifetime, error
        self.calls = 0
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self) -> Credentials:
        self.calls += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if self.lifetime is None:
            return Credentials("AKIAEXAMPLE000000001", SECRET)
        now = datetime(2026, 1, 1, tzinfo=UTC)  # the issuer's clock is not ours
        end = now + timedelta(seconds=self.lifetime)
        return Credentials(f"ASIA{self.calls:016}", SECRET, SESSION, end, issued_at=now)

    def describe(self) -> str:
        return "role test"


def ask(
    server: CredentialServer, method: str = "GET", path: str = "/credentials", **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """One request with exactly these headers."""
    port = int(server.uri.rsplit(":", 1)[1].split("/")[0])
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{port}", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        document = json.loads(body) if body.startswith(b"{") else {}
        return response.status, document, dict(response.headers)
    finally:
        connection.close()


async def asked(
    server: CredentialServer, method: str = "GET", path: str = "/credentials", **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers.setdefault("Authorization", server.token)
    return await asyncio.to_thread(ask, server, method, path, **headers)


def a_server(source: Source, **settings: Any) -> tuple[Broker, CredentialServer]:
    broker = Broker(source, clock=LoopClock())
    return broker, CredentialServer(broker.lease, **settings)


async def test_the_answer_has_what_the_protocol_says() -> None:
    now = datetime(2031, 5, 5, 12, 0, 0, 1, tzinfo=UTC)
    broker, server = a_server(Source(900), role_arn=ROLE, now=lambda: now)
    async with broker, server:
        status, document, headers = await asked(server)
    assert status == 200
    end = datetime.fromisoformat(document.pop("Expiration"))
    # 900 s less the second that is kept back, by the clock of this host.
    assert timedelta(seconds=898) <= end - now <= timedelta(seconds=900)
    assert document == {
        "AccessKeyId": f"ASIA{1:016}",
        "SecretAccessKey": SECRET,
        "Token": SESSION,
        "RoleArn": ROLE,
    }
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    assert "aiohttp" not in headers["Server"]


async def test_asking_often_costs_no_call() -> None:
    source = Source()
    broker, server = a_server(source)
    async with broker, server:
        answers = await asyncio.gather(*(asked(server) for _ in range(100)))
        assert {status for status, _, _ in answers} == {200}
        assert source.calls == 1
        assert server.statistics().served == 100


async def test_nobody_without_the_token_gets_an_answer() -> None:
    source = Source()
    broker, server = a_server(source)
    async with broker, server:
        wrong = ["", "x", server.token[:-1], server.token + "x", f"Bearer {server.token}", "\xe9"]
        for token in wrong:
            status, document, _ = await asked(server, Authorization=token)
            assert (status, document["code"]) == (401, "Unauthorized")
        status, _, _ = await asyncio.to_thread(ask, server)
        assert status == 401
        assert server.statistics().refused == len(wrong) + 1
        assert source.calls == 0


async def test_a_name_of_somebody_else_is_refused() -> None:
    """DNS rebinding: a browser that was led here sends the name that it knows."""
    broker, server = a_server(Source())
    async with broker, server:
        port = server.uri.rsplit(":", 1)[1].split("/")[0]
        for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", ""):
            status, document, _ = await asked(server, Host=host)
            assert (status, document.get("code")) == (403, "WrongHost"), host


async def test_only_get_and_only_one_path() -> None:
    broker, server = a_server(Source())
    async with broker, server:
        for method in ("POST", "PUT", "OPTIONS", "DELETE", "HEAD"):
            status, _, headers = await asked(server, method, **{"Content-Length": "0"})
            assert (status, headers["Allow"]) == (405, "GET")
        for path in ("/", "/credentials/", "/credentials?x=1", "/latest/meta-data"):
            status, document, _ = await asked(server, path=path)
            assert (status, document["code"]) == (404, "NotFound")


async def test_headers_have_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    broker, server = a_server(Source())
    caplog.set_level(logging.DEBUG)
    async with broker, server:
        status, document, _ = await asked(server, Authorization=server.token * 100)
        assert (status, document) == (400, {})
        status, document, _ = await asked(server, **{f"X-{n}": "x" for n in range(100)})
        assert (status, document) == (400, {})
        assert server.token not in caplog.text


async def test_it_listens_on_loopback_only_and_ends_with_its_block() -> None:
    broker, server = a_server(Source())
    with pytest.raises(WrongLoop, match="not running"):
        server.environment()
    async with broker:
        async with server:
            assert server.uri.startswith("http://127.0.0.1:")
            port = int(server.uri.rsplit(":", 1)[1].split("/")[0])
            taken = CredentialServer(broker.lease, port=port)
            with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 cannot be used"):
                await taken.__aenter__()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_failure_says_why_without_a_secret() -> None:
    denied = AssumeRoleDenied(f"STS refused, aws_secret_access_key={SECRET}", fix="ask")
    broker, server = a_server(Source(error=denied))
    async with broker, server:
        status, document, _ = await asked(server)
        assert (status, document["code"]) == (503, "AssumeRoleDenied")
        assert "STS refused" in document["message"] and SECRET not in document["message"]
        assert server.statistics().failed == 1


@pytest.mark.slow
async def test_a_client_is_answered_before_it_gives_up() -> None:
    """botocore waits 2 s. Who asks again gets the set, which was fetched once."""
    source = Source()
    source.open.clear()
    broker, server = a_server(source)
    async with broker, server:
        status, document, _ = await asked(server)
        assert (status, document["code"]) == (503, "SourceUnavailable")
        source.open.set()
        assert (await asked(server))[0] == 200
        assert source.calls == 1


async def test_the_token_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker, server = a_server(Source())
    async with broker, server:
        assert server.token not in repr(server) and server.uri in repr(server)
        await asked(server)
        await asked(server, Authorization="wrong")
        assert server.environment()["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == server.token
        with pytest.raises(WrongLoop, match="another process"):
            pickle.dumps(server)
    assert CredentialServer(broker.lease).token != server.token
    assert not any(secret in caplog.text for secret in (server.token, SECRET, SESSION))


@pytest.mark.parametrize("lifetime", [8, 900, 3600, None])
async def test_botocore_takes_every_kind_of_set(lifetime: float | None) -> None:
    """The provider of boto3 and the AWS CLI, with a short session, a long one, and a key of a
    user, which has no token and no end."""
    from botocore.credentials import ContainerProvider

    source = Source(lifetime)
    broker, server = a_server(source)
    async with broker, server:

        def sign_100_times() -> set[Any]:
            credentials = ContainerProvider(environ=server.environment()).load()
            return {credentials.get_frozen_credentials() for _ in range(100)}

        frozen = await asyncio.to_thread(sign_100_times)
        (only,) = frozen
        assert only.secret_key == SECRET
        assert (only.token or None) == (None if lifetime is None else SESSION)
        assert source.calls == 1
        # Below 15 min it asks at every signature, which costs a look; above it asks once.
        often = lifetime is not None and lifetime <= 900
        assert server.statistics().served == (101 if often else 1)
