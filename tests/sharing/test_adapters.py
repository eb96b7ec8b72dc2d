"""boto3, aiobotocore, s3fs and obstore under one broker of this process, across renewals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from engine import Credentials, Engine, RoleSpec
from engine.credentials import Broker
from engine.errors import UsageError
from tests.cli.conftest import Cli
from tests.sharing.conftest import Shares

EVERY = 0.2
RENEWALS = 3


def _boto3(broker: Broker, bucket: str, endpoint: str, until: Callable[[], bool]) -> None:
    client = broker.boto3_session(region_name="us-east-1").client("s3", endpoint_url=endpoint)
    while not until():
        client.put_object(Bucket=bucket, Key="key", Body=b"bytes")
        assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"bytes"
        time.sleep(EVERY)


def _aiobotocore(broker: Broker, bucket: str, endpoint: str, until: Callable[[], bool]) -> None:
    """In a loop of its own, as a second part of the program would."""

    async def main(session: Any) -> None:
        settings = {"region_name": "us-east-1", "endpoint_url": endpoint}
        async with session.create_client("s3", **settings) as client:
            while not until():
                await client.put_object(Bucket=bucket, Key="key", Body=b"bytes")
                answer = await client.get_object(Bucket=bucket, Key="key")
                assert await answer["Body"].read() == b"bytes"
                await asyncio.sleep(EVERY)

    asyncio.run(main(broker.aiobotocore_session()))


def _s3fs(broker: Broker, bucket: str, endpoint: str, until: Callable[[], bool]) -> None:
    s3fs = pytest.importorskip("s3fs")
    files = s3fs.S3FileSystem(
        **broker.s3fs_options(),
        endpoint_url=endpoint,
        client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True,
    )
    while not until():
        files.pipe_file(f"{bucket}/key", b"bytes")
        assert files.cat_file(f"{bucket}/key") == b"bytes"
        time.sleep(EVERY)


def _obstore(broker: Broker, bucket: str, endpoint: str, until: Callable[[], bool]) -> None:
    obstore = pytest.importorskip("obstore")
    store = pytest.importorskip("obstore.store").S3Store(
        bucket,
        endpoint=endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        credential_provider=broker.obstore_provider(),
    )
    while not until():
        obstore.put(store, "key", b"bytes")
        assert bytes(obstore.get(store, "key").bytes()) == b"bytes"
        time.sleep(EVERY)


ADAPTERS = {"boto3": _boto3, "aiobotocore": _aiobotocore, "s3fs": _s3fs, "obstore": _obstore}


async def _work(shares: Shares, engine: Engine, seconds: float) -> None:
    """All adapters at once, each in a thread, beside uploads of the engine itself.

    At least so long, and longer for whoever was late: a package may take seconds to be imported.
    """
    end = time.monotonic() + seconds
    late = end + 3 * seconds

    def over() -> bool:
        now = time.monotonic()
        if now < end:
            return False
        names = (*ADAPTERS, "engine")
        return now >= late or all(shares.seen(name).sessions > RENEWALS for name in names)

    async with engine:
        jobs = [
            asyncio.to_thread(
                work, engine.broker, shares.bucket(name), shares.cli.aws.endpoint, over
            )
            for name, work in ADAPTERS.items()
        ]
        jobs.append(_uploads(engine, shares.bucket("engine"), over))
        await asyncio.gather(*jobs)
        (_, statistics), *_ = reversed(engine.statistics().chain)
        print(f"broker: {statistics.fetches} STS calls, {statistics.waits_after_first} waits")


async def _uploads(engine: Engine, bucket: str, over: Callable[[], bool]) -> None:
    while not over():
        await engine.upload(b"bytes", f"s3://{bucket}/key")
        await anyio.sleep(EVERY)


@pytest.mark.slow
@pytest.mark.sharing
@pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")
@pytest.mark.parametrize(
    "lifetime", [5.0, pytest.param(20.0, marks=[pytest.mark.interop, pytest.mark.timeout(120)])]
)
async def test_adapters_go_on_across_renewals(cli: Cli, lifetime: float) -> None:
    for package in ("s3fs", "obstore"):
        pytest.importorskip(package)
    shares = Shares(cli, lifetime)
    role = shares.role("adapters")
    engine = Engine(
        RoleSpec(role),
        region="us-east-1",
        endpoint_url=cli.aws.endpoint,
        sts_endpoint_url=cli.aws.endpoint,
        credentials=Credentials(cli.env["AWS_ACCESS_KEY_ID"], cli.env["AWS_SECRET_ACCESS_KEY"]),
    )
    # Renewed every half life: three renewals, and requests after the last of them.
    await _work(shares, engine, lifetime / 2 * (RENEWALS + 0.5))
    print(f"sessions of {lifetime:.0f} s, one broker: {shares.check_one_brokers_calls(role)} calls")
    for name in (*ADAPTERS, "engine"):
        print(shares.seen(name).row())
    for name in (*ADAPTERS, "engine"):
        shares.check(shares.seen(name), RENEWALS)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install; no adapter needs the package of another."""
    import builtins
    import importlib.util

    from engine.credentials.adapters import ADAPTERS as KNOWN

    real_import, real_find = builtins.__import__, importlib.util.find_spec

    def no_import(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("boto3", "aiobotocore"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    def not_found(name: str, package: str | None = None) -> Any:
        return None if name in ("s3fs", "obstore") else real_find(name, package)

    adapters = {name: KNOWN.get(name) for name in KNOWN.names()}
    monkeypatch.setattr(builtins, "__import__", no_import)
    for module in ("s3fs", "obstore"):
        monkeypatch.setattr(f"engine.credentials.adapters.{module}.find_spec", not_found)
    for name, make in adapters.items():
        with pytest.raises(UsageError, match=f"the package {name} is not installed") as error:
            make(None)
        assert "s3engine[sharing]" in error.value.fix
