"""The process that ``benchmarks.mixed`` measures: one run of one manifest, and what it had.

``python -m benchmarks.mixed_client '{"endpoint": ..., "ca": ..., "up": ..., "trees": ...}'``
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import anyio

from benchmarks.peers.job import BUCKET, REGION
from engine import Credentials, Engine, EngineStatistics, Manifest
from engine.events import Event, ObjectDone

# Seconds between two looks at the slots.
LOOK = 0.005
# Fewer looks say nothing about a share.
LEAST_LOOKS = 20
# Of the looks, from each end. A slot that comes free is given on a moment later, and of few slots
# one is a large part.
APART = 20


@dataclass(frozen=True, slots=True)
class Share:
    """One kind's part of all slots that were taken, while that kind wanted more than it had.

    Attributes:
        looks: How often it was so.
        least: All but a twentieth of the looks have found so much at least; None of too few.
    """

    looks: int
    mean: float | None
    least: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """Requests under way, those that wait for a slot, and all slots that there are."""

    small: int
    small_waiting: int
    huge: int
    huge_waiting: int
    slots: int

    @classmethod
    def at(cls, found: EngineStatistics) -> Look:
        small, huge = found.small, found.big
        slots = small.capacity + huge.capacity
        return cls(small.in_flight, small.waiting, huge.in_flight, huge.waiting, slots)

    def share(self, *, huge: bool) -> float:
        """One kind's part of the slots. Those that the other kind has beyond all that there are
        were given to it when nobody else wanted them, and are on their way back."""
        taken = min(self.small + self.huge, self.slots)
        return (self.huge if huge else self.small) / max(1, taken)

    @property
    def both(self) -> bool:
        """Whether both kinds are under way or want to be."""
        return bool(self.small + self.small_waiting and self.huge + self.huge_waiting)


def share(looks: Sequence[Look], *, huge: bool) -> Share:
    found = sorted(
        look.share(huge=huge)
        for look in looks
        if look.both and (look.huge_waiting if huge else look.small_waiting)
    )
    if len(found) < LEAST_LOOKS:
        return Share(len(found), None, None)
    return Share(len(found), sum(found) / len(found), found[len(found) // APART])


def mean_huge(looks: Sequence[Look]) -> float | None:
    """The huge ones' part of the slots over all the time in which both kinds were under way."""
    found = [look.share(huge=True) for look in looks if look.both]
    return sum(found) / len(found) if found else None


def quantile(values: Sequence[float], part: float) -> float | None:
    return sorted(values)[int(part * (len(values) - 1))] if values else None


def _manifest(path: str, url: str, *, up: bool) -> Manifest:
    return Manifest.upload(path, url) if up else Manifest.download(url, path)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Raises the first object's error, if any has one."""
    seconds: list[float] = []
    ends: dict[bool, float] = {}
    looks: list[Look] = []

    def hook(event: Event) -> None:
        if isinstance(event, ObjectDone):
            huge = event.size != job["small"]
            ends[huge] = time.perf_counter()
            if not huge:
                seconds.append(event.seconds)

    trees = [
        tree
        for path, key in job["trees"]
        for tree in _manifest(path, f"s3://{BUCKET}/{key}", up=job["up"]).trees
    ]
    cpu, began = time.process_time(), time.perf_counter()
    async with Engine(
        region=REGION,
        endpoint_url=job["endpoint"],
        ca_bundle=job["ca"] or None,
        proxy="none",
        credentials=Credentials("AKIDBENCHMARKONLY", "not-a-secret-of-anybody"),
        hook=hook,
    ) as s3:

        async def watch() -> None:
            while True:
                looks.append(Look.at(s3.statistics()))
                await anyio.sleep(LOOK)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            report = await s3.run(Manifest(trees=trees))
            tasks.cancel_scope.cancel()
    if report.failed:
        raise report.failed[0].error
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "objects": report.objects,
        "small_ended": ends[False] - began if False in ends else None,
        "huge_ended": ends[True] - began if True in ends else None,
        "p50": quantile(seconds, 0.5),
        "p99": quantile(seconds, 0.99),
        "most_small": max(look.small for look in looks),
        "most_huge": max(look.huge for look in looks),
        "both_looks": sum(look.both for look in looks),
        "huge_of_both": mean_huge(looks),
        "small_share": asdict(share(looks, huge=False)),
        "huge_share": asdict(share(looks, huge=True)),
    }


if __name__ == "__main__":
    found = anyio.run(
        run,
        json.loads(sys.argv[1]),
        backend_options={"use_uvloop": find_spec("uvloop") is not None},
    )
    print(json.dumps(found))
