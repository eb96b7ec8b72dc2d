"""A process that moves a tree with a journal, and kills itself at the so-manieth write of it.

Arguments: up or down, folder, prefix, journal, number of the write (0: none), before or after.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import anyio

from engine import Credentials, Engine, Manifest, RoleSpec, TransferConfig
from engine.batch.journal import Journal
from engine.types import MiB

CONFIG = TransferConfig(
    part_size=5 * MiB,
    multipart_threshold=5 * MiB,
    multipart_download_threshold=5 * MiB,
    max_parts_in_flight=2,
)


def die_at(number: int, when: str) -> None:
    write = Journal._write
    seen = 0

    def counted(self: Journal, rows: Sequence[Any], durable: bool) -> None:
        nonlocal seen
        seen += 1
        if seen == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, rows, durable)
        if seen == number and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._write = counted  # type: ignore[method-assign]


async def main(*ends: str) -> None:
    way, folder, prefix, journal = ends
    asked = json.loads(os.environ["MOVER"])
    keys = Credentials(asked["key"], asked["secret"])
    manifest = Manifest.upload(folder, prefix)
    if way == "down":
        manifest = Manifest.download(prefix, folder)
    endpoint = asked["endpoint"]
    async with Engine(
        RoleSpec(asked["role"]),
        region=asked["region"],
        endpoint_url=endpoint,
        sts_endpoint_url=endpoint,
        credentials=keys,
        config=CONFIG,
    ) as s3:
        report = await s3.run(manifest, journal=journal)
    print(json.dumps({"objects": report.objects, "resumed": report.resumed}))


if __name__ == "__main__":
    die_at(int(sys.argv[5]), sys.argv[6])
    anyio.run(main, *sys.argv[1:5])
