"""Nothing that we send goes to a host that a redirect names: not a byte, token or signature.

The one server answers every request with a redirect; the other one counts who comes.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine import CredentialsError, Engine, RoleSpec, TransferError
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, PartReceipt, UploadId
from tests.conformance.servers import Server
from tests.conformance.store import CRC, Store, checksum, open_store
from tests.integration.other_host import OtherHost
from tests.unit.origin import Exchange, Origin, run_origin

pytestmark = pytest.mark.slow

STATUSES = (301, 302, 303, 307, 308)
ROLE = "arn:aws:iam::111122223333:role/writer"
_XML = (
    "<Error><Code>{code}</Code><Message>Go elsewhere.</Message>"
    "<Endpoint>{host}</Endpoint><Bucket>bucket</Bucket></Error>"
)


@dataclass
class Road:
    """A server that sends everybody to ``other``."""

    origin: Origin
    other: OtherHost

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.origin.port}"

    def redirect(self, status: int, *, s3: bool = False, region: str | None = None) -> None:
        """Every answer from now on; ``s3`` with the document that S3 sends along."""

        async def script(exchange: Exchange) -> None:
            request = exchange.request
            request.headers = {name.lower(): value for name, value in request.headers.items()}
            await exchange.read_body()
            code = "PermanentRedirect" if status == 301 else "TemporaryRedirect"
            host = self.other.endpoint.removeprefix("http://")
            body = _XML.format(code=code, host=host).encode() if s3 else b""
            fields = {"x_amz_bucket_region": region} if region else {}
            if request.method == "HEAD":
                body = b""
            location = f"{self.other.endpoint}{request.target}"
            await exchange.answer(status, body, Location=location, **fields)

        self.origin.script.extend([script] * 200)


@pytest.fixture
def other() -> Iterator[OtherHost]:
    with OtherHost() as host:
        yield host


@pytest.fixture
async def road(other: OtherHost) -> AsyncIterator[Road]:
    async with run_origin() as origin:
        yield Road(origin, other)


def verbs(store: Store) -> dict[str, Any]:
    url, body, upload_id = store.url("key"), BytesSource(bytes(300_000)), UploadId("upload")
    part = PartReceipt(1, 0, 5, '"e"', checksum(b"bytes"), 0)
    data, control, sink = store.data, store.control, MemorySink(100)
    span = ByteRange(0, 100)
    return {
        "put": lambda: data.put_object(url, body, CRC),
        "part": lambda: data.upload_part(url, upload_id, 1, body, 0, 300_000, CRC),
        "get": lambda: data.get_range(url, sink, 0, range=None, etag=None, algorithm=CRC),
        "range": lambda: data.get_range(url, sink, 0, range=span, etag='"e"', algorithm=CRC),
        "head": lambda: control.head_object(url),
        "list": lambda: control.list_page(url, None),
        "create": lambda: control.create_multipart_upload(url, CRC),
        "complete": lambda: control.complete_multipart_upload(url, upload_id, [part], None, 5),
        "abort": lambda: control.abort_multipart_upload(url, upload_id),
        "list parts": lambda: control.list_parts(url, upload_id),
        "list uploads": lambda: control.list_uploads(url),
        "delete": lambda: control.delete_objects([url]),
    }


@pytest.mark.parametrize("token", [None, "session-token"], ids=["user", "session"])
@pytest.mark.parametrize("status", STATUSES)
async def test_no_verb_of_s3_follows_a_redirect(
    road: Road, plane: str, status: int, token: str | None
) -> None:
    keys = Credentials("AKIDEXAMPLE", "secret", token)
    async with open_store(plane, Server(road.endpoint, keys, "bucket")) as store:
        for s3, region in itertools.product((False, True), (None, "eu-west-1")):
            road.origin.script.clear()
            road.redirect(status, s3=s3, region=region)
            for name, call in verbs(store).items():
                with pytest.raises(TransferError) as caught:
                    await call()
                assert caught.value.retryable is False, name
    assert len(road.origin.requests) >= 4 * 11
    assert road.other.requests == []


async def test_the_trap_works(road: Road) -> None:
    """A client that follows redirects is seen."""
    road.redirect(307)
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{road.endpoint}/bucket/key", data=b"bytes"):
            pass
    assert [line.split()[:2] for line in road.other.requests] == [["PUT", "/bucket/key"]]


class Sources:
    """Engines whose credentials come from an endpoint that redirects."""

    def __init__(self, road: Road, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.road, self.folder, self.patch = road, folder, patch
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder))
        patch.setenv("AWS_ENDPOINT_URL", road.endpoint)
        patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))

    def engine(self, name: str) -> Engine:
        made: Engine = getattr(self, name)()
        return made

    def sts(self) -> Engine:
        return Engine(RoleSpec(ROLE), credentials=Credentials("AKID", "secret"))

    def sts_of_a_session(self) -> Engine:
        return Engine(RoleSpec(ROLE), credentials=Credentials("ASIA", "secret", "token"))

    def web_identity(self) -> Engine:
        (self.folder / "token").write_text("a.web.token")
        self.patch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(self.folder / "token"))
        self.patch.setenv("AWS_ROLE_ARN", ROLE)
        return Engine(source="web-identity")

    def imds(self) -> Engine:
        self.patch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.road.endpoint)
        return Engine(source="ec2")

    def container(self) -> Engine:
        self.patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{self.road.endpoint}/keys")
        self.patch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
        return Engine(source="ecs")

    def sso(self, *, over: bool = False) -> Engine:
        pytest.importorskip("aiobotocore")
        (self.folder / "config").write_text(
            "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://c.example/start\n"
            "[profile p]\nsso_session = corp\nsso_account_id = 111122223333\n"
            "sso_role_name = Admin\n"
        )
        now = datetime.now(UTC)
        end = now + timedelta(hours=-1 if over else 1)
        token = {
            "accessToken": "access", "expiresAt": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "clientId": "id", "clientSecret": "secret", "refreshToken": "refresh",
            "registrationExpiresAt": f"{now + timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        cache = self.folder / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True)
        name = sha1(b"corp", usedforsecurity=False).hexdigest()
        (cache / f"{name}.json").write_text(json.dumps(token))
        return Engine(source="sso", profile="p")

    def sso_token(self) -> Engine:
        return self.sso(over=True)

    def saml(self) -> Engine:
        say = f"{sys.executable} -c 'print(\"YXNzZXJ0aW9u\")'"
        self.patch.setenv("S3ENGINE_SAML_ASSERTION_COMMAND", say)
        self.patch.setenv("S3ENGINE_SAML_ROLE_ARN", ROLE)
        self.patch.setenv(
            "S3ENGINE_SAML_PRINCIPAL_ARN", "arn:aws:iam::111122223333:saml-provider/idp"
        )
        return Engine(source="saml")


SOURCES = (
    "sts", "sts_of_a_session", "web_identity", "saml", "imds", "container", "sso", "sso_token",
)  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", SOURCES)
async def test_no_source_of_credentials_follows_a_redirect(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
) -> None:
    road.redirect(status)
    async with Sources(road, tmp_path, monkeypatch).engine(name) as s3:
        # A token that is over and cannot be refreshed is over, whatever the reason.
        words = "SSO session .* is over" if name == "sso_token" else "redirect"
        with pytest.raises(CredentialsError, match=words):
            await s3.lease.ready()
    assert road.origin.requests != []
    assert road.other.requests == []
