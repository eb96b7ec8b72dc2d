"""obstore under asyncio: with its defaults, or tuned (``--tuned``).

Default: ``put_async`` of a path (parts of 5 MiB, 12 at once) with the SHA-256 of every body in its
signature, one GET streamed to a file. Tuned: uvloop, parts of 16 MiB, ranges of 8 MiB, 8 at once,
small objects as one bytes object each. ``--unsigned`` leaves the SHA-256 out. 64 small objects are
under way, as many as s3engine has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.peers.job import BUCKET, CANNOT, REGION, Job, keys

_SMALL_UNDER_WAY = 64
_BIG_UNDER_WAY = 8
_PART = 16 * 2**20
_RANGE = 8 * 2**20
_SMALL = 2**20
TUNED = "--tuned" in sys.argv
UNSIGNED = "--unsigned" in sys.argv

obstore = import_module("obstore")


def _store(job: Job) -> Any:
    key, secret, token = keys()
    options: dict[str, Any] = {"allow_http": True}
    if job.ca:
        options["root_certificate"] = Path(job.ca).read_bytes()
    more: dict[str, Any] = {"session_token": token} if token else {}
    if job.checksums == "on":
        more["checksum_algorithm"] = "CRC64NVME"
    return import_module("obstore.store").S3Store(
        BUCKET,
        region=REGION,
        endpoint=job.endpoint,
        access_key_id=key,
        secret_access_key=secret,
        unsigned_payload=UNSIGNED,
        client_options=options,
        **more,
    )


async def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    store = _store(job)
    if job.verb == "list":
        job.check_listed(sum(len(page) for page in obstore.list(store, job.key)))
    elif not job.tree:
        await (_upload if job.verb == "up" else _download)(store, job.path, job.key)
    elif job.verb == "up":
        await _each(
            job.local_names(),
            lambda name: _upload(store, os.path.join(job.path, name), job.key + name),
        )
    else:
        rows = [row["path"] for page in obstore.list(store, job.key) for row in page]
        for folder in {os.path.dirname(row[len(job.key) :]) for row in rows}:
            os.makedirs(os.path.join(job.path, folder), exist_ok=True)
        await _each(
            rows,
            lambda row: _download(store, os.path.join(job.path, row[len(job.key) :]), row, True),
        )


async def _each(names: Iterable[str], move: Callable[[str], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(_SMALL_UNDER_WAY)

    async def one(name: str) -> None:
        async with slots:
            await move(name)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(one(name))


async def _upload(store: Any, path: str, key: str) -> None:
    if not TUNED:
        await obstore.put_async(store, key, Path(path))
    elif small := _small_content(path):
        await obstore.put_async(store, key, small, use_multipart=False)
    else:
        await obstore.put_async(
            store, key, Path(path), chunk_size=_PART, max_concurrency=_BIG_UNDER_WAY
        )


def _small_content(path: str) -> bytes | None:
    return Path(path).read_bytes() if os.path.getsize(path) <= _SMALL else None


def _create(path: str) -> BinaryIO:
    return open(path, "wb")


async def _download(store: Any, path: str, key: str, small: bool = False) -> None:
    if TUNED and not small:
        await _ranges(store, path, key)
        return
    answer = await obstore.get_async(store, key)
    with _create(path) as file:
        if TUNED:
            file.write(await answer.bytes_async())
            return
        async for piece in answer.stream():
            file.write(piece)


async def _ranges(store: Any, path: str, key: str) -> None:
    size = (await obstore.head_async(store, key))["size"]
    slots = asyncio.Semaphore(_BIG_UNDER_WAY)
    with _create(path) as file:
        file.truncate(size)

        async def one(start: int) -> None:
            async with slots:
                end = min(start + _RANGE, size)
                piece = await obstore.get_range_async(store, key, start=start, end=end)
                os.pwrite(file.fileno(), piece, start)

        async with asyncio.TaskGroup() as tasks:
            for start in range(0, size, _RANGE):
                tasks.create_task(one(start))


if __name__ == "__main__":
    job = Job.from_argument()
    if job.checksums == "on" and job.verb == "down":
        sys.exit(CANNOT)  # it checks no download
    if TUNED:
        with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
            runner.run(run(job))
    else:
        asyncio.run(run(job))
    os._exit(0)  # now and then its threads abort the interpreter while that ends
