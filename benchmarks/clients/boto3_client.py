"""boto3 with its default transfer manager: one manager for all objects, as the AWS CLI uses it.

Downloads of a tree take sizes from the listing, which spares the manager a HEAD an object; also
this is what the AWS CLI does.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from benchmarks.clients.job import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, Job


def run(job: Job, *, signed: bool) -> None:
    """Move what the job says; an object that fails ends the process with an error."""
    transfer = import_module("boto3.s3.transfer")
    client = _client(job, signed=signed)
    with transfer.create_transfer_manager(client, transfer.TransferConfig()) as manager:
        moves = _uploads(job, manager) if job.upload else _downloads(job, client, manager)
        for future in moves:
            future.result()


def _client(job: Job, *, signed: bool) -> Any:
    botocore = import_module("botocore")
    config = import_module("botocore.config").Config
    return import_module("boto3").client(
        "s3",
        region_name=REGION,
        endpoint_url=job.endpoint,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=config() if signed else config(signature_version=botocore.UNSIGNED),
    )


def _uploads(job: Job, manager: Any) -> list[Any]:
    if not job.tree:
        return [manager.upload(job.path, BUCKET, job.key)]
    moves = []
    for folder, _, names in os.walk(job.path):
        for name in names:
            path = os.path.join(folder, name)
            moves.append(manager.upload(path, BUCKET, job.key + os.path.relpath(path, job.path)))
    return moves


def _downloads(job: Job, client: Any, manager: Any) -> list[Any]:
    if not job.tree:
        return [manager.download(BUCKET, job.key, job.path)]
    known_size = _known_size()
    moves = []
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=job.key)
    for page in pages:
        for row in page.get("Contents", ()):
            path = os.path.join(job.path, row["Key"][len(job.key) :])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            size = [known_size(row["Size"])]
            moves.append(manager.download(BUCKET, row["Key"], path, subscribers=size))
    return moves


def _known_size() -> Any:
    base: Any = import_module("s3transfer.subscribers").BaseSubscriber

    class KnownSize(base):  # type: ignore[misc]  # the base comes without types
        """Tells the manager a size that the listing said."""

        def __init__(self, size: int) -> None:
            self.size = size

        def on_queued(self, future: Any, **_: Any) -> None:
            future.meta.provide_transfer_size(self.size)

    return KnownSize


if __name__ == "__main__":
    run(Job.from_argument(), signed="--unsigned" not in sys.argv)
