"""The comparison's arithmetic, its file of results, and a run with s3engine alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, report_html, report_markdown
from benchmarks.arguments import size_of
from benchmarks.bars import CPU_BARS, standings
from benchmarks.fast_origin.build import CannotBuild, build
from benchmarks.peers.known import PEERS
from benchmarks.peers.plan import WORKS, Cell, Rounds, Sizes, Step, estimate, groups, steps
from benchmarks.peers.results import Results
from benchmarks.report_compare import (
    REQUESTS,
    Link,
    best_peer,
    overview,
    ratio,
    summary,
    summed_share,
    table,
)
from engine.bench.statistics import Spread

SIZES = Sizes(big=2**20, count=10, small=2**10, keys=2_000)
BY_NAME = {peer.name: peer for peer in PEERS}


def cell(work: str = "up-tmpfs", **more: Any) -> Cell:
    fields: dict[str, Any] = {
        "transport": "http",
        "auth": "static",
        "checksums": "default",
        "rtt_ms": 0,
        "bandwidth": 0,
        "sizes": SIZES,
    }
    return Cell(work, **(fields | more))


def run(cpu: float, wall: float = 1.0, *, rss: int = 2**20, origin_cpu: float = 0.1) -> Any:
    origin = dict.fromkeys(REQUESTS, 1)
    origin |= {"bytes_in": 200, "bytes_summed": 100, "connections": 2, "in_use_us": 3_000_000}
    seen = {"origin_cpu": origin_cpu, "origin": origin, "checked": True}
    return {"cpu": cpu, "wall": wall, "rss": rss, **seen}


def test_a_spread_has_the_middle_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert Spread.of([4.0, 1.0]) == Spread(2.5, 1.0, 4.0, 2)
    with pytest.raises(ValueError, match="no rounds"):
        Spread.of([])


def test_a_ratio_is_of_the_medians_with_what_the_ranges_allow() -> None:
    found = ratio(Spread(1.0, 0.8, 1.25, 5), Spread(2.0, 1.5, 2.4, 5), "obstore")
    assert (found.median, found.least, found.most) == pytest.approx((2.0, 1.2, 3.0))
    assert found.verdict == "s3engine"


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [
        ([1.0, 1.1], [1.2, 1.3], "s3engine"),
        ([1.2, 1.3], [1.0, 1.1], "s5cmd"),
        ([1.0, 1.2], [1.2, 1.4], "tie"),
        ([1.0, 2.0], [1.4, 1.5], "tie"),
        ([1.0], [2.0, 2.1], "no verdict"),
        ([1.0, 1.1], [2.0], "no verdict"),
    ],
)
def test_no_winner_is_named_where_ranges_overlap_or_one_round_is_all(
    ours: list[float], peer: list[float], verdict: str
) -> None:
    assert ratio(Spread.of(ours), Spread.of(peer), "s5cmd").verdict == verdict


def test_the_best_peer_is_none_of_ours() -> None:
    spreads = {
        "s3engine": Spread(2.0, 2.0, 2.0, 1),
        "s3engine-cp": Spread(1.0, 1.0, 1.0, 1),
        "boto3": Spread(9.0, 9.0, 9.0, 1),
        "s5cmd": Spread(3.0, 3.0, 3.0, 1),
    }
    assert best_peer(spreads) == "s5cmd"
    assert best_peer({"s3engine": spreads["s3engine"]}) is None


def test_the_best_peer_is_chosen_measure_by_measure() -> None:
    runs = {
        "s3engine": [run(1.0, 2.0), run(1.2, 2.2)],
        "awscrt": [run(2.0, 1.0), run(2.2, 1.2)],
        "s5cmd": [run(3.0, 0.5), run(3.3, 0.6)],
    }
    found = summary(runs, "http")
    assert (found["cpu"].peer, found["cpu"].verdict) == ("awscrt", "s3engine")
    assert (found["wall"].peer, found["wall"].verdict) == ("s5cmd", "s5cmd")


@pytest.mark.parametrize(
    ("transport", "origin_cpu", "holds"),
    [("http", 0.5, True), ("http", 0.51, False), ("https", 0.7, True), ("https", 0.71, False)],
)
def test_the_origin_is_measured_against_the_leanest_client(
    transport: str, origin_cpu: float, holds: bool
) -> None:
    runs = {
        "s3engine": [run(4.0, origin_cpu=0.1)],
        "s5cmd": [run(1.0, origin_cpu=origin_cpu)],
    }
    found = summary(runs, transport)["origin"]
    assert (found["leanest"], found["share"], found["holds"]) == ("s5cmd", origin_cpu, holds)
    text = overview([("a job", summary(runs, transport))])
    assert ("the origin is measured" in text) is not holds


def test_the_overview_says_who_used_less_or_that_nobody_did() -> None:
    runs = {"s3engine": [run(1.0, 2.0), run(1.2, 2.2)], "s5cmd": [run(2.0, 2.1), run(2.4, 1.0)]}
    line = overview([("a job", summary(runs, "http"))]).splitlines()[1]
    assert "2.00 [1.67..2.40] s5cmd: s3engine less" in line
    assert "0.74 [0.45..1.05] s5cmd: tie" in line


def test_the_table_shows_each_client_and_why_one_is_missing() -> None:
    runs: dict[str, Any] = {
        "s3engine": [run(1.0), run(1.2)],
        "s5cmd": [run(2.2), run(2.2)],
        "awscrt": [],
    }
    text = table("a job", runs, {"awscrt": "it cannot do this"})
    rows = {line.split()[0]: line for line in text.splitlines()[2:]}
    assert set(rows) == {"s3engine", "s5cmd", "awscrt"}
    assert "1.10 [1.00..1.20]" in rows["s3engine"]
    assert rows["s3engine"].endswith(" 50 %"), "half of the bytes came with a checksum"
    assert " 2.00  " in rows["s5cmd"]
    assert rows["awscrt"].endswith("it cannot do this")


def test_rounds_in_which_the_origin_did_not_look_say_nothing_of_checksums() -> None:
    looked, passed = run(1.0), {**run(1.0), "checked": False}
    passed["origin"] = passed["origin"] | {"bytes_summed": 0}
    assert summed_share([looked, passed]) == "50 %"
    assert summed_share([passed]) == "-"


def test_on_a_slow_link_the_table_shows_how_much_of_it_was_used() -> None:
    """8 requests of 0.1 s and 800 bytes at 500 a second, in 3 s of all connections together."""
    runs = {"s3engine": [run(1.0, wall=2.0)], "s5cmd": [run(1.0, wall=4.0)]}
    text = table("a job", runs, {}, moved=800, link=Link(0.1, 500))
    rows = [line.split() for line in text.splitlines()[2:]]
    assert [row[-2:] for row in rows] == [["2", "0.80"], ["2", "0.80"]]
    assert Link(0.15, 0).share(runs["s3engine"][0], 800) == pytest.approx(0.4)
    assert Link(1.0, 0).share(runs["s3engine"][0], 800) == 1.0


def _standings(**more: Any) -> dict[str, list[str]]:
    """Marks by the peers' mode: ours sums and takes 1.0 s; a peer with sums 2.1, without 1.9."""
    on, off = cell("up-tmpfs", **more), cell("up-tmpfs", **more, checksums="off")
    on = replace(on, checksums="on")
    runs_of: dict[Cell, Any] = {
        on: {"s3engine": [run(1.0), run(1.0)], "awscrt": [run(2.1), run(2.1)]},
        off: {"s3engine": [run(0.1), run(0.1)], "s5cmd": [run(1.9, 0.9), run(1.9, 0.9)]},
    }
    found = standings(groups([on, off]), runs_of, threads=1)
    assert len({line.job for line in found}) == 1
    return {line.peers: [str(mark) for mark in line.marks] for line in found}


def test_a_job_is_held_against_the_best_peers_with_checksums_on_and_off() -> None:
    found = _standings()
    assert found["on"][:2] == [
        "CPU 2.10 awscrt (bar 2): met",
        "wall 1.00 awscrt tie (bar 0.95): met",
    ]
    assert found["off"][:2] == [
        "CPU 1.90 s5cmd (bar 2): NOT MET",
        "wall 0.90 s5cmd (bar 0.95): NOT MET",
    ]
    assert found["on"][2] == "VmHWM 1 MiB (bar 64 MiB): met"


def test_on_a_network_wall_goodput_and_the_origin_are_held_against_bars() -> None:
    found = _standings(rtt_ms=100, bandwidth=10**6, transport="https")
    assert found["off"][0] == "CPU 1.90 s5cmd", "no bar"
    assert found["off"][1] == "wall 0.90 s5cmd (bar 1): NOT MET"
    assert found["off"][2].startswith("goodput 0.62 (bar 0.9): NOT MET")
    assert found["off"][-1].startswith("origin busy 0.11 s5cmd")


def test_one_round_reaches_no_bar_and_fails_none() -> None:
    one = cell("up-tmpfs", checksums="on")
    runs: dict[Cell, Any] = {one: {"s3engine": [run(1.0)], "s5cmd": [run(9.0, 0.1)]}}
    (found,) = standings([[one]], runs, threads=1)
    assert [str(mark) for mark in found.marks[:2]] == [
        "CPU 9.00 s5cmd, one round (bar 2)",
        "wall 0.10 s5cmd, one round (bar 0.95)",
    ]


def test_the_page_for_a_repository_names_conditions_and_stresses_what_is_missed() -> None:
    on = cell("up-tmpfs", checksums="on")
    clients = {"s3engine": [run(1.0), run(1.0)], "s5cmd": [run(1.9, 9.9), run(1.9, 9.9)]}
    facts = {"kind": "conditions", "machine": "2 CPUs", "versions": {"s5cmd": "2.3"}}
    written = report_markdown.page(facts, standings([[on]], {on: clients}, threads=1))
    assert written.startswith("- machine: 2 CPUs\n- clients: s5cmd 2.3\n\n| job | ")
    assert "| **1.90 s5cmd** (bar 2) | 9.90 s5cmd | 1 MiB |" in written


def test_every_job_has_a_bar() -> None:
    wanted = {(work.name, transport) for work in WORKS for transport in ("http", "https")}
    assert set(CPU_BARS) == wanted


def test_cells_that_differ_only_in_checksums_take_turns() -> None:
    peers = [BY_NAME[name] for name in ("s3engine", "s5cmd")]
    on, off = cell(checksums="on"), cell(checksums="off")
    order = [
        (s.round, s.cell.checksums)
        for s in steps([on, cell("list", checksums="on"), off], peers, Rounds(3, 1, 2))
        if s.cell.work != "list"
    ]
    turns = list(dict.fromkeys(order))
    assert turns == [(0, "on"), (0, "off"), (1, "on"), (1, "off"), (2, "on")]


def test_peers_alternate_and_slow_ones_run_less() -> None:
    peers = [BY_NAME[name] for name in ("s3engine", "s5cmd", "boto3")]
    rounds = Rounds(normal=3, slow=1, off=2)
    order = [(step.round, step.peer.name) for step in steps([cell()], peers, rounds)]
    assert order == [
        *((0, name) for name in ("s3engine", "s5cmd", "boto3")),
        *((1, name) for name in ("s5cmd", "s3engine")),
        *((2, name) for name in ("s3engine", "s5cmd")),
    ], "nobody is always first"
    off = list(steps([cell(checksums="off")], peers, rounds))
    assert max(step.round for step in off) == 1


def test_the_estimate_grows_with_round_trips_and_with_bytes() -> None:
    peer = BY_NAME["s3engine"]
    plain = estimate(Step(cell("small-up"), peer, 0))
    assert estimate(Step(cell("small-up", rtt_ms=100), peer, 0)) > plain
    assert estimate(Step(cell("small-up"), BY_NAME["boto3"], 0)) > plain
    big = Sizes(big=2**31, count=1, small=1, keys=1)
    slow = Step(cell(sizes=big, bandwidth=85_000_000), peer, 0)
    assert estimate(slow) >= 2**31 / (8 * 85e6)


def test_results_go_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    peer = BY_NAME["s3engine"]
    first, second, third = (Step(cell(), peer, number) for number in range(3))
    results = Results(path)
    results.add_run(first, {"status": "ok", **run(1.0)})
    results.add_run(second, {"status": "failed", "why": "it fell"})
    with path.open("a") as file:
        file.write('{"kind": "run", "peer": "s3en')  # killed here
    again = Results(path)
    assert [again.has(step) for step in (first, second, third)] == [True, False, False]
    again.add_run(second, {"status": "ok", **run(2.0)})
    last = Results(path)
    assert last.has(second)
    assert [line["cpu"] for line in last.runs(cell(), ["s3engine"])["s3engine"]] == [1.0, 2.0]
    assert not last.has(Step(cell(transport="https"), peer, 0)), "another table"
    other = Sizes(big=SIZES.big, count=99, small=99, keys=99)
    assert last.has(Step(cell(sizes=other), peer, 0)), "sizes that the job does not use"


def test_what_a_client_cannot_do_is_not_tried_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "runs.jsonl")
    step = Step(cell("list"), BY_NAME["awscrt"], 0)
    results.add_run(step, {"status": "cannot"})
    assert results.has(step)
    assert results.notes(cell("list"), ["awscrt"]) == {"awscrt": "it cannot do this"}


def test_the_cells_are_those_that_were_asked_for() -> None:
    options = compare._options(["--auth", "static,role", "--checksums", "default,off"])
    cells = compare.cells_of(options)
    assert {c.transport for c in cells if c.auth == "role"} == {"https"}
    assert [c.checksums for c in cells if c.work == "list" and c.transport == "http"] == ["default"]
    options = compare._options(["--network"])
    network = compare.cells_of(options)
    assert {(c.transport, c.rtt_ms, c.bandwidth) for c in network} == {
        ("https", rtt, 85_000_000) for rtt in (30, 100)
    }
    assert {peer.name for peer in PEERS if not compare._is_wanted(peer, options)} == {
        "obstore-tuned",
        "obstore-unsigned",
    }, "default settings of every tool"
    assert {c.work for c in network} == {"up-tmpfs", "down-tmpfs", "small-up", "small-down"}
    with pytest.raises(SystemExit):
        compare._options(["--jobs", "nothing-known"])


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2**31), ("85MB", 85_000_000), ("64KiB", 65_536), ("7", 7)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_of(text) == size


class _Tags(HTMLParser):
    """Every tag that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    runs = {"s3engine": [run(1.0), run(1.1)], "s5cmd": [run(2.0), run(2.1)]}
    facts = {"system": "Linux", "versions": {"s5cmd": "2"}, "verifies": {"s5cmd": "<nothing>"}}
    page = report_html.page(facts, [("a job", runs, {}, summary(runs, "http"))])
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert {"svg", "table", "style"} <= tags.seen
    assert not {"script", "link", "img"} & tags.seen
    assert "&lt;nothing&gt;" in page


@pytest.mark.slow
def test_a_small_run_with_s3engine_alone_and_what_is_done_is_not_done_again(
    tmp_path: Path,
) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    try:
        programs = build(tmp_path / "cache" / "s3engine-bench" / "programs")
    except CannotBuild as error:
        if "failed for" in str(error):
            raise
        pytest.skip(f"no C compiler: {error}")
    command = [sys.executable, "-m", "benchmarks.compare", "--quick", "--peers", "s3engine"]
    command += ["--size", "20MiB", "--count", "30", "--small-size", "3KiB", "--keys", "2500"]
    command += ["--rounds", "1", "--tmpfs", str(tmp_path), "--disk", str(tmp_path)]
    command += ["--auth", "static,role", "--jobs", "up-tmpfs,down-disk,small-up,small-down,list"]
    command += ["--out", str(tmp_path / "out")]

    def compare_now() -> str:
        ran = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    first = compare_now()
    expected = 15 if programs.tls else 5
    assert f"{expected} runs to make, about" in first
    assert "FAILED" not in first
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    runs = [own["s3engine"][0] for own in (row["runs"] for row in document["cells"])]
    assert len(runs) == expected
    assert all(line["cpu"] > 0 and line["rss"] > 2**20 for line in runs)
    sent = [line["origin"] for line in runs if line["cell"]["work"] == "up-tmpfs"]
    assert all(seen["bytes_summed"] == seen["bytes_in"] == 20 * 2**20 for seen in sent)
    assert all(seen["whole_good"] == 1 for seen in sent), "CRC64NVME of the whole, at complete"
    assert "no verdict" not in first, "there is no peer to compare with"
    assert (tmp_path / "out" / "compare.html").exists()
    assert "| 20 MiB up-tmpfs, http |" in (tmp_path / "out" / "compare.md").read_text()
    assert "0 runs to make" in compare_now()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"cache", "out"}, "work folders are removed"
