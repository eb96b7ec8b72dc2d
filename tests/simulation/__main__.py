"""Random schedules: ``python -m tests.simulation --seeds 10000 --from 0``.

A seed that breaks a promise is printed, and replays exactly: ``--trace SEED`` prints all of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context

from engine.testing.simulation import Coverage
from tests.simulation.driver import Verdict, run_seed

# Seeds that one process runs before it is asked for the next.
_CHUNK = 50


def main() -> int:
    options = _options()
    if options.trace is not None:
        verdict = run_seed(options.trace, lines=True)
        print("\n".join(verdict.lines))
        _tell(verdict)
        print(f"trace {verdict.trace}")
        return bool(verdict.violations)
    began = time.perf_counter()
    coverage = Coverage()
    requests = broken = 0
    for verdict in _verdicts(options.start, options.seeds, options.processes):
        coverage.add(verdict.hits)
        requests += verdict.requests
        if verdict.violations:
            broken += 1
            _tell(verdict)
            if options.first:
                break
    seconds = time.perf_counter() - began
    print(coverage.table())
    print(
        f"commit {_commit()}: {options.seeds} schedules from {options.start}, {requests} requests, "
        f"{broken} schedules with violations; {seconds:.0f} s, "
        f"{options.seeds / seconds * 60:.0f} schedules a minute in {options.processes} processes"
    )
    return bool(broken)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="start", help="the first of them")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--trace", type=int, metavar="SEED", help="print all that happens")
    return parser.parse_args()


def _verdicts(start: int, seeds: int, processes: int) -> Iterator[Verdict]:
    if processes == 1:
        yield from map(run_seed, range(start, start + seeds))
        return
    # Not forked: a fork would share what the parent has opened.
    with get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(run_seed, range(start, start + seeds), _CHUNK)


def _tell(verdict: Verdict) -> None:
    for violation in verdict.violations:
        print(f"seed {verdict.seed}: {violation}", flush=True)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
