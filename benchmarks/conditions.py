"""The conditions of a measurement, printed with it: without them a ratio says nothing.

What lives here: facts about machine, system and versions. What must not: secrets, user names.
"""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.clients import Client
from benchmarks.harness import ROOT


def conditions(folder: Path, clients: Sequence[Client]) -> dict[str, str]:
    """By name, in the order in which they are printed."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "load before": load(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION}, uvloop {_version('uvloop')}",
        "network": "loopback, plain http, origin and client on the same CPUs",
        "files on": _file_system(folder),
        "clients": ", ".join(f"{c.name} {_version(c.distribution or c.name)}" for c in clients),
        "measured": "whole client process, start-up included; ratios of runs of the same round",
    }


def load() -> str:
    """Load averages of 1, 5 and 15 minutes; above the origin and one client: not alone here."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(unknown)"


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


def processor() -> str:
    """The model as Linux names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or sys.platform


def _file_system(folder: Path) -> str:
    """Type of the file system below ``folder``, by the longest mount point that holds it."""
    best, kind = "", "unknown"
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, point, name, *_ = line.split(" ")
            inside = folder == Path(point) or Path(point) in folder.parents
            if inside and len(point) >= len(best):
                best, kind = point, name
    except OSError:
        return "unknown"
    return kind
