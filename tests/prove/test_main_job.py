"""The main job as a user runs it, and every way of breaking it. Minutes; ``make prove``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]

COMMAND = str(Path(sys.executable).with_name("s3engine"))


def demo(*arguments: str) -> tuple[int, str, str]:
    ran = subprocess.run(
        [COMMAND, "demo", *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_the_demo_loads_every_row_under_at_least_three_renewals() -> None:
    status, out, err = demo()
    assert status == 0, err
    found = re.search(r"renewals +(\d+) inside uploads", out)
    assert found is not None and int(found[1]) >= 3
    for count in ("336,776", "26,115", "1,458", "3,322", "16"):
        assert re.search(rf" {count} +{count}$", out, flags=re.MULTILINE), count
    assert "demo ok" in out
    assert "\r" not in err


@pytest.mark.parametrize(
    ("sabotage", "name"),
    [
        ("drop-row", "CountMismatch"),
        ("flip-byte", "ChecksumMismatch"),
        ("expire", "CredentialsExpired"),
    ],
)
def test_a_sabotage_is_named(sabotage: str, name: str) -> None:
    status, out, err = demo("--sabotage", sabotage, "--quiet")
    assert status == 1
    assert f"demo FAILED: {name}:" in err
    assert "demo ok" not in out
    assert "Traceback" not in err
