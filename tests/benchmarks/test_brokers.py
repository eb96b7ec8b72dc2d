"""The benchmark of brokers counts what it says: its smoke run, with numbers that must hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_smoke_run_of_the_brokers_counts_calls_and_failures() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.brokers", "--smoke"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = {
        row[1]: [int(number) for number in row[2].split()]
        for row in re.finditer(r"^(\w+) +(\d+ +)[\d.]+ +", ran.stdout, flags=re.MULTILINE)
    }
    assert set(rows) == {"s3engine", "botocore"}, ran.stdout
    assert rows["s3engine"] == [1], "one session of 6 s covers 2 s"
    assert rows["botocore"][0] > 1, "every set is in its mandatory window"
