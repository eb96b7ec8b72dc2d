"""One GiB up and down through the command, within its memory. Minutes; ``make prove``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import MiB
from engine.testing.aws import AwsDouble

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]

COMMAND = str(Path(sys.executable).with_name("s3engine"))
SIZE = 1024 * MiB
MAX_MEMORY = 100 * MiB


# The kernel counts a child's peak from the moment of the fork, when it still is its parent; so a
# small process must start it, not this one, which holds the doubles.
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_memory(arguments: list[str], variables: dict[str, str]) -> int:
    """Run the command; its peak memory in bytes."""
    ran = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, COMMAND, *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(ran.stdout.splitlines()[-1]) * 1024


def test_a_gib_goes_up_and_down_within_100_mib(
    s3engine_aws: AwsDouble, s3engine_bucket: str, tmp_path: Path
) -> None:
    variables = {
        "AWS_ACCESS_KEY_ID": s3engine_aws.admin.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3engine_aws.admin.secret_access_key,
        "AWS_ENDPOINT_URL": s3engine_aws.endpoint,
    }
    source, back = tmp_path / "source", tmp_path / "back"
    with source.open("wb") as file:
        for _ in range(SIZE // MiB):
            file.write(os.urandom(MiB))
    url = f"s3://{s3engine_bucket}/big"
    up = peak_memory(["cp", str(source), url, "-q"], variables)
    down = peak_memory(["cp", url, str(back), "-q"], variables)
    print(f"peak memory up {up // MiB} MiB, down {down // MiB} MiB")
    with source.open("rb") as one, back.open("rb") as other:
        while piece := one.read(MiB):
            assert piece == other.read(MiB)
        assert not other.read(1)
    assert up <= MAX_MEMORY
    assert down <= MAX_MEMORY
