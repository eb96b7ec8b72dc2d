"""The conditions of a comparison: machine, system, versions, what each client verifies.

What lives here: facts. What must not: secrets, names of users or hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.conditions import commit
from benchmarks.fast_origin.build import Programs
from benchmarks.peers.known import Peer
from engine.bench.machine import load, machine, python, system

_ROOT = Path(__file__).parents[2]
# These differ from start to start without making results another thing.
PASSING = ("at", "load")

NETWORK_MODEL = (
    "a new connection is read from one round trip after it was accepted, with TLS two; each answer "
    "(and each 100 Continue) begins one round trip after its request was whole. Bandwidth is a "
    "token bucket a connection and direction, with a burst of 4 ms or 64 KiB. Not modelled: slow "
    "start, loss, jitter, a limit over all connections"
)


def conditions(
    programs: Programs, pythons: Mapping[str, Path], peers: list[Peer], threads: int
) -> dict[str, Any]:
    """By name, in the order in which they are printed."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "load": load(),
        "commit": commit(),
        "machine": machine(),
        "system": system(),
        "python": python(),
        "origin": f"C, {threads} thread(s), on the same CPUs as the client, "
        f"TLS {'on' if programs.tls else 'not built'}, signatures not verified, nothing stored",
        "network": NETWORK_MODEL,
        "versions": {peer.name: peer.version(pythons[peer.name]) for peer in peers},
        "verifies": {peer.name: peer.verifies for peer in peers},
        "measured": "whole client process with its children, start-up included; CPU is user + "
        "system; VmHWM of the main process, polled every 10 ms",
    }


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the conditions in which two starts differ."""
    return [
        name
        for name in {**one, **other}
        if name not in (*PASSING, "kind") and one.get(name) != other.get(name)
    ]


def printed(facts: Mapping[str, Any]) -> str:
    """For the terminal."""
    lines = [
        f"{name + ':':<11}{value}" for name, value in facts.items() if not isinstance(value, dict)
    ]
    lines.append("what each client verifies, as it is run here:")
    for name, verifies in facts["verifies"].items():
        lines.append(f"  {name} {facts['versions'][name]}: {verifies}")
    return "\n".join(lines)
