"""IAM Identity Center: the token of ``aws sso login``, refreshed, and two unsigned calls.

Against a small server of the two services; what they are sent is what botocore sends.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.credentials import SourcePlan
from engine.errors import AssumeRoleDenied, CredentialsError, SourceExpired, SourceUnavailable
from tests.unit.credentials.plans import Place

pytestmark = pytest.mark.slow  # each opens clients of botocore

CORP = "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.example/start\n"
PROFILE = "[profile p]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n"
LEGACY = (
    "[profile p]\nsso_account_id = 111122223333\nsso_role_name = Admin\nsso_region = us-east-1\n"
    "sso_start_url = https://corp.example/start\n"
)


@dataclass
class Center:
    """Identity Center: one access token is good, one refresh token may be used, once."""

    good: str = "access-1"
    refresh: str = "refresh-1"
    status: int = 200
    error: str = ""
    endpoint: str = ""
    requests: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        self.requests.append((request.path, dict(request.headers), {**request.query, **body}))
        if self.status == 307:
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/steal"})
        if self.error:
            return _error(self.status, self.error)
        if request.path == "/token":
            return self._token(body)
        if request.headers.get("x-amz-sso_bearer_token") != self.good:
            return _error(401, "UnauthorizedException")
        end = datetime.now(UTC) + timedelta(hours=1)
        keys = {
            "accessKeyId": "ASIASSO", "secretAccessKey": "s3cr3t", "sessionToken": "t",
            "expiration": int(end.timestamp() * 1000),
        }  # fmt: skip
        return web.json_response({"roleCredentials": keys})

    def _token(self, body: dict[str, Any]) -> web.Response:
        if body.get("refreshToken") != self.refresh or body["grantType"] != "refresh_token":
            return _error(400, "InvalidGrantException")
        number = int(self.refresh.removeprefix("refresh-")) + 1
        self.refresh, self.good = f"refresh-{number}", f"access-{number}"
        return web.json_response(
            {"accessToken": self.good, "refreshToken": self.refresh, "expiresIn": 28_800}
        )


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"message": "No."}, status=status, headers={"x-amzn-ErrorType": code})


@asynccontextmanager
async def serving(center: Center) -> AsyncIterator[Center]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", center.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    center.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield center
    finally:
        await runner.cleanup()


@pytest.fixture
async def center() -> AsyncIterator[Center]:
    async with serving(Center()) as one:
        yield one


@pytest.fixture
def place(tmp_path: Path, center: Center) -> Place:
    place = Place(tmp_path)
    place.environ["AWS_ENDPOINT_URL_SSO"] = center.endpoint
    place.environ["AWS_ENDPOINT_URL_SSO_OIDC"] = center.endpoint
    place.write(CORP + PROFILE)
    (tmp_path / ".aws" / "sso" / "cache").mkdir(parents=True)
    return place


def token_file(place: Place, name: str = "corp") -> Path:
    return (
        place.folder / ".aws" / "sso" / "cache" / f"{hashlib.sha1(name.encode()).hexdigest()}.json"
    )


def log_in(place: Place, seconds: float, name: str = "corp", **more: str) -> None:
    """What ``aws sso login`` leaves."""
    token = {
        "startUrl": "https://corp.example/start", "region": "us-east-1",
        "accessToken": "access-1", "expiresAt": _stamp(seconds),
        "clientId": "client", "clientSecret": "cl13nt", "refreshToken": "refresh-1",
        "registrationExpiresAt": _stamp(86_400), **more,
    }  # fmt: skip
    token_file(place, name).write_text(json.dumps(token))


def _stamp(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def plan(place: Place) -> SourcePlan:
    return place.plan("sso", "p")


async def test_keys_with_the_cached_token(place: Place, center: Center) -> None:
    log_in(place, 8 * 3600)
    provider = plan(place).provider
    keys = await provider.fetch()
    assert (keys.access_key_id, keys.session_token) == ("ASIASSO", "t")
    assert 3_590 <= (keys.lifetime or 0) <= 3_601
    assert provider.is_role
    ((path, headers, fields),) = center.requests
    assert (path, fields) == (
        "/federation/credentials",
        {"role_name": "Admin", "account_id": "111122223333"},
    )
    assert "Authorization" not in headers
    assert provider.describe() == "SSO role Admin in 111122223333 (profile p)"
    assert place.plan(profile="p").why[-1] == "sso: " + provider.describe()


async def test_a_token_that_ends_soon_is_refreshed_and_written_back(
    place: Place, center: Center
) -> None:
    log_in(place, 600)
    provider = plan(place).provider
    await provider.fetch()
    await provider.fetch()
    assert [path for path, _, _ in center.requests].count("/token") == 1
    written = json.loads(token_file(place).read_text())
    assert (written["accessToken"], written["refreshToken"]) == ("access-2", "refresh-2")
    assert written["clientSecret"] == "cl13nt" and written["expiresAt"] > _stamp(28_000)
    assert stat.S_IMODE(token_file(place).stat().st_mode) == 0o600
    assert [path.name for path in token_file(place).parent.iterdir()] == [token_file(place).name]


async def test_a_cache_that_cannot_be_written_costs_nothing(place: Place, center: Center) -> None:
    log_in(place, 600)
    provider = plan(place).provider
    await provider.fetch()
    log_in(place, 600)  # as if the new token had never been written
    await provider.fetch()
    assert [path for path, _, _ in center.requests].count("/token") == 1


async def test_another_process_may_have_refreshed_it(place: Place, center: Center) -> None:
    log_in(place, 600, refreshToken="refresh-0")  # used up
    assert await plan(place).provider.fetch(), "the old token still lives for 600 s"
    log_in(place, -1, refreshToken="refresh-0")
    with pytest.raises(SourceExpired, match="aws sso login --profile p"):
        await plan(place).provider.fetch()


@pytest.mark.parametrize("registration", [-1.0, None])
async def test_a_token_that_cannot_be_refreshed_ends(
    place: Place, center: Center, registration: float | None
) -> None:
    end = "never" if registration is None else _stamp(registration)
    log_in(place, -1, registrationExpiresAt=end)
    with pytest.raises(SourceExpired, match="session of profile p is over.*aws sso login"):
        await plan(place).provider.fetch()
    assert center.requests == []
    log_in(place, 3600)  # the user has logged in again, while the job runs
    assert await plan(place).provider.fetch()


async def test_the_older_kind_is_by_its_start_url_and_is_not_refreshed(
    place: Place, center: Center
) -> None:
    place.write(LEGACY)
    name = "https://corp.example/start"
    log_in(place, 600, name)
    assert await plan(place).provider.fetch()
    log_in(place, -1, name)
    with pytest.raises(SourceExpired):
        await plan(place).provider.fetch()
    assert [path for path, _, _ in center.requests] == ["/federation/credentials"]


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"accessToken": 1, "expiresAt": "x"}'])
async def test_without_a_token_it_says_how_to_get_one(place: Place, content: str | None) -> None:
    if content is not None:
        token_file(place).write_text(content)
    with pytest.raises(SourceExpired, match="Run aws sso login --profile p"):
        await plan(place).provider.fetch()


@pytest.mark.parametrize(
    ("status", "error", "kind", "words"),
    [
        (401, "UnauthorizedException", SourceExpired, "aws sso login"),
        (403, "ForbiddenException", AssumeRoleDenied, "permission set"),
        (404, "ResourceNotFoundException", AssumeRoleDenied, "sso_role_name"),
        (429, "TooManyRequestsException", SourceUnavailable, "just now"),
        (500, "InternalServerException", SourceUnavailable, "just now"),
        (307, "", CredentialsError, "redirect"),
    ],
)
async def test_what_the_portal_answers(
    place: Place, center: Center, status: int, error: str, kind: type[Exception], words: str
) -> None:
    log_in(place, 8 * 3600)
    center.status, center.error = status, error
    with pytest.raises(kind, match=words) as caught:
        await plan(place).provider.fetch()
    assert "access-1" not in f"{caught.value} {caught.value!r}"
    assert len(center.requests) == 1, "never repeated, never redirected"
