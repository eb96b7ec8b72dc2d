"""Plans: whatever the size, the parts are the object and the store's limits hold."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import StoreLimits, UsageError
from engine.config import TransferConfig
from engine.limits import AWS, PROFILES
from engine.transfer.parts import (
    PartPlan,
    growing_part_sizes,
    plan_copy,
    plan_parts,
    plan_ranges,
    raised_part_size,
    stream_capacity,
)
from engine.types import GiB, MiB, TiB

stores = st.sampled_from(sorted(PROFILES.values(), key=lambda limits: limits.name))


@st.composite
def odd_stores(draw: st.DrawFn) -> StoreLimits:
    """Limits that no store has, to leave nothing to chance."""
    least = draw(st.integers(1, 16 * MiB))
    most = draw(st.integers(least, 5 * GiB))
    number = draw(st.integers(1, 10_000))
    return StoreLimits(
        "odd",
        min_part_size=least,
        max_part_size=most,
        max_parts=number,
        max_object_size=draw(st.integers(1, number * most)),
        max_put_size=draw(st.integers(least, 5 * TiB)),
        max_copy_size=draw(st.integers(least, 5 * TiB)),
        equal_parts=draw(st.booleans()),
    )


@st.composite
def configs(draw: st.DrawFn) -> TransferConfig:
    """Any configuration that is allowed."""
    limits = draw(st.one_of(stores, odd_stores()))
    return TransferConfig(
        part_size=draw(st.integers(limits.min_part_size, limits.max_part_size)),
        multipart_threshold=draw(st.integers(0, limits.max_put_size)),
        multipart_download_threshold=draw(st.integers(0, limits.max_object_size)),
        limits=limits,
    )


@st.composite
def configs_and_sizes(draw: st.DrawFn) -> tuple[TransferConfig, int]:
    """A configuration, and a size that its store takes: of all orders, and at the edges."""
    config = draw(configs())
    limits = config.limits
    edges = (
        config.multipart_threshold,
        config.multipart_download_threshold,
        config.part_size,
        config.part_size * limits.max_parts,
        limits.max_copy_size,
        limits.max_object_size,
    )
    near = st.tuples(st.sampled_from(edges), st.integers(-1, 1)).map(sum)
    orders = st.integers(0, 46).flatmap(lambda bits: st.integers(0, 1 << bits))
    size = draw(st.one_of(near, orders, st.integers(0, limits.max_object_size)))
    return config, max(0, min(size, limits.max_object_size))


def check_coverage(plan: PartPlan, size: int) -> None:
    """Numbers 1 to n, no byte twice, none left out."""
    offset = 0
    for number, part in enumerate(plan.parts, start=1):
        assert (part.number, part.offset) == (number, offset)
        offset += part.length
        assert part.length > 0 or size == 0
    assert offset == plan.size == size


def check_limits(plan: PartPlan, limits: StoreLimits) -> None:
    assert 1 <= len(plan.parts) <= limits.max_parts
    assert limits.min_part_size <= plan.part_size <= limits.max_part_size
    # One size for all but the last: what R2 insists on, and good for everybody.
    assert {part.length for part in plan.parts[:-1]} <= {plan.part_size}
    assert 0 < plan.parts[-1].length <= plan.part_size


@given(configs_and_sizes())
def test_the_parts_of_an_upload_are_the_object_and_keep_all_limits(
    given: tuple[TransferConfig, int],
) -> None:
    config, size = given
    plan = plan_parts(size, config)
    check_coverage(plan, size)
    assert plan.multipart == (size > config.multipart_threshold)
    if plan.multipart:
        check_limits(plan, config.limits)
    else:
        assert size <= config.limits.max_put_size and len(plan.parts) == 1


@given(configs_and_sizes())
def test_the_ranges_of_a_download_are_the_object(given: tuple[TransferConfig, int]) -> None:
    config, size = given
    plan = plan_ranges(size, config)
    check_coverage(plan, size)
    assert plan.multipart == (size > config.multipart_download_threshold)
    assert len(plan.parts) <= config.limits.max_parts


@given(configs_and_sizes())
def test_the_parts_of_a_copy_are_the_object_and_keep_all_limits(
    given: tuple[TransferConfig, int],
) -> None:
    config, size = given
    plan = plan_copy(size, config)
    check_coverage(plan, size)
    assert plan.multipart == (size > config.limits.max_copy_size)
    if plan.multipart:
        check_limits(plan, config.limits)


@given(configs_and_sizes())
def test_the_part_size_grows_in_steps_of_1_mib_and_no_more_than_needed(
    given: tuple[TransferConfig, int],
) -> None:
    config, size = given
    limits, part_size = config.limits, config.part_size
    raised = raised_part_size(size, part_size, limits)
    assert part_size <= raised <= limits.max_part_size
    assert -(-size // raised) <= limits.max_parts
    if raised > part_size:
        assert raised % MiB == 0 or raised == limits.max_part_size
        assert -(-size // max(part_size, raised - MiB)) > limits.max_parts


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_largest_object_of_each_store_is_planned_and_one_byte_more_is_not(name: str) -> None:
    limits = StoreLimits.of(name)
    config = TransferConfig(limits=limits)
    for planned in (plan_parts, plan_copy):
        plan = planned(limits.max_object_size, config)
        check_coverage(plan, limits.max_object_size)
        check_limits(plan, limits)
        with pytest.raises(UsageError, match=f"the limit of {name}"):
            planned(limits.max_object_size + 1, config)


def test_the_largest_object_of_aws_has_10_000_parts_of_5_gib() -> None:
    assert AWS.max_object_size == 53_687_091_200_000
    plan = plan_parts(AWS.max_object_size, TransferConfig())
    assert (len(plan.parts), plan.part_size) == (10_000, 5 * GiB)
    assert len(plan_ranges(AWS.max_object_size, TransferConfig()).parts) == 10_000


@pytest.mark.parametrize(
    ("size", "parts"), [(0, 1), (10_485_760, 1), (10_485_761, 2), (16 * MiB, 2), (16 * MiB + 1, 3)]
)
def test_the_threshold_is_strict_in_both_directions(size: int, parts: int) -> None:
    for plan in (plan_parts, plan_ranges):
        assert len(plan(size, TransferConfig()).parts) == parts


# Streams of unknown length.


@given(configs(), st.one_of(st.none(), st.integers(MiB, 8 * GiB)))
def test_parts_of_a_stream_never_shrink_and_keep_all_limits(
    config: TransferConfig, memory: int | None
) -> None:
    limits, first = config.limits, config.part_size
    sizes = list(growing_part_sizes(first, limits, memory))
    top = limits.max_part_size if memory is None else max(first, memory)
    assert len(sizes) == limits.max_parts
    assert all(before <= after for before, after in pairwise(sizes))
    assert limits.min_part_size <= sizes[0] and sizes[-1] <= min(top, limits.max_part_size)
    if limits.equal_parts:
        assert set(sizes) == {first}
    else:
        # As much as can be held in such parts, up to the largest object.
        reach = int(limits.max_parts * min(top, limits.max_part_size) * 0.9)
        assert stream_capacity(iter(sizes), limits) >= min(limits.max_object_size, reach)


@pytest.mark.parametrize("name", [name for name in sorted(PROFILES) if name != "r2"])
def test_a_stream_reaches_the_largest_object(name: str) -> None:
    """Of AWS and those with its limits nine tenths: all of it would want 10,000 parts of 5 GiB,
    the first too."""
    limits = StoreLimits.of(name)
    held = stream_capacity(growing_part_sizes(8 * MiB, limits), limits)
    all_of_it = limits.max_parts * limits.max_part_size == limits.max_object_size
    assert held >= limits.max_object_size * (0.9 if all_of_it else 1)
    widest = growing_part_sizes(limits.max_part_size, limits)
    assert stream_capacity(widest, limits) == limits.max_object_size


def test_a_small_stream_has_small_parts() -> None:
    sizes = list(islice(growing_part_sizes(8 * MiB, AWS), 10_000))
    assert set(sizes[:100]) == {8 * MiB}
    sent = 0
    for size in sizes:
        assert size == 8 * MiB or size <= sent / 50, "a part is 2 % of what was sent, or less"
        sent += size


# What is refused.


@pytest.mark.parametrize(
    "settings",
    [
        {"part_size": AWS.min_part_size - 1},
        {"part_size": AWS.max_part_size + 1},
        {"part_size": AWS.max_part_size, "limits": StoreLimits.of("r2")},
        {"multipart_threshold": -1},
        {"multipart_threshold": 5 * GiB + 1},
        {"max_parts_in_flight": 0},
        {"max_concurrency": 0},
        {"max_memory": 1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TransferConfig(**settings)  # type: ignore[arg-type]  # a mapping of several types


@pytest.mark.parametrize(
    "limits",
    [
        {"min_part_size": 0},
        {"min_part_size": 6 * GiB},
        {"max_parts": 9_999},
        {"max_put_size": 1},
        {"max_copy_size": 1},
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        StoreLimits(**limits)  # type: ignore[arg-type]  # a mapping of several types


def test_an_unknown_store_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(UsageError, match="aws, b2, ceph, gcs, minio, r2, s3-classic"):
        StoreLimits.of("s4")


def test_the_table_of_stores_says_what_the_profiles_hold() -> None:
    def text(size: int) -> str:
        units = {"GiB": GiB, "MiB": MiB, "GB": 1000**3, "MB": 1000**2}
        name = next(name for name, unit in units.items() if size % unit == 0)
        return f"{size // units[name]} {name}"

    def row(limits: StoreLimits) -> str:
        cells = (
            f"`{limits.name}`",
            str(limits.max_parts),
            f"{text(limits.min_part_size)} to {text(limits.max_part_size)}",
            text(limits.max_object_size),
            text(limits.max_put_size),
            text(limits.max_copy_size),
            "yes" if limits.equal_parts else "no",
        )
        return f"| {' | '.join(cells)} |"

    page = (Path(__file__).parents[3] / "docs" / "stores.md").read_text()
    table = page.partition("| `aws`")[2].partition("\n\n")[0]
    rows = [row(limits) for _, limits in sorted(PROFILES.items())]
    assert ("| `aws`" + table).splitlines() == rows
    sources = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")}
    assert sources == {f"`{name}`" for name in PROFILES}
