"""Plans: whatever the size, the parts are the object and S3's limits hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import UsageError
from engine.config import (
    MAX_OBJECT_SIZE,
    MAX_PART_SIZE,
    MAX_PARTS,
    MIN_PART_SIZE,
    TransferConfig,
)
from engine.transfer.parts import plan_parts, plan_ranges, raised_part_size
from engine.types import GiB, MiB

# Sizes whose plans are worth listing: from nothing to a thousand parts, and the edges.
sizes = st.one_of(
    st.integers(0, 64 * MiB),
    st.integers(0, 64 * GiB),
    st.sampled_from([10_485_759, 10_485_760, 10_485_761, 5 * GiB, 5 * GiB + 1]),
)
part_sizes = st.integers(MIN_PART_SIZE, 512 * MiB)


@given(size=sizes, part_size=part_sizes, threshold=st.integers(0, GiB))
def test_the_parts_are_the_object(size: int, part_size: int, threshold: int) -> None:
    config = TransferConfig(part_size=part_size, multipart_threshold=threshold)
    plan = plan_parts(size, config)
    assert plan.multipart == (size > threshold)
    assert len(plan.parts) <= MAX_PARTS
    offset = 0
    for number, part in enumerate(plan.parts, start=1):
        assert (part.number, part.offset) == (number, offset)
        offset += part.length
    assert offset == size
    if plan.multipart:
        assert {part.length for part in plan.parts[:-1]} <= {plan.part_size}
        assert 0 < plan.parts[-1].length <= plan.part_size
        assert MIN_PART_SIZE <= plan.part_size <= MAX_PART_SIZE


@given(size=st.integers(1, MAX_OBJECT_SIZE), part_size=part_sizes)
def test_the_part_size_grows_in_steps_of_1_mib_and_no_more_than_needed(
    size: int, part_size: int
) -> None:
    raised = raised_part_size(size, part_size)
    assert raised >= part_size
    assert raised <= MAX_PART_SIZE
    assert -(-size // raised) <= MAX_PARTS
    if raised > part_size:
        assert raised % MiB == 0
        assert -(-size // max(part_size, raised - MiB)) > MAX_PARTS


def test_the_largest_object_has_10_000_parts_of_5_gib() -> None:
    assert raised_part_size(MAX_OBJECT_SIZE, 8 * MiB) == MAX_PART_SIZE
    with pytest.raises(UsageError, match="over S3's limit"):
        plan_parts(MAX_OBJECT_SIZE + 1, TransferConfig())


@pytest.mark.parametrize(
    ("size", "parts"), [(0, 1), (10_485_760, 1), (10_485_761, 2), (16 * MiB, 2), (16 * MiB + 1, 3)]
)
def test_the_threshold_is_strict_in_both_directions(size: int, parts: int) -> None:
    for plan in (plan_parts, plan_ranges):
        assert len(plan(size, TransferConfig()).parts) == parts


@pytest.mark.parametrize(
    "settings",
    [
        {"part_size": MIN_PART_SIZE - 1},
        {"part_size": MAX_PART_SIZE + 1},
        {"multipart_threshold": -1},
        {"multipart_threshold": 5 * GiB + 1},
        {"max_parts_in_flight": 0},
        {"max_concurrency": 0},
        {"max_memory": 1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        TransferConfig(**settings)  # type: ignore[arg-type]  # a mapping of several types
