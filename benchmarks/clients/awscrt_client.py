"""awscrt's own S3 client with its defaults. It cannot list: keys come with the job."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from awscrt import auth, http, s3

from benchmarks.clients.job import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, Job

# The client queues without a limit of its own in Python; this many are handed over at once.
_UNDER_WAY = 128


def run(job: Job) -> None:
    """Move what the job says; an object that fails ends the process with an error."""
    provider = auth.AwsCredentialsProvider.new_static(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    client = s3.S3Client(
        region=REGION,
        tls_mode=s3.S3RequestTlsMode.DISABLED,
        signing_config=s3.create_default_s3_signing_config(
            region=REGION, credential_provider=provider
        ),
    )
    if not job.tree:
        _start(client, job, job.path, job.key).finished_future.result()
        return
    waiting: list[Any] = []
    for name in job.names:
        path = os.path.join(job.path, name)
        if not job.upload:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        waiting.append(_start(client, job, path, job.key + name))
        if len(waiting) >= _UNDER_WAY:
            waiting.pop(0).finished_future.result()
    for request in waiting:
        request.finished_future.result()


def _start(client: Any, job: Job, path: str, key: str) -> Any:
    headers = http.HttpHeaders([("Host", urlsplit(job.endpoint).netloc)])
    if job.upload:
        headers.add("Content-Length", str(os.path.getsize(path)))
    method, kind = ("PUT", "PUT_OBJECT") if job.upload else ("GET", "GET_OBJECT")
    return client.make_request(
        type=s3.S3RequestType[kind],
        request=http.HttpRequest(method, f"/{BUCKET}/{key}", headers),
        **{"send_filepath" if job.upload else "recv_filepath": path},
    )


if __name__ == "__main__":
    run(Job.from_argument())
