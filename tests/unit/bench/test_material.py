"""Generated files and what comes back: every difference is seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from engine.bench.material import check_room, difference, make
from engine.bench.workload import Item
from engine.errors import UsageError
from engine.types import MiB

ITEMS = (Item("a/1", 2 * MiB + 5), Item("a/2", MiB), Item("b", 0))


def _wrong(copy: Path, source: Path | None) -> str:
    return [*difference(copy, ITEMS, source), ""][0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    list(make(tmp_path / "source", ITEMS, Random(1)))
    return tmp_path / "source"


def test_no_block_is_there_twice(source: Path) -> None:
    data = [(source / item.name).read_bytes() for item in ITEMS]
    assert [len(one) for one in data] == [item.size for item in ITEMS]
    blocks = Counter(one[at : at + MiB] for one in data for at in range(0, len(one), MiB))
    assert set(blocks.values()) == {1} and len(blocks) == 4


def test_it_is_the_same_in_every_run(source: Path, tmp_path: Path) -> None:
    list(make(tmp_path / "again", ITEMS, Random(1)))
    assert _wrong(tmp_path / "again", source) == ""


@pytest.mark.parametrize("bad", ["missing", "more", "short", "bit"])
def test_every_difference_is_named(bad: str, source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    list(make(copy, ITEMS, Random(1)))
    path = copy / "a/1"
    if bad == "missing":
        path.unlink()
    elif bad == "more":
        (copy / "a/1x").write_bytes(b"")
    elif bad == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    assert "a/1" in _wrong(copy, source)
    assert bool(_wrong(copy, None)) is (bad != "bit"), "names and sizes only"


def test_what_would_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(UsageError, match="MiB free"):
        check_room(tmp_path, 2**62)
