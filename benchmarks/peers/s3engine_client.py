"""s3engine as a library: one engine, defaults, uvloop where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import anyio

from benchmarks.peers.job import BUCKET, REGION, Job
from engine import Engine, Manifest, RoleSpec, TransferConfig


async def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    url = f"s3://{BUCKET}/{job.key}"
    role = RoleSpec(job.role) if job.role else None
    async with Engine(
        role,
        region=REGION,
        endpoint_url=job.endpoint,
        sts_endpoint_url=job.endpoint,
        ca_bundle=job.ca or None,
        config=_config(job),
    ) as s3:
        if job.verb == "list":
            job.check_listed(sum([len(page) async for page in s3.list_pages(url)]))
        elif job.tree:
            up = job.verb == "up"
            manifest = Manifest.upload(job.path, url) if up else Manifest.download(url, job.path)
            report = await s3.run(manifest)
            if report.failed:
                raise report.failed[0].error
        elif job.verb == "up":
            await s3.upload(job.path, url)
        else:
            await s3.download(url, job.path)


def _config(job: Job) -> TransferConfig:
    return TransferConfig(checksum="none") if job.checksums == "off" else TransferConfig()


if __name__ == "__main__":
    anyio.run(
        run,
        Job.from_argument(),
        backend_options={"use_uvloop": find_spec("uvloop") is not None},
    )
