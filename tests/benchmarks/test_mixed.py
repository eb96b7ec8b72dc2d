"""The benchmark of small and huge objects together: what it counts, and what it asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import mixed
from benchmarks.fast_origin.build import CannotBuild, build
from benchmarks.mixed_client import LEAST_LOOKS, Look, share


def test_a_share_counts_where_more_was_wanted() -> None:
    wanted = Look(small=60, small_waiting=5, huge=40, huge_waiting=1, slots=100)
    enough = Look(small=99, small_waiting=0, huge=1, huge_waiting=0, slots=100)
    alone = Look(small=0, small_waiting=0, huge=10, huge_waiting=9, slots=100)
    looks = [wanted] * LEAST_LOOKS + [enough, alone] * LEAST_LOOKS
    for huge, part in ((False, 0.6), (True, 0.4)):
        found = share(looks, huge=huge)
        assert (found.looks, found.least) == (LEAST_LOOKS, part)
        assert found.mean == pytest.approx(part)
    returning = Look(small=90, small_waiting=0, huge=40, huge_waiting=9, slots=100)
    assert returning.share(huge=True) == 0.4
    assert share([wanted, alone], huge=True).least is None


@pytest.mark.slow
@pytest.mark.parametrize("direction", [pytest.param("up", marks=pytest.mark.prove), "down"])
def test_all_objects_are_moved_and_counted(tmp_path: Path, direction: str) -> None:
    try:
        build()
    except CannotBuild as error:
        if "failed for" in str(error):
            raise
        pytest.skip(f"no C compiler: {error}")
    sizes = "--count 40 --huge-count 2 --huge 20MiB --rounds 1 --networks 5 --transports http"
    out = tmp_path / "mixed.json"
    mixed.main(
        [*sizes.split(), "--directions", direction, "--dir", str(tmp_path), "--json", str(out)]
    )
    (result,) = json.loads(out.read_text())["results"]
    runs = {kind: found for kind, (found,) in result["runs"].items()}
    assert {kind: found["objects"] for kind, found in runs.items()} == {
        "small": 40,
        "huge": 2,
        "together": 42,
    }
    assert runs["together"]["p99"] > 0 and runs["huge"]["p99"] is None
    assert runs["small"]["most_huge"] == 0 < runs["huge"]["most_huge"]
    assert not list(tmp_path.glob("s3engine-bench-*"))
