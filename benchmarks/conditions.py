"""The conditions of a measurement, printed with it: without them a ratio says nothing.

What lives here: facts about machine, system and versions. What must not: secrets, user names.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.clients import Client
from benchmarks.harness import ROOT
from engine.bench.machine import file_system, installed, load, machine, python, system


def conditions(folder: Path, clients: Sequence[Client]) -> dict[str, str]:
    """By name, in the order in which they are printed."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "machine": machine(),
        "system": system(),
        "load before": load(),
        "python": f"{python()}, uvloop {_version('uvloop')}",
        "network": "loopback, plain http, origin and client on the same CPUs",
        "files on": file_system(folder),
        "clients": ", ".join(f"{c.name} {_version(c.distribution or c.name)}" for c in clients),
        "measured": "whole client process, start-up included; ratios of runs of the same round",
    }


def _version(distribution: str) -> str:
    return installed(distribution) or "(unknown)"


def commit() -> str:
    """What is measured."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "(not a checkout)"
    return f"{found.stdout.strip()} and what the work tree changed since"
