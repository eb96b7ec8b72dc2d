"""boto3 with its default transfer manager, one for all objects, as the AWS CLI uses it.

Downloads take sizes from what is known, which spares the manager a HEAD an object; so does the
AWS CLI, which has them from its listing.
"""

from __future__ import annotations

import io
from typing import Any

import boto3
import boto3.s3.transfer
import s3transfer.subscribers

from engine.bench.runners.job import Job, Nowhere


def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    client = boto3.client("s3", region_name=job.region, endpoint_url=job.endpoint or None)
    if job.verb == "list":
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=job.bucket, Prefix=job.key)
        job.check_listed(sum(len(page.get("Contents", ())) for page in pages))
        return
    transfer = boto3.s3.transfer
    with transfer.create_transfer_manager(client, transfer.TransferConfig()) as manager:
        moves = _uploads(job, manager) if job.verb == "upload" else _downloads(job, manager)
        for future, sink, size in moves:
            future.result()
            if sink is not None:
                sink.check(size)


def _uploads(job: Job, manager: Any) -> list[Any]:
    extra = {"ChecksumAlgorithm": job.checksum} if job.checksum else {}
    if not job.in_memory:
        return [
            (manager.upload(job.path(name), job.bucket, job.key + name, extra), None, size)
            for name, size in job.items
        ]
    data = job.memory()
    return [
        (manager.upload(io.BytesIO(data[:size]), job.bucket, job.key + name, extra), None, size)
        for name, size in job.items
    ]


def _downloads(job: Job, manager: Any) -> list[Any]:
    extra = {"ChecksumMode": "ENABLED"} if job.checksum else {}
    if not job.in_memory:
        job.make_folders()
    moves = []
    for name, size in job.items:
        sink = Nowhere() if job.in_memory else None
        future = manager.download(
            job.bucket, job.key + name, sink or job.path(name), extra, [_KnownSize(size)]
        )
        moves.append((future, sink, size))
    return moves


class _KnownSize(s3transfer.subscribers.BaseSubscriber):  # type: ignore[misc]
    """Tells the manager the size, or it would ask for it object by object."""

    def __init__(self, size: int) -> None:
        self._size = size

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size)


if __name__ == "__main__":
    run(Job.from_argument())
