"""The door of the planes: their tables. An outside plane registers itself here by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from engine.config import Endpoints
from engine.errors import UsageError
from engine.events import Emit, silent
from engine.pace import Pace
from engine.protocols import Clock, ControlPlane, DataPlane, Lease
from engine.registry import Registry
from engine.threads import ThreadDoor

__all__ = ["CONTROL_PLANES", "DATA_PLANES", "DEFAULT_PLANE", "open_planes"]

DATA_PLANES: Registry[Callable[..., DataPlane]] = Registry(
    "data plane",
    {
        "wire": "engine.planes.wire:WirePlane",
        "aws": "engine.planes.aws_data:AwsDataPlane",
    },
)
CONTROL_PLANES: Registry[Callable[..., ControlPlane]] = Registry(
    "control plane",
    {
        "wire": "engine.planes.wire_control:WireControlPlane",
        "aws": "engine.planes.aws:AwsControlPlane",
    },
)


DEFAULT_PLANE = "wire"


def open_planes(
    name: str,
    endpoints: Endpoints,
    lease: Lease,
    *,
    clock: Clock,
    threads: ThreadDoor,
    user_agent: str,
    emit: Emit = silent,
    pace: Pace | None = None,
) -> tuple[DataPlane, ControlPlane]:
    """The data plane ``name`` and the control plane beside it.

    That is the one of the same name, or the wire's, for an outside data plane that brings none.

    Raises:
        UsageError: No such data plane, or one that cannot keep to a ``pace``.
    """
    make = DATA_PLANES.get(name)
    paced = {} if pace is None else {"pace": pace}
    if paced and "pace" not in inspect.signature(make).parameters:
        raise UsageError(
            f"the data plane {name!r} cannot keep to a limit of bandwidth",
            fix="Leave max_bandwidth (--max-bandwidth) out, or give its constructor a `pace`",
        )
    data = make(
        endpoints, lease, clock=clock, threads=threads, user_agent=user_agent, emit=emit, **paced
    )
    control = CONTROL_PLANES.get(name if name in CONTROL_PLANES else DEFAULT_PLANE)(
        endpoints,
        lease,
        clock=clock,
        threads=threads,
        user_agent=user_agent,
        emit=emit,
        beside=data,
    )
    return data, control
