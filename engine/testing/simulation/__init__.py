"""A simulation of all that is outside of the engine, on one virtual clock and by one seed.

In the manner of FoundationDB and TigerBeetle: the whole engine runs single-threaded below its data
and control planes, on a store in memory, a disk that fails and a network that loses answers. The
same seed gives the same run, to the last event. What must not live here: what the engine promises;
the tests judge.

https://apple.github.io/foundationdb/testing.html
"""

from engine.testing.simulation.disk import FaultyDisk
from engine.testing.simulation.faults import FINAL, Coverage, Fault, FaultPlan
from engine.testing.simulation.loop import Death, SimulatedLoop, TooLong
from engine.testing.simulation.planes import enter
from engine.testing.simulation.sessions import Sessions, SimulatedSource
from engine.testing.simulation.store import Condition, Store, StoreRules, Upload, Version
from engine.testing.simulation.world import EPOCH, Request, TooMany, World

__all__ = [
    "EPOCH",
    "FINAL",
    "Condition",
    "Coverage",
    "Death",
    "Fault",
    "FaultPlan",
    "FaultyDisk",
    "Request",
    "Sessions",
    "SimulatedLoop",
    "SimulatedSource",
    "Store",
    "StoreRules",
    "TooLong",
    "TooMany",
    "Upload",
    "Version",
    "World",
    "enter",
]
