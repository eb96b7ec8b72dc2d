"""obstore with its defaults and asyncio; 64 objects of a tree under way, as many as s3engine."""

from __future__ import annotations

import asyncio
import os
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.clients.job import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, Job

_UNDER_WAY = 64


async def run(job: Job) -> None:
    """Move what the job says; an object that fails ends the process with an error."""
    obstore = import_module("obstore")
    store = import_module("obstore.store").S3Store(
        BUCKET,
        region=REGION,
        endpoint=job.endpoint,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        unsigned_payload=True,
        client_options={"allow_http": True},
    )
    if not job.tree:
        await _move(obstore, store, job, job.path, job.key)
        return
    slots = asyncio.Semaphore(_UNDER_WAY)

    async def one(path: str, key: str) -> None:
        async with slots:
            await _move(obstore, store, job, path, key)

    async with asyncio.TaskGroup() as tasks:
        for name in await asyncio.to_thread(_names, obstore, store, job):
            tasks.create_task(one(os.path.join(job.path, name), job.key + name))


def _names(obstore: Any, store: Any, job: Job) -> list[str]:
    if job.upload:
        root = Path(job.path)
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    pages = obstore.list(store, job.key)
    return [row["path"][len(job.key) :] for page in pages for row in page]


async def _move(obstore: Any, store: Any, job: Job, path: str, key: str) -> None:
    if job.upload:
        await obstore.put_async(store, key, Path(path))
        return
    answer = await obstore.get_async(store, key)
    with _create(path) as file:
        async for piece in answer.stream():
            file.write(piece)


def _create(path: str) -> BinaryIO:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return open(path, "wb")


if __name__ == "__main__":
    asyncio.run(run(Job.from_argument()))
