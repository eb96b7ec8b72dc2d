"""Objects up and down against other clients: ``python -m benchmarks.bench_transfer``.

Jobs: one big object and many small ones, each up and down, each client in a fresh process against
the lean origin of ``benchmarks.origin`` on loopback. Clients alternate within a round and their
order changes from round to round. Nothing here asserts a speed; ``--smoke`` asserts that the bytes
are right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import size_of
from benchmarks.clients import CLIENTS, Client
from benchmarks.clients.job import Job
from benchmarks.conditions import conditions
from benchmarks.data import small_name
from benchmarks.files import check_files
from benchmarks.harness import ROOT, OriginProcess, Run, RunFailed, measure, own_max_rss
from benchmarks.report import BASE, summary, table
from engine.bench.machine import load

# Both are dependencies, so the smoke run is the same everywhere.
_SMOKE_CLIENTS = "s3engine,boto3"
# Over every client's threshold, so that parts and ranges are taken; and no whole number of parts.
_SMOKE_SIZE, _SMOKE_COUNT, _SMOKE_SMALL = 20 * 2**20 + 1, 20, 3 * 2**10


@dataclass(frozen=True, slots=True)
class Plan:
    """What is moved, how often, and where the files are."""

    folder: Path
    size: int
    count: int
    small_size: int
    rounds: int
    rtts: tuple[float, ...]
    smoke: bool


@dataclass(frozen=True, slots=True)
class Task:
    """One job of the table."""

    name: str
    upload: bool
    tree: bool


TASKS = (
    Task("big up", upload=True, tree=False),
    Task("big down", upload=False, tree=False),
    Task("small up", upload=True, tree=True),
    Task("small down", upload=False, tree=True),
)


def run_once(client: Client, task: Task, plan: Plan, origin: OriginProcess) -> Run:
    """One client, one job; what it wrote is checked and removed.

    Raises:
        RunFailed: Also where it ended well but the bytes are not right.
    """
    source = plan.folder / ("small" if task.tree else "big")
    target = plan.folder / "out" / source.name
    target.parent.mkdir()
    try:
        job = Job(
            endpoint=origin.endpoint,
            upload=task.upload,
            tree=task.tree,
            path=str(source if task.upload else target),
            key=_key(task),
            names=tuple(small_name(n) for n in range(plan.count)) if task.tree else (),
        )
        run = measure(client.command(job), origin)
        expected = plan.count * plan.small_size if task.tree else plan.size
        moved = run.bytes_in if task.upload else run.bytes_out
        if moved != expected:
            raise RunFailed(f"moved {moved} bytes instead of {expected}")
        if not task.upload:
            check_files(source, target, content=plan.smoke)
        return run
    finally:
        shutil.rmtree(target.parent)


def _key(task: Task) -> str:
    name = "small/" if task.tree else "big"
    return f"up/{name}" if task.upload else name


def measure_task(
    task: Task, clients: Sequence[Client], plan: Plan, origin: OriginProcess
) -> dict[str, list[Run]]:
    """All rounds of one job. A client that fails is told of and left out.

    Raises:
        RunFailed: s3engine failed, or in a smoke run any client.
    """
    runs: dict[str, list[Run]] = {client.name: [] for client in clients}
    for round_number in range(plan.rounds):
        for client in _order(clients, round_number):
            if client.name not in runs:
                continue
            try:
                runs[client.name].append(run_once(client, task, plan, origin))
            except RunFailed as error:
                if plan.smoke or client.name == BASE:
                    raise RunFailed(f"{client.name}, {task.name}: {error}") from None
                print(f"{client.name} left out of {task.name!r}: {error}", file=sys.stderr)
                del runs[client.name]
    return runs


def _order(clients: Sequence[Client], round_number: int) -> list[Client]:
    """Rotated each round: nobody is always first."""
    start = round_number % len(clients)
    return [*clients[start:], *clients[:start]]


def bench(plan: Plan, clients: Sequence[Client], json_file: Path | None) -> None:
    """Everything, printed as it is done."""
    facts = conditions(plan.folder, clients)
    facts["jobs"] = (
        f"1 x {plan.size} bytes; {plan.count} x {plan.small_size} bytes; {plan.rounds} rounds"
    )
    for name, value in facts.items():
        print(f"{name + ':':<13}{value}")
    print("what each client checks:")
    for client in clients:
        print(f"  {client.name}: {client.verifies}")
    results: list[dict[str, Any]] = []
    with OriginProcess(plan.folder / "spec.json") as origin:
        if not plan.smoke:
            for client in clients:  # bytecode and page cache: warm for everybody
                _warm_up(client, plan, origin)
        for rtt in plan.rtts:
            origin.set_rtt(rtt)
            for task in TASKS:
                runs = measure_task(task, clients, plan, origin)
                title = f"{task.name}, round trip {rtt:g} ms (ratio to s3engine, median [range])"
                print(f"\n{table(title, runs)}", flush=True)
                results.append(_result(task, rtt, runs))
    facts["load after"] = load()
    facts["least max RSS"] = f"{own_max_rss() / 2**20:.1f} MiB, that of the harness itself"
    print(f"\nload after: {facts['load after']}   origin's CPU: {json.dumps(origin.cpu)}")
    print(f"no child can show less max RSS than {facts['least max RSS']}")
    print('"tie": the ranges of the two overlap, no winner is named.')
    if json_file is not None:
        document = {"conditions": facts, "origin_cpu": origin.cpu, "results": results}
        json_file.write_text(json.dumps(document, indent=1) + "\n")


def _warm_up(client: Client, plan: Plan, origin: OriginProcess) -> None:
    try:
        run_once(client, TASKS[2], plan, origin)
    except RunFailed as error:
        print(f"{client.name} does not run here: {error}", file=sys.stderr)


def _result(task: Task, rtt: float, runs: dict[str, list[Run]]) -> dict[str, Any]:
    return {
        "job": task.name,
        "rtt_ms": rtt,
        "ratios_to_s3engine": summary(runs),
        "runs": {client: [asdict(run) for run in own] for client, own in runs.items()},
    }


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_transfer")
    parser.add_argument("--size", type=size_of, default=size_of("256MiB"), help="the big object")
    parser.add_argument("--count", type=int, default=500, help="how many small objects")
    parser.add_argument("--small-size", type=size_of, default=size_of("64KiB"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rtt-ms", type=_numbers, default=(0.0, 20.0), help="such as 0,20")
    parser.add_argument("--clients", default="", help="comma-separated; all that are found")
    parser.add_argument("--dir", type=Path, default=None, help="where the files are (TMPDIR)")
    parser.add_argument("--json", type=Path, default=None, help="write everything here")
    parser.add_argument("--smoke", action="store_true", help="tiny, one round, bytes are checked")
    return parser.parse_args()


def _chosen(names: str) -> list[Client]:
    found = [client for client in CLIENTS if client.available()]
    wanted = {*names.split(","), BASE} if names else {client.name for client in found}
    unknown = wanted - {client.name for client in found}
    if unknown:
        raise SystemExit(f"not here: {', '.join(sorted(unknown))}")
    return [client for client in found if client.name in wanted]


def main() -> None:
    """Parse the options, make the files, measure."""
    options = _options()
    clients = _chosen(options.clients or (_SMOKE_CLIENTS if options.smoke else ""))
    with tempfile.TemporaryDirectory(prefix="s3engine-bench-", dir=options.dir) as name:
        plan = Plan(
            folder=Path(name).resolve(),
            size=_SMOKE_SIZE if options.smoke else options.size,
            count=_SMOKE_COUNT if options.smoke else options.count,
            small_size=_SMOKE_SMALL if options.smoke else options.small_size,
            rounds=1 if options.smoke else options.rounds,
            rtts=(0.0,) if options.smoke else options.rtt_ms,
            smoke=options.smoke,
        )
        numbers = [str(number) for number in (plan.size, plan.count, plan.small_size)]
        maker = [sys.executable, "-m", "benchmarks.data", str(plan.folder), *numbers]
        subprocess.run(maker, cwd=ROOT, check=True)
        try:
            bench(plan, clients, options.json)
        except RunFailed as error:
            raise SystemExit(f"failed: {error}") from None


if __name__ == "__main__":
    main()
