"""One bit flipped at 50 places of an upload and of a download, by the command. ``make prove``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from engine.testing.aws import AwsDouble
from engine.types import MiB

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

COMMAND = str(Path(sys.executable).with_name("s3engine"))
PLACES = 50
PART = 5 * MiB
SIZE = 6 * PART + 123_457
SEED = 20261126


def cp(aws: AwsDouble, source: object, target: object) -> None:
    """``s3engine cp``, in parts; it must end with exit code 0."""
    options = ["--part-size", "5MiB", "--multipart-threshold", "5MiB"]
    options += ["--multipart-download-threshold", "5MiB", "-q"]
    variables = {
        "AWS_ACCESS_KEY_ID": aws.admin.access_key_id,
        "AWS_SECRET_ACCESS_KEY": aws.admin.secret_access_key,
        "AWS_ENDPOINT_URL": aws.endpoint,
    }
    subprocess.run(
        [COMMAND, "cp", str(source), str(target), *options],
        env={**os.environ, **variables},
        check=True,
        timeout=60,
    )


def test_a_bit_flipped_at_50_places_of_an_upload(
    s3engine_aws: AwsDouble, s3engine_bucket: str, tmp_path: Path
) -> None:
    gate, random = s3engine_aws.gate, Random(SEED)
    source = tmp_path / "source"
    source.write_bytes(random.randbytes(SIZE))
    for _ in range(PLACES):
        offset, bit = random.randrange(SIZE), random.randrange(8)
        gate.log.clear()
        gate.faults.clear()
        fault = gate.faults.add(
            kind="garble",
            action="UploadPart",
            part_number=offset // PART + 1,
            at=offset % PART,
            bit=bit,
        )
        cp(s3engine_aws, source, f"s3://{s3engine_bucket}/key")
        assert fault.fired == 1
        parts = gate.log.where(action="UploadPart")
        assert [part.error_code for part in parts if part.failed] == ["BadDigest"]
        assert len(parts) == 7 + 1
        assert gate.get_object(s3engine_bucket, "key") == source.read_bytes()
    print(f"{PLACES} flips of an upload: each healed by one part, exit code 0")


def test_a_bit_flipped_at_50_places_of_a_download(
    s3engine_aws: AwsDouble, s3engine_bucket: str, tmp_path: Path
) -> None:
    """The store has a checksum of the whole and none of its parts, as S3 has."""
    gate, random = s3engine_aws.gate, Random(SEED + 1)
    data = random.randbytes(SIZE)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(data)
    cp(s3engine_aws, source, f"s3://{s3engine_bucket}/key")
    for _ in range(PLACES):
        gate.log.clear()
        gate.faults.clear()
        # Ranges come in any order: the nth that comes, at a place that all of them have.
        fault = gate.faults.add(
            kind="flip",
            action="GetObject",
            nth=random.randint(1, 7),
            at=random.randrange(SIZE % PART),
            bit=random.randrange(8),
        )
        cp(s3engine_aws, f"s3://{s3engine_bucket}/key", back)
        assert fault.fired == 1
        ranges = [entry.headers["range"] for entry in gate.log.where(action="GetObject")]
        (flipped,) = [e.headers["range"] for e in gate.log.entries() if "flip" in e.fault]
        assert len(ranges) == 7 + 1
        assert ranges.count(flipped) == 2
        assert back.read_bytes() == data
    print(f"{PLACES} flips of a download: each healed by one range, exit code 0")
