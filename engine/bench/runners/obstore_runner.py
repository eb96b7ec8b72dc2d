"""obstore under asyncio with its defaults: ``put_async``, and one GET streamed to a file.

Objects are under way as many at a time as s3engine begins with; obstore itself has no limit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import obstore
from obstore.store import S3Store

from engine.bench.runners.job import Job, Nowhere, keys

_UNDER_WAY = 64


def _store(job: Job) -> Any:
    key, secret, token = keys()
    options: Any = {"allow_http": True}
    if job.ca:
        options["root_certificate"] = Path(job.ca).read_bytes()
    more: dict[str, Any] = {"session_token": token} if token else {}
    if job.endpoint:
        more["endpoint"] = job.endpoint
    return S3Store(
        job.bucket,
        region=job.region,
        access_key_id=key,
        secret_access_key=secret,
        client_options=options,
        **more,
    )


async def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    store = _store(job)
    if job.verb == "list":
        job.check_listed(sum(len(page) for page in obstore.list(store, job.key)))
        return
    slots = anyio.Semaphore(_UNDER_WAY)
    data = job.memory() if job.in_memory and job.verb == "upload" else None
    if job.verb == "download" and not job.in_memory:
        job.make_folders()

    async def one(name: str, size: int) -> None:
        async with slots:
            key = job.key + name
            if data is not None:
                await obstore.put_async(store, key, bytes(data[:size]))
            elif job.verb == "upload":
                await obstore.put_async(store, key, Path(job.path(name)))
            else:
                await _download(job, await obstore.get_async(store, key), name, size)

    async with anyio.create_task_group() as tasks:
        for name, size in job.items:
            tasks.start_soon(one, name, size)


async def _download(job: Job, answer: Any, name: str, size: int) -> None:
    if job.in_memory:
        sink = Nowhere()
        async for piece in answer.stream():
            sink.write(piece)
        sink.check(size)
        return
    with _create(job.path(name)) as file:
        async for piece in answer.stream():
            file.write(piece)


def _create(path: str) -> BinaryIO:
    return open(path, "wb")


if __name__ == "__main__":
    anyio.run(run, Job.from_argument())
    os._exit(0)  # now and then its threads abort the interpreter while that ends
