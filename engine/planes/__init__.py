"""The door of the planes: their tables. An outside plane registers itself here by name."""

from __future__ import annotations

from collections.abc import Callable

from engine.config import Endpoints
from engine.events import Emit, silent
from engine.protocols import Clock, ControlPlane, DataPlane, Lease
from engine.registry import Registry
from engine.threads import ThreadDoor

__all__ = ["CONTROL_PLANES", "DATA_PLANES", "wire_planes"]

DATA_PLANES: Registry[Callable[..., DataPlane]] = Registry(
    "data plane",
    {
        "wire": "engine.planes.wire:WirePlane",
    },
)
CONTROL_PLANES: Registry[Callable[..., ControlPlane]] = Registry(
    "control plane",
    {
        "wire": "engine.planes.wire_control:WireControlPlane",
        "aws": "engine.planes.aws:AwsControlPlane",
    },
)


def wire_planes(
    endpoints: Endpoints,
    lease: Lease,
    *,
    clock: Clock,
    threads: ThreadDoor,
    user_agent: str,
    emit: Emit = silent,
) -> tuple[DataPlane, ControlPlane]:
    """Both planes over our own client, on the same connections."""
    data = DATA_PLANES.get("wire")(
        endpoints, lease, clock=clock, threads=threads, user_agent=user_agent, emit=emit
    )
    control = CONTROL_PLANES.get("wire")(
        endpoints,
        lease,
        clock=clock,
        threads=threads,
        user_agent=user_agent,
        emit=emit,
        beside=data,
    )
    return data, control
