"""The door of the planes: their tables. An outside plane registers itself here by name."""

from __future__ import annotations

from collections.abc import Callable

from engine.protocols import ControlPlane, DataPlane
from engine.registry import Registry

__all__ = ["CONTROL_PLANES", "DATA_PLANES"]

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
