"""Many small objects and a few huge ones, alone and together: ``python -m benchmarks.mixed``.

Whether one run that has both is fair to both: 10,000 objects of 64 KiB and four of 1 GiB, each kind
alone, then both by one manifest, against the origin of ``benchmarks.fast_origin`` on loopback, in
rounds that take turns. Asked for are: together no more than 1.1 times the sum of both alone; while
both want slots no kind has less than two fifths of them; small objects take, at the 99th
percentile, no more than three times what they take alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arguments import size_of
from benchmarks.conditions import commit
from benchmarks.fast_origin.build import build_for
from benchmarks.fast_origin.process import OriginProcess
from benchmarks.files import check_files
from benchmarks.harness import ROOT, RunFailed
from benchmarks.peers.job import BUCKET
from benchmarks.peers.measure import small_name, warm_memory
from engine.bench.machine import load, machine, python, system
from engine.bench.statistics import Spread

# Of the sum of both alone; of the slots; times what it is alone.
MOST_TIME, LEAST_SHARE, MOST_P99 = 1.1, 0.4, 3.0
# A share is of whole slots, and looked at between two of them: of 60 one is so much.
WITHIN = 0.02
RUN_SECONDS = 240.0
# Files that are there once as the source and once as what was downloaded, and the origin's own.
_ROOM = 2.2
KINDS = ("small", "huge", "together")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Objects of each kind and their bytes."""

    small_count: int
    small: int
    huge_count: int
    huge: int

    def count(self, kind: str) -> int:
        return self.small_count * (kind != "huge") + self.huge_count * (kind != "small")

    def moved(self, kind: str) -> int:
        small, huge = self.small_count * self.small, self.huge_count * self.huge
        return small * (kind != "huge") + huge * (kind != "small")


@dataclass(frozen=True, slots=True)
class Network:
    """Milliseconds of a round trip, and bytes a second of each connection; 0 is no limit."""

    rtt_ms: int
    bandwidth: int

    def __str__(self) -> str:
        limit = f", {self.bandwidth / 1e6:g} MB/s a connection" if self.bandwidth else ""
        return f"{self.rtt_ms} ms{limit}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One row: a direction, a transport, a network."""

    up: bool
    transport: str
    network: Network

    def __str__(self) -> str:
        return f"{'up' if self.up else 'down'}, {self.transport}, {self.network}"


@dataclass
class Rounds:
    """All runs of one cell, by kind, in order of rounds."""

    cell: Cell
    runs: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS}
    )

    @property
    def time(self) -> list[float]:
        """Together by the sum of both alone, each round."""
        return [
            both["seconds"] / (small["seconds"] + huge["seconds"])
            for small, huge, both in zip(*(self.runs[kind] for kind in KINDS), strict=True)
        ]

    @property
    def p99(self) -> list[float]:
        """Of small objects: together by alone, each round."""
        pairs = zip(self.runs["small"], self.runs["together"], strict=True)
        return [both["p99"] / alone["p99"] for alone, both in pairs]

    def shares(self, kind: str) -> list[float]:
        """What nineteen of twenty looks have found at least; of rounds with looks enough."""
        found = [run[f"{kind}_share"]["least"] for run in self.runs["together"]]
        return [share for share in found if share is not None]

    @property
    def problems(self) -> list[str]:
        """Which of the three does not hold, by the medians."""
        found = []
        if Spread.of(self.time).median > MOST_TIME:
            found.append("time")
        shares = [self.shares(kind) for kind in ("small", "huge")]
        if any(own and Spread.of(own).median < LEAST_SHARE - WITHIN for own in shares):
            found.append("share")
        if Spread.of(self.p99).median > MOST_P99:
            found.append("p99")
        return found


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is."""

    origin: OriginProcess
    folder: Path
    sizes: Sizes

    def trees(self, cell: Cell, kind: str, target: Path) -> Iterator[tuple[str, str]]:
        """Folders and prefixes; the huge ones are found first, so that both are under way."""
        sizes = self.sizes
        for own, size, count in (
            ("huge", sizes.huge, sizes.huge_count),
            ("small", sizes.small, sizes.small_count),
        ):
            if kind in (own, "together"):
                path = (self.folder if cell.up else target) / own
                yield str(path), f"up/{own}/" if cell.up else f"s/{size}/{count}/"

    def make_files(self) -> None:
        """The sources of uploads: small files, and one huge one under several names."""
        small, huge = self.folder / "small", self.folder / "huge"
        sizes = self.sizes
        names = [small_name(number) for number in range(sizes.small_count)]
        prefix = f"s/{sizes.small}/{sizes.small_count}/"
        self.origin.fetch_many(BUCKET, prefix, names, small)
        first = huge / small_name(0)
        first.parent.mkdir(parents=True)
        prefix = f"s/{sizes.huge}/{sizes.huge_count}/"
        self.origin.fetch(BUCKET, prefix + small_name(0), first)
        for number in range(1, sizes.huge_count):
            (huge / small_name(number)).hardlink_to(first)

    def run(self, cell: Cell, kind: str) -> dict[str, Any]:
        """One process; what it downloaded is looked at and removed.

        Raises:
            RunFailed: It failed, or moved something else than it was told to.
        """
        target = self.folder / "out"
        target.mkdir()
        try:
            trees = list(self.trees(cell, kind, target))
            job = {
                "endpoint": self.origin.endpoint(cell.transport),
                "ca": self.origin.ca if cell.transport == "https" else "",
                "up": cell.up,
                "trees": trees,
                "small": self.sizes.small,
            }
            warm_memory(self.sizes.moved(kind), written=not cell.up)
            before = self.origin.counts()
            found = _child(job)
            after = self.origin.counts()
            self._check(cell, kind, found, before, after)
            if not cell.up:
                for path, _ in trees:
                    check_files(self.folder / Path(path).name, Path(path), content=False)
            return found
        finally:
            shutil.rmtree(target)

    def _check(
        self,
        cell: Cell,
        kind: str,
        found: dict[str, Any],
        before: dict[str, Any],
        after: dict[str, Any],
    ) -> None:
        name = "bytes_in" if cell.up else "bytes_out"
        moved = after[name] - before[name]
        if after["problems"] != before["problems"]:
            raise RunFailed(f"the origin saw: {after['last_problem']}")
        if (moved, found["objects"]) != (self.sizes.moved(kind), self.sizes.count(kind)):
            raise RunFailed(f"moved {found['objects']} objects and {moved} bytes")
        found["connections"] = after["connections"] - before["connections"]


def _child(job: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.mixed_client", json.dumps(job)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"not done after {RUN_SECONDS:.0f} s") from None
    if done.returncode:
        raise RunFailed(done.stderr.strip()[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(bench: Bench, cell: Cell, rounds: int) -> Rounds:
    """Kinds take turns, and who is first changes from round to round."""
    found = Rounds(cell)
    for number in range(rounds):
        start = number % len(KINDS)
        for kind in (*KINDS[start:], *KINDS[:start]):
            found.runs[kind].append(bench.run(cell, kind))
    return found


HEAD = (
    f"{'':42} {'small':>7} {'huge':>7} {'both':>7} {'both / sum':>18} "
    f"{'small p99, ms':>14} {'times':>18} {'least share: small':>19} {'huge':>6}"
)


def row(found: Rounds) -> str:
    """One cell: seconds, and the three that are asked for; medians, with the range of rounds."""
    seconds = [Spread.of([run["seconds"] for run in found.runs[kind]]).median for kind in KINDS]
    p99 = [
        1000 * Spread.of([run["p99"] for run in found.runs[kind]]).median
        for kind in ("small", "together")
    ]
    shares = [
        f"{Spread.of(own).median:.2f}" if (own := found.shares(kind)) else "-"
        for kind in ("small", "huge")
    ]
    line = (
        f"{found.cell!s:42} {seconds[0]:7.2f} {seconds[1]:7.2f} {seconds[2]:7.2f} "
        f"{_spread(found.time):>18} {p99[0]:6.0f} {p99[1]:7.0f} {_spread(found.p99):>18} "
        f"{shares[0]:>19} {shares[1]:>6}"
    )
    problems = found.problems
    return f"{line}  NOT GOOD: {', '.join(problems)}" if problems else line


def _spread(values: Sequence[float]) -> str:
    found = Spread.of(values)
    return f"{found.median:.2f} [{min(values):.2f}..{max(values):.2f}]"


def _network(text: str) -> Network:
    """``20:85`` is 20 ms and 85 MB/s a connection, ``0`` neither."""
    rtt, _, bandwidth = text.partition(":")
    try:
        return Network(int(rtt), int(float(bandwidth or 0) * 1e6))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"not a network: {text!r} (20:85 is 20 ms and 85 MB/s a connection)"
        ) from None


def _networks(text: str) -> list[Network]:
    return [_network(part) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="small objects")
    parser.add_argument("--small", type=size_of, default=size_of("64KiB"), help="their size")
    parser.add_argument("--huge-count", type=int, default=4, help="huge objects")
    parser.add_argument("--huge", type=size_of, default=size_of("1GiB"), help="their size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directions", type=_words, default=["up", "down"], help="up,down")
    parser.add_argument("--transports", type=_words, default=["http", "https"])
    parser.add_argument(
        "--networks", type=_networks, default=_networks("0,20:85"), help="ms:MB/s a connection"
    )
    parser.add_argument("--dir", type=Path, default=None, help="for the files; /dev/shm, or TMPDIR")
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    return parser.parse_args(arguments)


def _folder(options: argparse.Namespace, sizes: Sizes) -> Path | None:
    """Where the files are. Raises SystemExit where they would not fit."""
    memory = Path("/dev/shm")
    chosen: Path | None = options.dir or (memory if os.access(memory, os.W_OK) else None)
    need = int(_ROOM * sizes.moved("together"))
    free = shutil.disk_usage(chosen or tempfile.gettempdir()).free
    if free < need:
        raise SystemExit(
            f"{free >> 20} MiB are free for the files, {need >> 20} are needed (--dir)"
        )
    return chosen


def _facts(options: argparse.Namespace, sizes: Sizes) -> dict[str, str]:
    return {
        "commit": commit(),
        "machine": machine(),
        "system": system(),
        "python": python(),
        "load before": load(),
        "jobs": f"{sizes.small_count} x {sizes.small} bytes, {sizes.huge_count} x {sizes.huge}",
        "rounds": str(options.rounds),
        "measured": "an engine from its opening to its end, in a process of its own",
    }


def measure_all(options: argparse.Namespace, bench: Bench) -> None:
    """Everything, printed as it is done."""
    facts = _facts(options, bench.sizes)
    for name, value in facts.items():
        print(f"{name + ':':<13}{value}")
    print(f"\n{HEAD}", flush=True)
    bench.make_files()
    cells = [
        Cell(direction == "up", transport, network)
        for transport in options.transports
        for network in options.networks
        for direction in options.directions
    ]
    results = []
    for cell in cells:
        network = cell.network
        bench.origin.set(rtt_ms=network.rtt_ms, bandwidth=network.bandwidth, check=False)
        found = measure(bench, cell, options.rounds)
        print(row(found), flush=True)
        results.append({"cell": asdict(cell), "problems": found.problems, "runs": found.runs})
        if options.json is not None:
            document = {"conditions": facts, "results": results}
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"\nasked for: both / sum <= {MOST_TIME}, times <= {MOST_P99:g}, least share >= "
        f"{LEAST_SHARE}.\nThe least share is what a kind had of all slots in nineteen of twenty "
        'looks in which it wanted\nmore than it had; "-": there were hardly any.'
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, measure."""
    # So that the work folder is removed; it may hold much of the memory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options(arguments)
    sizes = Sizes(options.count, options.small, options.huge_count, options.huge)
    programs, options.transports = build_for(options.transports)
    where = _folder(options, sizes)
    with tempfile.TemporaryDirectory(prefix="s3engine-bench-", dir=where) as name:
        folder = Path(name)
        with OriginProcess(programs, folder, tls=programs.tls) as origin:
            try:
                measure_all(options, Bench(origin, folder, sizes))
            except RunFailed as error:
                raise SystemExit(f"failed: {error}") from None


if __name__ == "__main__":
    main()
