"""Clients of other SDKs, each a process that works on a bucket for a while with what it finds in
its environment: ``python -m tests.sharing.clients NAME BUCKET SECONDS``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

# Seconds between two requests of a client.
EVERY = 0.25


def with_boto3(bucket: str, seconds: float) -> None:
    import boto3

    client = boto3.client("s3")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.put_object(Bucket=bucket, Key="key", Body=b"bytes")
        assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"bytes"
        time.sleep(EVERY)


def with_aioboto3(bucket: str, seconds: float) -> None:
    import aioboto3

    async def main() -> None:
        end = time.monotonic() + seconds
        async with aioboto3.Session().client("s3") as client:
            while time.monotonic() < end:
                await client.put_object(Bucket=bucket, Key="key", Body=b"bytes")
                answer = await client.get_object(Bucket=bucket, Key="key")
                assert await answer["Body"].read() == b"bytes"
                await asyncio.sleep(EVERY)

    asyncio.run(main())


CLIENTS: dict[str, Callable[[str, float], None]] = {"boto3": with_boto3, "aioboto3": with_aioboto3}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
