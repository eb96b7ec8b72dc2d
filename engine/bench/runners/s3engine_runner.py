"""s3engine as a library, for workloads without files: bytes up from memory, streams thrown away."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import anyio

from engine import Credentials, Engine, S3Url, TransferConfig
from engine.bench.runners.job import Job, Nowhere, keys

# Streams and uploads at once; how many requests are under way is the engine's own matter.
_UNDER_WAY = 64


async def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    prefix = S3Url(job.bucket, job.key)
    data = job.memory() if job.verb == "upload" else None
    slots = anyio.Semaphore(_UNDER_WAY)
    async with Engine(
        credentials=Credentials(*keys()),
        region=job.region,
        endpoint_url=job.endpoint or None,
        ca_bundle=job.ca or None,
        config=TransferConfig(**job.options),
    ) as s3:

        async def one(name: str, size: int) -> None:
            async with slots:
                if data is not None:
                    await s3.upload(data[:size], prefix.join(name))
                    return
                sink = Nowhere()
                async with s3.open_read(prefix.join(name)) as reader:
                    async for piece in reader:
                        sink.write(piece)
                sink.check(size)

        async with anyio.create_task_group() as tasks:
            for name, size in job.items:
                tasks.start_soon(one, name, size)


if __name__ == "__main__":
    uvloop = find_spec("uvloop") is not None
    sys.exit(anyio.run(run, Job.from_argument(), backend_options={"use_uvloop": uvloop}))
