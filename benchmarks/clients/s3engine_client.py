"""s3engine as its command runs it: one engine, defaults, uvloop where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import anyio

from benchmarks.clients.job import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, Job
from engine import Credentials, Engine, Manifest


async def run(job: Job) -> None:
    """Move what the job says; an object that fails ends the process with an error."""
    url = f"s3://{BUCKET}/{job.key}"
    credentials = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    async with Engine(region=REGION, endpoint_url=job.endpoint, credentials=credentials) as s3:
        if job.tree:
            way = Manifest.upload if job.upload else Manifest.download
            report = await s3.run(way(job.path, url) if job.upload else way(url, job.path))
            if report.failed:
                raise report.failed[0].error
        elif job.upload:
            await s3.upload(job.path, url)
        else:
            await s3.download(url, job.path)


if __name__ == "__main__":
    anyio.run(
        run,
        Job.from_argument(),
        backend_options={"use_uvloop": find_spec("uvloop") is not None},
    )
