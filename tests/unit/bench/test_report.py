"""What a benchmark says of its runs: ties, ratios, the ceiling, and text that is escaped."""

from __future__ import annotations

import pytest

from engine.bench.bench import CEILING, JobResult, Measured
from engine.bench.plots import Bar, bars, tick
from engine.bench.process import Usage
from engine.bench.report import as_document, page, table
from engine.bench.statistics import Ratio, Spread
from engine.bench.tools import version_in
from engine.bench.workload import Item, Work
from engine.types import MiB

VERSIONS = {"s3engine": "1", "s5cmd": "2.3.0"}


def _result(ours: list[float], peer: list[float], ceiling: list[float] = []) -> JobResult:  # noqa: B006
    """Runs of 10 MiB that took so many seconds."""
    result = JobResult(Work("upload", (Item("a", 10 * MiB),)))

    def runs(tool: str, walls: list[float]) -> list[Measured]:
        return [
            Measured(tool, n, Usage(wall, wall / 2, 50 * MiB, 60 * MiB), 10 * MiB)
            for n, wall in enumerate(walls)
        ]

    result.runs = {"s3engine": runs("s3engine", ours), "s5cmd": runs("s5cmd", peer)}
    result.ceiling = runs(CEILING, ceiling)
    return result


def _row(text: str, name: str) -> str:
    (row,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return " ".join(row.split())


@pytest.mark.parametrize(
    ("base", "other", "standing"),
    [
        ([1.0, 1.1], [1.2, 1.3], "above"),
        ([1.2, 1.3], [1.0, 1.1], "below"),
        ([1.0, 1.2], [1.2, 1.4], "tie"),
        ([1.0, 2.0], [1.4, 1.5], "tie"),
        ([1.0], [2.0, 2.1], "no verdict"),
        ([1.0, 1.1], [2.0], "no verdict"),
    ],
)
def test_ranges_that_overlap_are_a_tie_and_one_round_is_nothing(
    base: list[float], other: list[float], standing: str
) -> None:
    assert Ratio.of(Spread.of(base), Spread.of(other)).standing == standing


def test_the_table_has_medians_ranges_and_how_many_times_as_fast() -> None:
    text = table(_result([4.0, 5.0, 10.0], [2.0, 2.5, 2.2], [1.0, 1.0, 1.0]), VERSIONS)
    assert "upload 10.0 MiB" in text and "range of 3" in text
    assert _row(text, "s3engine") == "s3engine 2 [ 1 - 2.5] 1.00 2.50 50 MiB"
    assert _row(text, "s5cmd") == "s5cmd 2.3.0 4.55 [ 4 - 5] 2.27 1.10 50 MiB"
    assert "raw sockets 10 MiB/s [10 - 10], 20 % of it used" in text
    assert "start-up" not in text


def test_a_tie_is_said_and_so_is_a_single_round() -> None:
    assert "1.11 tie" in table(_result([1.0, 2.0], [0.9, 1.8]), VERSIONS)
    assert "2.00 ?" in table(_result([1.0], [0.5]), VERSIONS)
    assert "mostly start-up" in table(_result([1.0], [0.5]), VERSIONS)


def test_a_tool_without_runs_has_its_reason_in_every_form() -> None:
    result = _result([3.0, 4.0], [1.0, 2.0])
    result.left_out = {"s5cmd": "failed <twice>", CEILING: "refused"}
    del result.runs["s5cmd"]
    text = table(result, VERSIONS)
    assert _row(text, "s5cmd") == "s5cmd failed <twice>"
    assert "ceiling: not measured (refused)" in text
    (job,) = as_document({}, [result], {})["jobs"]
    assert job["left_out"] == result.left_out and job["ceiling"] is None
    assert "failed &lt;twice&gt;" in page({}, [result], {"x<y": "not there"})


def test_the_page_escapes_what_it_was_told() -> None:
    facts = {"machine": "<b>", "versions": {"s5cmd": "<i>"}, "verifies": {"s5cmd": "a & b"}}
    text = page(facts, [_result([1.0, 2.0], [1.0, 2.0])], {"<u>": "<s>"})
    for raw in ("<b></td>", "<i>", "<u>", "<s>", "a & b"):
        assert raw not in text, raw
    assert "&lt;i&gt;" in text and "a &amp; b" in text


def test_a_plot_shows_every_bar_inside_of_its_frame() -> None:
    svg = bars([Bar("a<b", 2.0, 1.0, 4.0, ours=True), Bar("c", 1.0, 1.0, 1.0)], "s")
    assert "a&lt;b" in svg and svg.count('<rect class="') == 2
    assert all(2 <= most / tick(most) <= 6 for most in (0.03, 0.7, 1.0, 9.9, 64.0, 512.0))


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("aws-cli/1.45.11 Python/3.11.7 Linux/6.1", "1.45.11"),
        ("v2.3.0-991c9fb\n", "2.3.0"),
        ("", "(unknown version)"),
    ],
)
def test_versions_are_read_from_what_programs_print(output: str, version: str) -> None:
    assert version_in(output) == version
