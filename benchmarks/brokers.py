"""Brokers of an assumed role under faults of STS: ``python -m benchmarks.brokers``.

A crowd of signers works under each broker in turn, in a process of its own, against the gate
(``engine.testing``) in this one, with sessions that really end after seconds. What is counted:
calls of STS (by the gate), signings that failed or got a session that had ended, and the time
that signers waited. Nothing here asserts a speed.

botocore's windows are absolute, 15 and 10 minutes, so every lease of these seconds is in its
mandatory window from the start, as a real one of 900 s is in the advisory window.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random

from benchmarks.broker_clients import available
from engine.bench.machine import load
from engine.testing.aws import AwsDouble
from engine.testing.gate import Gate

ROOT = Path(__file__).resolve().parent.parent
BASE = "s3engine"
ACCOUNT = "111122223333"
BUCKET = "bench-brokers"
# Beyond the crowd's own time: start-up, and one wait that has just begun.
_EXTRA_SECONDS = 150.0
_DOWN_SECONDS = 6.0
# Below this nobody waited: a turn of a busy loop, a switch of threads. Seconds.
_NOTICEABLE = 0.02


@dataclass(frozen=True)
class Plan:
    """How long a lease and a run are, and how big the crowd is. Seconds."""

    lease: float
    seconds: float
    signers: int
    rate: float
    scenarios: tuple[str, ...]
    brokers: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What one crowd met.

    Attributes:
        expired: Signings that were given a session that had ended by the gate's clock.
        waited: Seconds that all signers together waited for credentials.
    """

    calls: int
    refused: int
    signings: int
    failed: int
    errors: str
    expired: int
    waited: float
    longest: float


def healthy(gate: Gate, plan: Plan) -> None:
    """Nothing is wrong."""


def slow(gate: Gate, plan: Plan) -> None:
    """Every answer of STS takes a second."""
    gate.sts_delay = 1.0


def failing(gate: Gate, plan: Plan) -> None:
    """Half of the calls end with InternalFailure."""
    gate.sts_fail_rate = 0.5


def down(gate: Gate, plan: Plan) -> None:
    """All calls fail for 6 s, from a third of a lease on."""

    def switch(rate: float) -> Callable[[], None]:
        return lambda: setattr(gate, "sts_fail_rate", rate)

    for delay, rate in ((plan.lease / 3, 1.0), (plan.lease / 3 + _DOWN_SECONDS, 0.0)):
        timer = threading.Timer(delay, switch(rate))
        timer.daemon = True
        timer.start()


def skewed(gate: Gate, plan: Plan) -> None:
    """AWS is an hour ahead of this machine."""
    gate.clock_offset = 3600.0


SCENARIOS: dict[str, Callable[[Gate, Plan], None]] = {
    "healthy": healthy,
    "STS takes 1 s": slow,
    "STS fails 50 %": failing,
    "STS down for 6 s": down,
    "clock an hour off": skewed,
}


def run(
    name: str, scenario: str, plan: Plan, aws: AwsDouble, folder: Path, usual: dict[str, float]
) -> Outcome:
    """One broker under one fault.

    Args:
        usual: Seconds of a signing without a wait, by broker; the first run of each sets it.
    """
    environment = _scene(aws, plan, folder)
    gate = aws.gate
    numbers = (str(plan.signers), str(plan.rate), str(plan.seconds))
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.broker_clients", name, *numbers],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start")
        SCENARIOS[scenario](gate, plan)
        document, _ = child.communicate("go\n", timeout=plan.seconds + _EXTRA_SECONDS)
    met = json.loads(document)
    calls = gate.sts_calls(action="AssumeRole")
    took = sorted(met["took"])
    # A HEAD takes its time also when nobody waits; a broker that is only asked takes none.
    base = usual.setdefault(name, took[len(took) // 10] if name.startswith("obstore") else 0.0)
    waits = [seconds - base for seconds in took if seconds - base > _NOTICEABLE]
    errors = sorted(met["failed"].items(), key=lambda item: -item[1])
    return Outcome(
        calls=len(calls),
        refused=sum(entry.failed for entry in calls),
        signings=len(took),
        failed=sum(met["failed"].values()),
        errors=", ".join(error for error, _ in errors[:2]),
        expired=_given_when_over(gate, met["used"]),
        waited=sum(waits),
        longest=max(waits, default=0.0),
    )


def _given_when_over(gate: Gate, used: dict[str, list[float]]) -> int:
    count = 0
    for key_id, times in used.items():
        record = gate.accounts.key(key_id)
        if record is None or record.told_until is None:
            continue
        for at in times:
            by_gate = datetime.fromtimestamp(at, UTC) + timedelta(seconds=gate.clock_offset)
            count += by_gate >= record.told_until
    return count


def _scene(aws: AwsDouble, plan: Plan, folder: Path) -> dict[str, str]:
    """A user, a role and an object; the environment of a program that works under the role."""
    aws.reset()
    gate = aws.gate
    gate.random = Random(22)
    user = gate.add_user(ACCOUNT, "etl", allow=[("sts:AssumeRole", "*")])
    role = gate.add_role(
        ACCOUNT, "loader", trust=[user.arn], allow=[("s3:*", "*")], session_lifetime=plan.lease
    )
    gate.create_bucket(BUCKET, ACCOUNT)
    gate.put_object(BUCKET, "key", b"bytes")
    config = folder / "config"
    config.write_text(
        f"[profile base]\nregion = us-east-1\naws_access_key_id = {user.access_key_id}\n"
        f"aws_secret_access_key = {user.secret_access_key}\n"
        f"[profile role]\nregion = us-east-1\nsource_profile = base\nrole_arn = {role}\n"
        "duration_seconds = 900\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "BENCH_ROLE": role,
        "BENCH_KEY_ID": user.access_key_id,
        "BENCH_SECRET": user.secret_access_key,
        "BENCH_BUCKET": BUCKET,
    }


def table(scenario: str, outcomes: dict[str, Outcome]) -> str:
    """One scenario as text; the calls of STS also as a ratio to ours."""
    head = (
        f"{scenario:<18}{'STS calls':>10}{'x ours':>8}{'refused':>9}{'signings':>10}{'failed':>8}"
        f"{'expired':>9}{'waited s':>10}{'longest s':>11}  errors"
    )
    lines = [head, "-" * len(head)]
    ours = outcomes[BASE].calls
    for name, met in outcomes.items():
        lines.append(
            f"{name:<18}{met.calls:>10}{met.calls / ours:>8.1f}{met.refused:>9}{met.signings:>10}"
            f"{met.failed:>8}{met.expired:>9}{met.waited:>10.1f}{met.longest:>11.2f}  {met.errors}"
        )
    return "\n".join(lines)


def bench(plan: Plan) -> None:
    """All brokers under all faults, the order turned from one fault to the next."""
    _print_conditions(plan)
    usual: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="s3engine-brokers-") as name, AwsDouble() as aws:
        for number, scenario in enumerate(plan.scenarios):
            order = plan.brokers[number % len(plan.brokers) :]
            order += plan.brokers[: number % len(plan.brokers)]
            met = {broker: run(broker, scenario, plan, aws, Path(name), usual) for broker in order}
            print("\n" + table(scenario, {broker: met[broker] for broker in plan.brokers}))
            sys.stdout.flush()
    print(f"\nload after: {load()}")


def _print_conditions(plan: Plan) -> None:
    names = dict.fromkeys(name.partition("/")[0] for name in plan.brokers)
    for title, text in {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "brokers": ", ".join(f"{name} {_version(name)}" for name in names),
        "crowd": f"{plan.signers} signers, {plan.rate:g} signings a second each, "
        f"{plan.seconds:g} s a run",
        "leases": f"{plan.lease:g} s, from the gate on loopback; asked for: 900 s",
        "signing": "the broker is asked for a set; with obstore a HEAD, which asks its provider",
        "waited": f"all signers together, waits of over {_NOTICEABLE * 1000:.0f} ms",
        "expired": "sets given out after their end (obstore: the HEAD fails instead)",
        "python": sys.version.split()[0],
        "CPUs": str(os.cpu_count()),
        "load before": load(),
    }.items():
        print(f"{title + ':':<13}{text}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _options(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.brokers")
    parser.add_argument("--quick", action="store_true", help="leases of 8 s, 9 s a run")
    parser.add_argument("--smoke", action="store_true", help="two brokers, one fault, 2 s")
    parser.add_argument("--lease", type=float, default=12.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--signers", type=int, default=16)
    options = parser.parse_args(arguments)
    if options.quick:
        options.lease, options.seconds = 8.0, 9.0
    if options.smoke:
        options.lease, options.seconds, options.signers = 6.0, 2.0, 4
    return Plan(
        lease=options.lease,
        seconds=options.seconds,
        signers=options.signers,
        rate=10.0,
        scenarios=("healthy",) if options.smoke else tuple(SCENARIOS),
        brokers=(BASE, "botocore") if options.smoke else tuple(available()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options and measure."""
    bench(_options(arguments))


if __name__ == "__main__":
    main()
