"""Doubles of AWS for tests: the gate in front of moto, IMDSv2 and Redshift.

What lives here: servers on 127.0.0.1 that behave like AWS where it matters to a transfer (who may
do what and for how long, checksums, faults), and the pytest fixtures that start them. What must
not: anything that ships code may import, and anything of the engine beyond its values, errors,
clock and redaction. A double that shared the engine's signer would agree with its mistakes.

Names are loaded at first use, so that having the package installed costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.testing.aws import AwsDouble as AwsDouble
    from engine.testing.container import ContainerDouble as ContainerDouble
    from engine.testing.faults import FaultPlan as FaultPlan
    from engine.testing.gate import Gate as Gate
    from engine.testing.gate_log import LoggedRequest as LoggedRequest
    from engine.testing.imds import ImdsDouble as ImdsDouble

_HOMES = {
    "AwsDouble": "engine.testing.aws",
    "ContainerDouble": "engine.testing.container",
    "FaultPlan": "engine.testing.faults",
    "Gate": "engine.testing.gate",
    "ImdsDouble": "engine.testing.imds",
    "LoggedRequest": "engine.testing.gate_log",
}

__all__ = ["AwsDouble", "ContainerDouble", "FaultPlan", "Gate", "ImdsDouble", "LoggedRequest"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
