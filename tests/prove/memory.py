"""A child process: a run of objects of many sizes under a budget of memory, and what it held.

``python -m tests.prove.memory '{"endpoint": ..., "ca": ..., "folder": ..., "sizes": [...], ...}'``
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import anyio

from engine import Credentials, Engine, Manifest, TransferConfig, disk
from engine.events import Event, ObjectDone
from engine.types import MiB

# Seconds that the sink takes for a MiB.
SLOW = 0.0005


def sizes(objects: int, total: int, groups: int = 100, seed: int = 3) -> list[int]:
    """Sizes of groups of objects: log-uniform from 1 KiB, ``total`` bytes in all."""
    random = Random(seed)
    found = [1024 * 2 ** random.uniform(0, 14.4) for _ in range(min(groups, objects))]
    scale = total / (sum(found) * objects / len(found))
    return [int(size * scale) for size in found]


def _peak() -> int:
    """VmHWM of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _slow_down() -> None:
    pwrite = disk.pwrite

    def slow(fd: int, data: Any, offset: int, /) -> int:
        time.sleep(SLOW * len(data) / MiB)
        return pwrite(fd, data, offset)

    disk.pwrite = slow


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Download all of it; the files are removed as soon as they are whole."""
    folder, each = Path(job["folder"]), int(job["each"])
    done = most = samples = 0

    def hook(event: Event) -> None:
        nonlocal done
        if isinstance(event, ObjectDone):
            done += event.size
            Path(event.path).unlink()

    trees = [
        Manifest.download(f"s3://bucket/s/{size}/{each}/", folder / str(number)).trees
        for number, size in enumerate(job["sizes"])
    ]
    manifest = Manifest(trees=tuple(tree for group in trees for tree in group))
    _slow_down()
    async with Engine(
        region="us-east-1",
        endpoint_url=job["endpoint"],
        ca_bundle=job["ca"] or None,
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "key"),
        config=TransferConfig(max_memory=job["budget"]),
        hook=hook,
    ) as s3:

        async def watch() -> None:
            nonlocal most, samples
            while True:
                most = max(most, s3.statistics().buffers)
                samples += 1
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            report = await s3.run(manifest)
            tasks.cancel_scope.cancel()
        found = s3.statistics()
        return {
            "failed": [str(failure.error) for failure in report.failed][:3],
            "bytes": done,
            "samples": samples,
            "most_sampled": most,
            "most": found.most_buffers,
            "left": found.buffers,
            "budget": found.max_buffers,
            "hwm": _peak(),
        }


if __name__ == "__main__":
    print(json.dumps(anyio.run(run, json.loads(sys.argv[1]))))
