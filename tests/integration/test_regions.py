"""A bucket in another region: asked for, followed, signed again, and never at a host of the
answer's choosing. AWS's own names lead to this machine through a proxy, which knows who was asked.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine import Credentials, Engine, MiB, RetryPolicy, S3Error, TransferConfig
from engine.config import Endpoints
from engine.errors import RedirectRefused, TransferError
from engine.events import BucketElsewhere, Event
from engine.planes.regions import MAX_MOVES, BucketRegions
from tests.unit.origin import Exchange, Origin, answers, error_xml, run_origin
from tests.unit.proxy import HttpProxy, run_proxy

WEST, CENTRAL, DEFAULT = "eu-west-1", "eu-central-1", "us-east-1"
KEYS = Credentials("AKIDEXAMPLE", "SECRETSECRET", "TOKENTOKEN")
NO_WAIT = RetryPolicy(base_delay=0.0, max_delay=0.0)


@dataclass
class World:
    """S3 of some regions, and the one way to all of them."""

    proxy: HttpProxy
    origins: dict[str, Origin]
    bundle: str
    events: list[Event] = field(default_factory=list)

    @asynccontextmanager
    async def engine(self, keys: Credentials = KEYS, **more: Any) -> AsyncIterator[Engine]:
        settings: dict[str, Any] = {
            "credentials": keys,
            "proxy": f"http://127.0.0.1:{self.proxy.port}",
            "ca_bundle": self.bundle,
            "hook": self.events.append,
            "retry": NO_WAIT,
            **more,
        }
        async with Engine(**settings) as s3:
            yield s3

    def moves(self) -> list[BucketElsewhere]:
        return [event for event in self.events if isinstance(event, BucketElsewhere)]


def host(region: str, bucket: str = "bucket") -> str:
    return f"{bucket}.s3.{region}.amazonaws.com"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with AsyncExitStack() as stack:
        origins = {}
        proxy = await stack.enter_async_context(run_proxy())
        for region in (WEST, CENTRAL, DEFAULT):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(host(region)).configure_cert(context)
            origins[region] = await stack.enter_async_context(run_origin(context))
            proxy.hosts[f"{host(region)}:443"] = origins[region].port
        yield World(proxy, origins, str(bundle))


def elsewhere(status: int, code: str, region: str = CENTRAL, **headers: str) -> Any:
    """An answer that names another region, as S3 gives it."""
    named = f"<Region>{region}</Region>" if code == "AuthorizationHeaderMalformed" else ""
    if not named and region:
        headers["x_amz_bucket_region"] = region
    return answers(status, error_xml(code, named), **headers)


ANSWERS = [
    (301, "PermanentRedirect"),
    (307, "TemporaryRedirect"),
    (400, "AuthorizationHeaderMalformed"),
    (400, "IllegalLocationConstraintException"),
]


@pytest.mark.parametrize("keys", [KEYS, Credentials("AKIDEXAMPLE", "SECRETSECRET")])
@pytest.mark.parametrize(("status", "code"), ANSWERS)
async def test_a_wrong_region_is_left_for_the_right_one(
    world: World, status: int, code: str, keys: Credentials
) -> None:
    west, central = world.origins[WEST], world.origins[CENTRAL]
    west.script.append(elsewhere(status, code, Location="https://evil.example/"))
    data = bytes(range(256)) * 2000
    async with world.engine(keys, region=WEST) as s3:
        await s3.upload(data, "s3://bucket/key")
        assert central.objects["/key"] == data, "the body was sent again"
        async with s3.open_read("s3://bucket/key") as reader:
            assert b"".join([bytes(piece) async for piece in reader]) == data
    assert len(west.requests) == 1, "learned for good"
    for origin, region in ((west, WEST), (central, CENTRAL)):
        for request in origin.requests:
            assert f"/{region}/s3/aws4_request" in request.headers["authorization"]
            assert request.headers["host"] == host(region)
    assert world.moves() == [BucketElsewhere("bucket", CENTRAL, WEST, "--region")]
    assert set(world.proxy.asked) == {f"{host(WEST)}:443", f"{host(CENTRAL)}:443"}


async def test_parts_and_ranges_follow_too(world: World, tmp_path: Path) -> None:
    west, central = world.origins[WEST], world.origins[CENTRAL]
    central.objects["/key"] = data = bytes(range(256)) * (48 * 1024)
    # All ranges under way meet the wrong region; each goes on by itself.
    west.script.extend([elsewhere(301, "PermanentRedirect")] * 20)
    async with world.engine(region=WEST, config=TransferConfig(part_size=5 * MiB)) as s3:
        await s3.download("s3://bucket/key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert len(world.moves()) == 1


async def test_a_bare_400_to_head_follows_its_header(world: World) -> None:
    world.origins[WEST].script.append(answers(400, x_amz_bucket_region=CENTRAL))
    world.origins[CENTRAL].script.append(answers(200, ETag='"e"', x_amz_meta_a="b"))
    async with world.engine(region=WEST) as s3:
        assert (await s3.head("s3://bucket/key")).metadata == {"a": "b"}


@pytest.mark.parametrize("status", [200, 301, 400, 403])
async def test_without_a_region_the_bucket_is_asked_first(world: World, status: int) -> None:
    first, central = world.origins[DEFAULT], world.origins[CENTRAL]

    async def head(exchange: Exchange) -> None:
        lines = (
            f"HTTP/1.1 {status} X\r\nx-amz-bucket-region: {CENTRAL}\r\ncontent-length: 9\r\n\r\n"
        )
        await exchange.send(lines.encode())

    first.script.append(head)
    async with world.engine() as s3:
        for number in range(3):
            await s3.upload(b"x", f"s3://bucket/{number}")
    assert [(r.method, r.target) for r in first.requests] == [("HEAD", "/")]
    assert "authorization" not in first.requests[0].headers, "nothing is given away to ask"
    assert "x-amz-security-token" not in first.requests[0].headers
    assert sorted(central.objects) == ["/0", "/1", "/2"]
    assert world.moves() == [BucketElsewhere("bucket", CENTRAL, DEFAULT, "")]


async def test_a_bucket_that_does_not_say_is_where_it_is_by_default(world: World) -> None:
    first = world.origins[DEFAULT]
    first.script.append(answers(404))
    async with world.engine() as s3:
        await s3.upload(b"x", "s3://bucket/a")
        await s3.upload(b"x", "s3://bucket/b")
    assert [r.method for r in first.requests] == ["HEAD", "PUT", "PUT"]
    assert world.moves() == []


async def test_strict_means_an_error_that_says_what_to_do(world: World) -> None:
    world.origins[WEST].script.append(elsewhere(301, "PermanentRedirect"))
    async with world.engine(region=WEST, region_mismatch="error") as s3:
        with pytest.raises(S3Error, match="--region eu-central-1") as caught:
            await s3.upload(b"x", "s3://bucket/key")
    assert caught.value.facts["bucket_region"] == CENTRAL
    assert world.proxy.asked == [f"{host(WEST)}:443"]
    assert world.moves() == []


REFUSED = [
    pytest.param(status, f"https://{where}/key", id=f"{status}-{where}")
    for status in (301, 302, 303, 307, 308)
    for where in ("evil.example", f"{host(CENTRAL)}.evil.example", "s3.eu-central-1.evil.example")
]


@pytest.mark.parametrize("keys", [KEYS, Credentials("AKIDEXAMPLE", "SECRETSECRET")])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(("status", "where"), REFUSED)
async def test_no_other_host_is_ever_asked(
    world: World, status: int, where: str, up: bool, keys: Credentials
) -> None:
    world.origins[WEST].script.append(answers(status, Location=where))
    async with world.engine(keys, region=WEST) as s3:
        with pytest.raises(RedirectRefused):
            if up:
                await s3.upload(b"x", "s3://bucket/key")
            else:
                async with s3.open_read("s3://bucket/key") as reader:
                    assert [piece async for piece in reader]
    assert world.proxy.asked == [f"{host(WEST)}:443"]


@pytest.mark.parametrize(
    "region",
    ["evil.example/", "x@evil.example", "EU", "cn-north-1", "us-gov-west-1", WEST, "-" * 60],
)
async def test_a_region_that_cannot_be_is_not_followed(world: World, region: str) -> None:
    """Of another partition, no name at all, or the very one that was asked."""
    world.origins[WEST].script.append(elsewhere(400, "AuthorizationHeaderMalformed", region))
    async with world.engine(region=WEST) as s3:
        with pytest.raises(S3Error, match="AuthorizationHeaderMalformed"):
            await s3.upload(b"x", "s3://bucket/key")
    assert world.proxy.asked == [f"{host(WEST)}:443"]


async def test_a_redirect_to_s3_itself_is_taken_for_its_region_only(world: World) -> None:
    """A new bucket, whose name is not everywhere yet: 307 and the host, no region."""
    where = f"https://bucket.s3-{CENTRAL}.amazonaws.com/key?X-Amz-Signature=1"
    world.origins[WEST].script.append(answers(307, error_xml("TemporaryRedirect"), Location=where))
    async with world.engine(region=WEST) as s3:
        await s3.upload(b"x", "s3://bucket/key")
    assert world.origins[CENTRAL].objects == {"/key": b"x"}
    assert set(world.proxy.asked) == {f"{host(WEST)}:443", f"{host(CENTRAL)}:443"}


async def test_two_regions_that_name_each_other_end(world: World) -> None:
    west, central = world.origins[WEST], world.origins[CENTRAL]
    west.script.extend([elsewhere(301, "PermanentRedirect")] * 50)
    central.script.extend([elsewhere(301, "PermanentRedirect", WEST)] * 50)
    async with world.engine(region=WEST) as s3:
        for _ in range(3):
            with pytest.raises(S3Error, match="PermanentRedirect"):
                await s3.upload(b"x", "s3://bucket/key")
    assert len(west.requests) + len(central.requests) <= 3 + MAX_MOVES
    assert len(world.moves()) == 1


@pytest.mark.parametrize("named", [CENTRAL, "garage", "cn-north-1"])
async def test_with_an_address_of_the_users_own_the_host_stays(named: str) -> None:
    events: list[Event] = []
    async with run_origin() as origin:
        origin.script.append(elsewhere(400, "AuthorizationHeaderMalformed", named))
        async with Engine(
            credentials=KEYS,
            endpoint_url=f"http://127.0.0.1:{origin.port}",
            region=WEST,
            hook=events.append,
            retry=NO_WAIT,
        ) as s3:
            await s3.upload(b"x", "s3://bucket/key")
        assert origin.objects["/bucket/key"] == b"x"
        assert f"/{named}/s3/aws4_request" in origin.requests[-1].headers["authorization"]
        assert len(origin.requests) == 2


async def test_a_listing_follows(world: World) -> None:
    page = (
        b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>"
        b"<Contents><Key>a</Key><Size>1</Size>"
        b"<ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>"
    )
    world.origins[WEST].script.append(elsewhere(301, "PermanentRedirect"))
    world.origins[CENTRAL].script.append(answers(200, page))
    async with world.engine(region=WEST) as s3:
        assert [info.url.key async for info in s3.list("s3://bucket/")] == ["a"]


def test_what_is_known_is_shown() -> None:
    regions = BucketRegions(Endpoints(region=WEST), lambda event: None)
    assert repr(regions) == "<BucketRegions eu-west-1>"
    assert regions.should_ask("b")
    regions.asked("b", None)
    assert not regions.should_ask("b")
    assert not issubclass(RedirectRefused, S3Error) and issubclass(RedirectRefused, TransferError)
