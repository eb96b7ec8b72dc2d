"""Crowds of signers under somebody's broker of an assumed role, one process each.

``python -m benchmarks.broker_clients NAME SIGNERS RATE SECONDS`` with the role in the profile
``role`` and the keys in ``base``, as ``benchmarks.brokers`` sets them up. Each broker is used as
its own documentation says. Prints ``ready``, waits for a line, works, prints one JSON document.

What lives here: how each broker is asked. What must not: faults, or what is good.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

# What one asks of a broker: the access key id that it gave, or "" where it does not tell.
Ask = Callable[[], Awaitable[str]]


@dataclass
class Tally:
    """What a crowd met.

    Attributes:
        took: Seconds of each signing.
        failed: Signings that ended with an error, by its name.
        used: For each access key id when (``time.time``) it was given out.
    """

    took: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    used: dict[str, list[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, began: float, key_id: str, error: BaseException | None) -> None:
        """One signing that began at ``began`` of ``time.monotonic``."""
        with self.lock:
            self.took.append(time.monotonic() - began)
            if error is not None:
                self.failed[type(error).__name__] += 1
            elif key_id:
                self.used.setdefault(key_id, []).append(time.time())


@dataclass(frozen=True)
class Crowd:
    """So many signers, each so many times a second, for so long."""

    signers: int
    rate: float
    seconds: float

    async def run(self, ask: Ask, tally: Tally) -> None:
        """As tasks of one loop. The end cuts nobody off in a wait; that is counted too."""
        _wait_for_go()
        end = time.monotonic() + self.seconds

        async def signer(first: float) -> None:
            await asyncio.sleep(first)
            while (began := time.monotonic()) < end:
                try:
                    tally.note(began, await ask(), None)
                except Exception as error:
                    tally.note(began, "", error)
                await asyncio.sleep(1 / self.rate)

        spread = 1 / self.rate / self.signers
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.signers):
                tasks.create_task(signer(number * spread))

    def run_threads(self, ask: Callable[[], str], tally: Tally) -> None:
        """As threads."""
        _wait_for_go()
        end = time.monotonic() + self.seconds

        def signer(first: float) -> None:
            time.sleep(first)
            while (began := time.monotonic()) < end:
                try:
                    tally.note(began, ask(), None)
                except Exception as error:
                    tally.note(began, "", error)
                time.sleep(1 / self.rate)

        spread = 1 / self.rate / self.signers
        threads = [
            threading.Thread(target=signer, args=(number * spread,))
            for number in range(self.signers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def s3engine(crowd: Crowd, tally: Tally) -> None:
    """Tasks that ask the engine's lease."""
    from engine import Credentials, Engine, RoleSpec

    keys = Credentials(os.environ["BENCH_KEY_ID"], os.environ["BENCH_SECRET"])

    async def main() -> None:
        async with Engine(RoleSpec(os.environ["BENCH_ROLE"]), credentials=keys) as s3:

            async def ask() -> str:
                return (await s3.lease.ready()).access_key_id

            await crowd.run(ask, tally)

    asyncio.run(main())


def botocore(crowd: Crowd, tally: Tally) -> None:
    """Threads that share the credentials of one session; what its signers do."""
    import botocore.session

    credentials = botocore.session.Session(profile="role").get_credentials()
    crowd.run_threads(lambda: str(credentials.get_frozen_credentials().access_key), tally)


def aiobotocore(crowd: Crowd, tally: Tally) -> None:
    """Tasks that share the credentials of one session."""
    from aiobotocore.session import AioSession

    async def main() -> None:
        credentials = await AioSession(profile="role").get_credentials()

        async def ask() -> str:
            return str((await credentials.get_frozen_credentials()).access_key)

        await crowd.run(ask, tally)

    asyncio.run(main())


def obstore(crowd: Crowd, tally: Tally, *, provider: str) -> None:
    """Tasks that HEAD an object: only a request makes the store ask its provider."""
    import boto3
    import obstore as obs
    from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider
    from obstore.store import S3Store

    if provider == "sts":
        given = StsCredentialProvider(
            boto3.Session(profile_name="base"),
            RoleArn=os.environ["BENCH_ROLE"],
            RoleSessionName="bench",
        )

        def made() -> Any:
            # The store takes no time zone but datetime.UTC, and boto3 gives another: as it is, the
            # provider of 0.12.1 fails at every call.
            found: Any = given()
            return {**found, "expires_at": found["expires_at"].astimezone(UTC)}

    else:
        made = Boto3CredentialProvider(boto3.Session(profile_name="role"))
    store = S3Store(
        os.environ["BENCH_BUCKET"],
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        credential_provider=made,
    )

    async def ask() -> str:
        await obs.head_async(store, "key")
        return ""

    async def main() -> None:
        await crowd.run(ask, tally)

    asyncio.run(main())


BROKERS: dict[str, Callable[[Crowd, Tally], None]] = {
    "s3engine": s3engine,
    "botocore": botocore,
    "aiobotocore": aiobotocore,
    "obstore/sts": functools.partial(obstore, provider="sts"),
    "obstore/boto3": functools.partial(obstore, provider="boto3"),
}
"""Name -> what its crowd does. ``obstore`` is only there where it is installed."""


def available() -> list[str]:
    """The names that can run here."""
    here = importlib.util.find_spec("obstore") is not None
    return [name for name in BROKERS if here or not name.startswith("obstore")]


def main() -> None:
    """Run one crowd and print what it met."""
    name, signers, rate, seconds = sys.argv[1:]
    tally = Tally()
    BROKERS[name](Crowd(int(signers), float(rate), float(seconds)), tally)
    print(json.dumps({"took": tally.took, "failed": tally.failed, "used": tally.used}))


if __name__ == "__main__":
    main()
