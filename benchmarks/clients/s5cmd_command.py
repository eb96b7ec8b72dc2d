"""s5cmd, the program: its argument vector for a job. Keys come from the environment."""

from __future__ import annotations

from benchmarks.clients.job import BUCKET, Job


def command(job: Job) -> list[str]:
    """``s5cmd cp`` of a file or of a tree."""
    remote = f"s3://{BUCKET}/{job.key}"
    local = f"{job.path}/" if job.tree else job.path
    source = (local if job.upload else f"{remote}*") if job.tree else local
    if not job.tree and not job.upload:
        source = remote
    target = remote if job.upload else local
    return ["s5cmd", "--endpoint-url", job.endpoint, "--log", "error", "cp", source, target]
