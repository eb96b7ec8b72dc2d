"""aioboto3 with its own transfers: ``upload_file`` and ``download_file`` an object, 64 at once."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from typing import Any

from benchmarks.peers.job import BUCKET, REGION, Job

_UNDER_WAY = 64


async def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    when = "when_required" if job.checksums == "off" else "when_supported"
    config = import_module("aiobotocore.config").AioConfig(
        request_checksum_calculation=when,
        response_checksum_validation=when,
        max_pool_connections=_UNDER_WAY,
    )
    session = import_module("aioboto3").Session(region_name=REGION)
    given = await _assumed(session, job) if job.role else {}
    async with session.client("s3", endpoint_url=job.endpoint, config=config, **given) as client:
        if job.verb == "list":
            job.check_listed(len([row async for row in _rows(client, job)]))
        elif not job.tree:
            await _move(client, job, job.path, job.key)
        else:
            await _tree(client, job)


async def _assumed(session: Any, job: Job) -> dict[str, str]:
    async with session.client("sts", endpoint_url=job.endpoint) as sts:
        answer = (await sts.assume_role(RoleArn=job.role, RoleSessionName="bench"))["Credentials"]
    return {
        "aws_access_key_id": answer["AccessKeyId"],
        "aws_secret_access_key": answer["SecretAccessKey"],
        "aws_session_token": answer["SessionToken"],
    }


async def _rows(client: Any, job: Job) -> Any:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=job.key)
    async for page in pages:
        for row in page.get("Contents", ()):
            yield row


async def _tree(client: Any, job: Job) -> None:
    slots = asyncio.Semaphore(_UNDER_WAY)

    async def one(name: str) -> None:
        async with slots:
            await _move(client, job, os.path.join(job.path, name), job.key + name)

    if job.verb == "up":
        names = job.local_names()
    else:
        names = [row["Key"][len(job.key) :] async for row in _rows(client, job)]
        for folder in {os.path.dirname(name) for name in names}:
            os.makedirs(os.path.join(job.path, folder), exist_ok=True)
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(one(name))


async def _move(client: Any, job: Job, path: str, key: str) -> None:
    if job.verb == "up":
        await client.upload_file(path, BUCKET, key)
    else:
        await client.download_file(BUCKET, key, path)


if __name__ == "__main__":
    asyncio.run(run(Job.from_argument()))
