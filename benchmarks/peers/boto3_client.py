"""boto3 with its default transfer manager: one manager for all objects, as the AWS CLI uses it.

Downloads of a tree take sizes from the listing, which spares the manager a HEAD an object; also
this is what the AWS CLI does. Under a role it calls AssumeRole itself.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from benchmarks.peers.job import BUCKET, REGION, Job


def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    transfer = import_module("boto3.s3.transfer")
    client = _client(job)
    if job.verb == "list":
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=job.key)
        job.check_listed(sum(len(page.get("Contents", ())) for page in pages))
        return
    with transfer.create_transfer_manager(client, transfer.TransferConfig()) as manager:
        extra = {"ChecksumAlgorithm": "CRC32"} if job.checksums == "on" else {}
        moves = (
            _uploads(job, manager, extra) if job.verb == "up" else _downloads(job, client, manager)
        )
        for future in moves:
            future.result()


def _client(job: Job) -> Any:
    when = "when_required" if job.checksums == "off" else "when_supported"
    config = import_module("botocore.config").Config(
        request_checksum_calculation=when, response_checksum_validation=when
    )
    session = import_module("boto3").session.Session(region_name=REGION)
    given: dict[str, str] = {}
    if job.role:
        sts = session.client("sts", endpoint_url=job.endpoint)
        answer = sts.assume_role(RoleArn=job.role, RoleSessionName="bench")["Credentials"]
        given = {
            "aws_access_key_id": answer["AccessKeyId"],
            "aws_secret_access_key": answer["SecretAccessKey"],
            "aws_session_token": answer["SessionToken"],
        }
    return session.client("s3", endpoint_url=job.endpoint, config=config, **given)


def _uploads(job: Job, manager: Any, extra: dict[str, str]) -> list[Any]:
    if not job.tree:
        return [manager.upload(job.path, BUCKET, job.key, extra_args=extra)]
    return [
        manager.upload(os.path.join(job.path, name), BUCKET, job.key + name, extra_args=extra)
        for name in job.local_names()
    ]


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
            size = [known_size(row["Size"], row["ETag"])]
            moves.append(manager.download(BUCKET, row["Key"], path, subscribers=size))
    return moves


def _known_size() -> Any:
    base: Any = import_module("s3transfer.subscribers").BaseSubscriber

    class KnownSize(base):  # type: ignore[misc]  # the base comes without types
        """Tells the manager what the listing said."""

        def __init__(self, size: int, etag: str) -> None:
            self.size, self.etag = size, etag

        def on_queued(self, future: Any, **_: Any) -> None:
            future.meta.provide_transfer_size(self.size)
            # Newer managers fetch by HEAD what they are not told.
            if hasattr(future.meta, "provide_object_etag"):
                future.meta.provide_object_etag(self.etag)

    return KnownSize


if __name__ == "__main__":
    run(Job.from_argument())
