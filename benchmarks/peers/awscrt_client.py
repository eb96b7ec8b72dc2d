"""awscrt's own S3 client with its defaults. It cannot list: the keys of a tree are made here."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit

from awscrt import auth, http, io, s3

from benchmarks.peers.job import BUCKET, CANNOT, REGION, Job, keys

# The client queues without a limit of its own in Python; this many are handed over at once.
_UNDER_WAY = 128


def run(job: Job) -> None:
    """Do what the job says; an object that fails ends the process with an error."""
    if job.verb == "list":
        sys.exit(CANNOT)
    client = _client(job)
    if not job.tree:
        _start(client, job, job.path, job.key).finished_future.result()
        return
    waiting: list[Any] = []
    names = job.local_names() if job.verb == "up" else _names(job.count)
    if job.verb == "down":
        for folder in {os.path.dirname(name) for name in names}:
            os.makedirs(os.path.join(job.path, folder), exist_ok=True)
    for name in names:
        waiting.append(_start(client, job, os.path.join(job.path, name), job.key + name))
        if len(waiting) >= _UNDER_WAY:
            waiting.pop(0).finished_future.result()
    for request in waiting:
        request.finished_future.result()


def _names(count: int) -> list[str]:
    return [f"{number // 1000:05d}/{number:07d}" for number in range(count)]


def _client(job: Job) -> Any:
    provider = auth.AwsCredentialsProvider.new_static(*keys())
    tls = None
    if job.ca:
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, job.ca)
        tls = io.ClientTlsContext(options).new_connection_options()
        tls.set_server_name(urlsplit(job.endpoint).hostname)
    return s3.S3Client(
        region=REGION,
        tls_mode=s3.S3RequestTlsMode.ENABLED if job.ca else s3.S3RequestTlsMode.DISABLED,
        tls_connection_options=tls,
        signing_config=s3.create_default_s3_signing_config(
            region=REGION, credential_provider=provider
        ),
    )


def _start(client: Any, job: Job, path: str, key: str) -> Any:
    up = job.verb == "up"
    headers = http.HttpHeaders([("Host", urlsplit(job.endpoint).netloc)])
    if up:
        headers.add("Content-Length", str(os.path.getsize(path)))
    checksum = None
    if job.checksums == "on":
        checksum = s3.S3ChecksumConfig(
            algorithm=s3.S3ChecksumAlgorithm.CRC64NVME if up else None,
            location=s3.S3ChecksumLocation.TRAILER if up else None,
            validate_response=not up,
        )
    return client.make_request(
        type=s3.S3RequestType.PUT_OBJECT if up else s3.S3RequestType.GET_OBJECT,
        request=http.HttpRequest("PUT" if up else "GET", f"/{BUCKET}/{key}", headers),
        checksum_config=checksum,
        **{"send_filepath" if up else "recv_filepath": path},
    )


if __name__ == "__main__":
    run(Job.from_argument())
