"""The real servers, started once a run, and the one reason for which a test may be skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.packages import missing
from tests.interop.radosgw import Radosgw
from tests.interop.scene import Scene, build

# The sizes at which the way of moving changes, and one of several parts.
SIZES = (0, 10_485_760, 10_485_761, 25_165_824)


@pytest.fixture(scope="session")
def _radosgw() -> Iterator[Radosgw]:
    # Skipped only here, and only for this: every other failure fails.
    if lacking := missing():
        pytest.skip(f"not installed: {' '.join(lacking)} (make interop installs them)")
    with Radosgw() as radosgw:
        yield radosgw


@pytest.fixture(scope="session")
def scene(_radosgw: Radosgw) -> Scene:
    """Users, roles and buckets of two accounts at radosgw."""
    return build(_radosgw)


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a file of each size, and names that need encoding."""
    folder = tmp_path_factory.mktemp("interop") / "dump"
    (folder / "sub folder").mkdir(parents=True)
    for size in SIZES:
        (folder / f"{size}.bin").write_bytes(os.urandom(size))
    (folder / "sub folder" / "ä+b%20c d=e.txt").write_bytes(b"odd names")
    return folder
