"""s3engine beside its peers: ``python -m benchmarks.compare [--quick]``.

The same jobs through every client of ``benchmarks.peers``, each in a fresh process and, but for
ours, in an environment of its own, against the origin of ``benchmarks.fast_origin`` on loopback.
Clients alternate. Runs are appended to a file of JSON lines; a comparison that was killed goes on
where it was. Nothing here asserts a speed.

What lives here: options, and the loop over what is to be run. What must not: arithmetic.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import bars, report_compare, report_html, report_markdown
from benchmarks.arguments import size_of
from benchmarks.fast_origin.build import Programs, build_for, cache_folder
from benchmarks.fast_origin.process import OriginProcess
from benchmarks.harness import RunFailed
from benchmarks.peers.known import PEERS, Peer
from benchmarks.peers.measure import Bench, prepare, run
from benchmarks.peers.plan import WORKS, Cell, Rounds, Sizes, Step, estimate, groups, steps
from benchmarks.peers.results import Results
from benchmarks.peers.surroundings import NETWORK_MODEL, conditions, printed, same
from benchmarks.peers.venvs import CannotInstall

_QUICK = Sizes(big=128 * 2**20, count=500, small=64 * 2**10, keys=10_000)
# Where round trips are slowed, the disk and a listing say nothing new.
_NETWORK_WORKS = ("up-tmpfs", "down-tmpfs", "small-up", "small-down")
_NETWORK_RTTS, _NETWORK_BANDWIDTH = (30, 100), 85_000_000
_WARM_UP = Sizes(big=2**20, count=20, small=2**10, keys=1_000)
_FREE_SHARE = 2.5  # source, one copy, and air
# A peer that crashes once at its end, as some do now and then, is not out of the table.
_TRIES = 2


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _names(text)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="s3engine beside its peers"
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="128 MiB, 500 objects, 10,000 keys, 2 rounds")
    add("--size", type=size_of, help="the big object (2GiB)")
    add("--count", type=int, help="small objects (5000)")
    add("--small-size", type=size_of, help="of one small object (64KiB)")
    add("--keys", type=int, help="keys of the listing (100000)")
    works = ", ".join(work.name for work in WORKS)
    add("--jobs", type=_names, default=[], help=f"some of: {works}")
    add("--peers", type=_names, default=[], help="comma-separated; all")
    add("--transports", type=_names, default=["http", "https"], help="http,https")
    add("--auth", type=_names, default=["static"], help="static,role; role is for https only")
    add("--checksums", type=_names, default=["default"], help="default,on,off")
    add("--rounds", type=int, help="of most clients (5; 2 with --quick)")
    add("--rounds-off", type=int, help="with checksums off (3; 2 with --quick)")
    add("--rounds-slow", type=int, help="of boto3 and aioboto3 (2; 1 with --quick)")
    add(
        "--network",
        action="store_true",
        help="round trips of 30 and 100 ms, 85 MB/s a "
        "connection, https, default settings of every tool",
    )
    add("--rtt", type=_numbers, default=[], help="round trips in ms, such as 30,100; https only")
    add("--bandwidth", type=size_of, default=0, help="per second and connection, such as 85MB")
    add("--threads", type=int, default=1, help="of the origin")
    add(
        "--check",
        choices=("first", "all", "none"),
        default="first",
        help="rounds in which the origin compares checksums with the bodies of uploads; it must "
        "copy what it sums, so with first it is leaner in the rounds that follow",
    )
    add("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder in memory")
    add("--disk", type=Path, default=None, help="a folder on a disk (the current one)")
    add("--results", type=Path, default=None, help="the file of runs (in --out)")
    add("--out", type=Path, default=Path("bench"), help="where runs, JSON and HTML are written")
    add("--report-only", action="store_true", help="run nothing, report what there is")
    options = parser.parse_args(arguments)
    if options.network:
        options.rtt = options.rtt or list(_NETWORK_RTTS)
        options.bandwidth = options.bandwidth or _NETWORK_BANDWIDTH
    _check_names(parser, options)
    return options


def _check_names(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    known = {
        "jobs": [work.name for work in WORKS],
        "peers": [peer.name for peer in PEERS],
        "transports": ["http", "https"],
        "auth": ["static", "role"],
        "checksums": ["default", "on", "off"],
    }
    for name, names in known.items():
        for given in getattr(options, name):
            if given not in names:
                parser.error(f"--{name}: {given!r} is none of {', '.join(names)}")


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """The tables that are asked for, in the order in which they are measured."""
    base = _QUICK if options.quick else bars.FULL
    given = {
        "big": options.size,
        "count": options.count,
        "small": options.small_size,
        "keys": options.keys,
    }
    sizes = replace(base, **{name: value for name, value in given.items() if value is not None})
    network = bool(options.rtt or options.bandwidth)
    works = options.jobs or (_NETWORK_WORKS if network else [work.name for work in WORKS])
    transports = ["https"] if network else options.transports
    return [
        Cell(work, transport, auth, checksums, rtt, options.bandwidth, sizes)
        for rtt in options.rtt or [0]
        for auth in options.auth
        for checksums in options.checksums
        for transport in transports
        if auth == "static" or transport == "https"
        for work in works
        # A listing has no checksums to switch.
        if work != "list" or checksums == options.checksums[0]
    ]


def rounds_of(options: argparse.Namespace) -> Rounds:
    """Defaults are those of the published tables."""
    normal, slow, off = (2, 1, 2) if options.quick else (5, 2, 3)
    return Rounds(options.rounds or normal, options.rounds_slow or slow, options.rounds_off or off)


def _environments(peers: Sequence[Peer]) -> dict[str, Path]:
    """The Python of each peer; one that cannot be installed is told of and left out."""
    found = {}
    for peer in peers:
        try:
            found[peer.name] = peer.python(cache_folder() / "peers")
        except CannotInstall as error:
            print(f"{peer.name} is left out: {error}", file=sys.stderr)
    return found


def _run_all(
    bench: Bench, to_run: Sequence[Step], pythons: dict[str, Path], results: Results, check: str
) -> None:
    """Every step; a client that fails twice in a cell is left out of the rest of it."""
    failures: Counter[tuple[Cell, str]] = Counter()
    for number, step in enumerate(to_run, 1):
        where = (step.cell, step.peer.name)
        said = ""
        while not said and failures[where] < _TRIES:
            result = _run_one(bench, step, pythons[step.peer.name], check)
            results.add_run(step, result)
            if result["status"] == "ok":
                said = f"CPU {result['cpu']:.2f} s, wall {result['wall']:.2f} s"
            elif result["status"] == "cannot":
                said = "it cannot do this"
            else:
                failures[where] += 1
                print(f"  {step.peer.name} FAILED: {result['why']}", flush=True)
        said = said or "left out"
        title = step.cell.title()
        print(f"{number}/{len(to_run)} {title}: {step.peer.name}: {said}", flush=True)


def _run_one(bench: Bench, step: Step, python: Path, check: str) -> dict[str, Any]:
    cell = step.cell
    work = next(work for work in WORKS if work.name == cell.work)
    checked = check == "all" or (check == "first" and step.round == 0)
    bench.origin.set()
    prepare(bench, cell, work)
    bench.origin.set(rtt_ms=cell.rtt_ms, bandwidth=cell.bandwidth, check=checked)
    try:
        result = run(bench, step, work, python, content=step.round == 0)
        return {**result, "checked": checked}
    except RunFailed as error:
        return {"status": "failed", "why": str(error)}


def _warm_up(bench: Bench, peers: Sequence[Peer], pythons: dict[str, Path]) -> None:
    """Byte code and page cache: warm for everybody. What fails here fails again, and is told."""
    small = next(work for work in WORKS if work.name == "small-up")
    bench.origin.set()
    cell = Cell(small.name, "http", "static", "default", 0, 0, _WARM_UP)
    for peer in peers:
        try:
            run(bench, Step(cell, peer, 0), small, pythons[peer.name], content=False)
        except RunFailed as error:
            print(f"{peer.name} does not run here: {error}", file=sys.stderr)


def _report(
    cells: Sequence[Cell], names: Sequence[str], results: Results, options: argparse.Namespace
) -> None:
    """Tables on standard output, JSON and HTML into files."""
    rows: list[report_html.Row] = []
    runs_of: dict[Cell, report_compare.Runs] = {}
    for cell in cells:
        runs, notes = results.runs(cell, names), results.notes(cell, names)
        if not any(runs.values()):
            continue
        runs_of[cell] = runs
        found = report_compare.summary(runs, cell.transport)
        rows.append((cell.title(), runs, notes, found))
        slowed = cell.rtt_ms or cell.bandwidth
        link = report_compare.Link(cell.rtt_ms / 1000, cell.bandwidth) if slowed else None
        shown = report_compare.table(cell.title(), runs, notes, moved=cell.moved(), link=link)
        print(f"\n{shown}")
    if not rows:
        print("nothing was measured")
        return
    standings = bars.standings(groups(cells), runs_of, options.threads)
    print("\n" + report_compare.overview([(row[0], row[3]) for row in rows]))
    print("\n" + bars.text(standings))
    if odd := bars.caution(cells):
        print(f"CAUTION: {odd}")
    print(_explained(bool(options.rtt or options.bandwidth)))
    facts = results.conditions()
    document = {
        "conditions": facts,
        "cells": [
            {"title": title, "summary": found, "runs": runs, "notes": notes}
            for title, runs, notes, found in rows
        ],
        "bars": [standing.fields() for standing in standings],
    }
    names = ("compare.json", "compare.html", "compare.md")
    plain, html, markdown = (options.out / name for name in names)
    last = facts[-1] if facts else {}
    plain.write_text(json.dumps(document, indent=1, default=_plain) + "\n")
    html.write_text(report_html.page(last, rows, standings))
    markdown.write_text(report_markdown.page(last, standings))
    print(f"wrote {plain}, {html} and {markdown}")


def _explained(network: bool) -> str:
    words = (
        '"tie": the ranges of the two overlap, no winner is named. "summed": body bytes whose\n'
        "checksum came with the request (header or trailer) and was right, in the rounds in which\n"
        "the origin looked (--check). origin CPU: its own / the client's."
    )
    if network:
        words += f'\n"of allowed": {report_compare.ALLOWED}\nthe network: {NETWORK_MODEL}'
    return words


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def _check_room(cells: Sequence[Cell], folders: dict[str, Path]) -> None:
    """Raises SystemExit where source and copy would not fit."""
    need = _FREE_SHARE * max(cell.moved() for cell in cells)
    for folder in folders.values():
        free = shutil.disk_usage(folder).free
        if free < need:
            raise SystemExit(f"{folder} has {free >> 20} MiB free, {int(need) >> 20} are needed")


def _bench(
    options: argparse.Namespace, programs: Programs, pythons: dict[str, Path], results: Results
) -> None:
    """What is not done yet, then nothing is left behind."""
    peers = [peer for peer in PEERS if peer.name in pythons]
    cells = cells_of(options)
    to_run = [s for s in steps(cells, peers, rounds_of(options)) if not results.has(s)]
    minutes = sum(estimate(step) for step in to_run) / 60
    print(f"{len(to_run)} runs to make, about {minutes:.0f} min ({len(cells)} tables)", flush=True)
    if not to_run:
        return
    with (
        tempfile.TemporaryDirectory(prefix="s3engine-bench-", dir=options.tmpfs) as tmpfs,
        tempfile.TemporaryDirectory(prefix="s3engine-bench-", dir=options.disk) as disk,
    ):
        folders = {"tmpfs": Path(tmpfs), "disk": Path(disk)}
        _check_room(cells, folders)
        scratch = Path(disk) / "scratch"
        scratch.mkdir()
        with OriginProcess(programs, scratch, threads=options.threads, tls=programs.tls) as origin:
            bench = Bench(programs, origin, folders, scratch)
            _warm_up(bench, peers, pythons)
            _run_all(bench, to_run, pythons, results, options.check)


def _is_wanted(peer: Peer, options: argparse.Namespace) -> bool:
    """By its name; without names all, but on a network only those that are as they come."""
    if options.peers:
        return peer.name in options.peers
    return not (options.network and peer.tuned)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, run what is missing, report."""
    # So that the work folders are removed; they may hold much of the memory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options(arguments)
    options.disk = options.disk or Path.cwd()
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(options.results or options.out / "runs.jsonl")
    chosen = [peer for peer in PEERS if _is_wanted(peer, options)]
    if not options.report_only:
        programs, options.transports = build_for(options.transports)
        pythons = _environments(chosen)
        installed = [peer for peer in chosen if peer.name in pythons]
        facts = conditions(programs, pythons, installed, options.threads)
        print(printed(facts))
        for old in results.conditions()[-1:]:
            if odd := same(old, facts):
                print(f"CAUTION: earlier runs of this file differ in: {', '.join(odd)}")
        results.add("conditions", facts)
        _bench(options, programs, pythons, results)
    _report(cells_of(options), [peer.name for peer in chosen], results, options)


if __name__ == "__main__":
    main()
