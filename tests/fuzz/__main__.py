"""``python -m tests.fuzz --target heads --seconds 600 [--seed N]``

``--seed N --examples 1`` runs one example again. Exit 1 where one failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.fuzz.runner import run
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="of the first example")
    parser.add_argument("--examples", type=int, default=0, help="so many instead of seconds")
    given = parser.parse_args()
    failed = 0
    for name in given.target or sorted(TARGETS):
        seed = given.seed if given.seed is not None else secrets.randbits(40)
        outcome = run(TARGETS[name], given.seconds, seed, given.examples)
        print(
            f"{name}: {outcome.examples} examples from seed {seed} in {outcome.seconds:.0f} s, the "
            f"slowest {outcome.slowest * 1000:.0f} ms, memory +{outcome.growth >> 20} MiB"
        )
        if outcome.failure:
            failed += 1
            print(outcome.failure)
            again = f"python -m tests.fuzz --target {name} --seed {outcome.seed} --examples 1"
            print(f"again: {again}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
