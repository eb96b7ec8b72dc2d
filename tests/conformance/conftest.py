"""Every server by every plane. The gate is in the default suite; the others by ``make interop``."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from engine.testing.aws import AwsDouble
from tests.conformance.servers import (
    Server,
    moto_in_auth_mode,
    radosgw_server,
    server_of,
    tls_double,
)
from tests.conformance.store import PLANES, Store, open_store
from tests.interop.admin import Admin
from tests.interop.conftest import _radosgw as _radosgw
from tests.interop.conftest import scene as scene

_numbers = itertools.count(1)
SERVERS = [
    pytest.param("gate"),
    pytest.param("gate-tls"),
    pytest.param("moto-auth", marks=pytest.mark.interop),
    pytest.param("radosgw", marks=pytest.mark.interop),
    pytest.param("radosgw-tls", marks=pytest.mark.interop),
]


@pytest.fixture(scope="session")
def _tls_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AwsDouble, str]]:
    with tls_double(tmp_path_factory.mktemp("tls")) as double:
        yield double


@pytest.fixture(scope="session")
def _moto_auth() -> Iterator[Server]:
    with moto_in_auth_mode() as server:
        yield server


def _server(name: str, request: pytest.FixtureRequest) -> tuple[Server, AwsDouble | None]:
    """The server with a new bucket, and the gate where that is what it is."""
    bucket = f"conformance-{next(_numbers):06d}"
    if name == "gate":
        aws = request.getfixturevalue("s3engine_aws")
        return server_of(aws, bucket), aws
    if name == "gate-tls":
        aws, bundle = request.getfixturevalue("_tls_double")
        aws.reset()
        return server_of(aws, bucket, bundle), aws
    if name == "moto-auth":
        server, plain = request.getfixturevalue("_moto_auth"), ""
    else:
        radosgw = request.getfixturevalue("scene").radosgw
        server, plain = radosgw_server(radosgw, tls=name == "radosgw-tls"), radosgw.endpoint
    Admin(plain or server.endpoint, server.credentials).add_bucket(bucket)
    return replace(server, bucket=bucket), None


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest) -> str:
    """Skipped where a package of it is not installed: one distribution has no SDK."""
    if request.param == "aws":
        pytest.importorskip("aiobotocore")
    return str(request.param)


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, plane: str) -> AsyncIterator[Store]:
    """Any server, by any plane."""
    server, aws = _server(request.param, request)
    async with open_store(plane, server, aws) as opened:
        yield opened


@pytest.fixture
async def gated(plane: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """The gate alone, for what only it can show."""
    server, s3engine_aws = _server("gate", request)
    async with open_store(plane, server, s3engine_aws) as opened:
        yield opened
