"""Small objects of a run that has a huge one, too: no more are opened than there are slots for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio

from engine import Credentials, Engine, Manifest, MiB, TransferConfig
from engine.api.statistics import EngineStatistics
from engine.testing.clock import run_virtual
from tests.unit.origin import Exchange, run_origin

PART, PARTS, SMALL, SLOTS = 5 * MiB, 16, 500, 8
SECONDS_OF_A_PART, SECONDS_OF_A_SMALL_ONE = 1.0, 0.05


async def store(exchange: Exchange) -> None:
    """Takes everything, each at its time."""
    method, target = exchange.request.method, exchange.request.target
    await exchange.read_body()
    if method == "POST" and "uploads" in target:
        document = b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
        await exchange.answer(200, document + b"</InitiateMultipartUploadResult>")
    elif method == "POST":
        document = b"<CompleteMultipartUploadResult><ETag>e</ETag>"
        await exchange.answer(200, document + b"</CompleteMultipartUploadResult>")
    else:
        part = "partNumber" in target
        await asyncio.sleep(SECONDS_OF_A_PART if part else SECONDS_OF_A_SMALL_ONE)
        await exchange.answer(200, ETag='"e"')


def test_small_objects_do_not_wait_for_slots_that_a_huge_one_has(tmp_path: Path) -> None:
    with open(tmp_path / "a-huge-one", "wb") as file:
        file.truncate(PARTS * PART)
    for number in range(SMALL):
        (tmp_path / f"small-{number:03}").write_bytes(b"x")
    looks: list[tuple[float, EngineStatistics]] = []

    async def watch(s3: Engine) -> None:
        while True:
            looks.append((anyio.current_time(), s3.statistics()))
            await anyio.sleep(0.02)

    async def main() -> None:
        async with run_origin() as origin:
            origin.script.extend([store] * 1000)
            async with (
                Engine(
                    endpoint_url=f"http://127.0.0.1:{origin.port}",
                    region="us-east-1",
                    credentials=Credentials("AKIDEXAMPLE", "secret"),
                    config=TransferConfig(
                        part_size=PART,
                        multipart_threshold=PART,
                        max_concurrency=SLOTS,
                        checksum="none",
                    ),
                ) as s3,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(watch, s3)
                report = await s3.run(Manifest.upload(tmp_path, "s3://bucket/to/"))
                tasks.cancel_scope.cancel()
            assert report.objects == SMALL + 1 and not report.failed

    run_virtual(main)
    # Those of the very beginning were opened before the huge one has asked for its slots.
    began = next(when for when, found in looks if found.big.in_flight)
    both = [found for when, found in looks if when > began + 0.5 and found.big.waiting]
    assert len(both) > 50
    assert max(found.small.waiting for found in both) <= 1
    assert min(found.small.in_flight for found in both) >= SLOTS // 2 - 1
    alone = [found for _, found in looks if not found.big.in_flight + found.big.waiting]
    assert max(found.small.in_flight for found in alone) == SLOTS, "they have all slots again"
