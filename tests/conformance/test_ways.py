"""The way to S3 is the same by both planes: proxies, regions, hosts. The wire's own tests of it
go deeper (``tests/integration/test_regions.py``, ``tests/unit/planes/test_wire_proxy.py``)."""

from __future__ import annotations

import pytest

from engine.errors import ConnectionFailed, S3Error, TransferError
from engine.types import MiB
from tests.integration.test_regions import (
    ANSWERS,
    CENTRAL,
    WEST,
    World,
    elsewhere,
    host,
)
from tests.integration.test_regions import world as world
from tests.unit.origin import answers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("status", "code"), ANSWERS)
async def test_a_wrong_region_is_left_for_the_right_one(
    world: World, plane: str, status: int, code: str
) -> None:
    """Every request goes through the proxy, which knows the hosts that were asked for."""
    west, central = world.origins[WEST], world.origins[CENTRAL]
    west.script.append(elsewhere(status, code, Location="https://evil.example/"))
    data = bytes(range(256)) * 2000
    async with world.engine(region=WEST, data_plane=plane) as s3:
        await s3.upload(data, "s3://bucket/key")
        assert central.objects["/key"] == data, "the body was sent again"
        async with s3.open_read("s3://bucket/key") as reader:
            assert b"".join([bytes(piece) async for piece in reader]) == data
    assert len(west.requests) == 1, "learned for good"
    assert [move.region for move in world.moves()] == [CENTRAL]
    for request in central.requests:
        assert f"/{CENTRAL}/s3/" in request.headers["authorization"]
    assert set(world.proxy.asked) == {f"{host(WEST)}:443", f"{host(CENTRAL)}:443"}


async def test_a_bucket_is_asked_where_nobody_gave_a_region(world: World, plane: str) -> None:
    default, west = world.origins["us-east-1"], world.origins[WEST]
    default.script.append(answers(403, x_amz_bucket_region=WEST))
    async with world.engine(data_plane=plane) as s3:
        await s3.upload(b"bytes", "s3://bucket/key")
        await s3.upload(b"bytes", "s3://bucket/again")
    assert [request.method for request in default.requests] == ["HEAD"]
    assert [request.method for request in west.requests] == ["PUT", "PUT"]


async def test_a_region_is_not_followed_for_ever(world: World, plane: str) -> None:
    for region, origin in world.origins.items():
        to = WEST if region == CENTRAL else CENTRAL
        origin.script.extend([elsewhere(301, "PermanentRedirect", to)] * 50)
    async with world.engine(region=WEST, data_plane=plane) as s3:
        with pytest.raises(S3Error):
            await s3.upload(b"bytes", "s3://bucket/key")
    assert sum(len(origin.requests) for origin in world.origins.values()) < 12


async def test_a_proxy_that_is_not_there_is_named_as_the_network_s_fault(
    world: World, plane: str
) -> None:
    async with world.engine(
        region=WEST, data_plane=plane, proxy="http://user:pa55w0rd@127.0.0.1:9"
    ) as s3:
        with pytest.raises(ConnectionFailed) as caught:
            await s3.upload(b"bytes", "s3://bucket/key")
    assert "pa55w0rd" not in f"{caught.value}{caught.value.facts}{caught.value.fix}"


async def test_a_certificate_of_nobody_is_refused(world: World, plane: str) -> None:
    async with world.engine(region=WEST, data_plane=plane, ca_bundle=None) as s3:
        with pytest.raises(TransferError):
            await s3.upload(bytes(MiB), "s3://bucket/key")
    assert world.origins[WEST].requests == []
