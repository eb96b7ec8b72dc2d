"""What a copy through this machine has read is compared with the source's sums of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import anyio
import pytest
from msgspec import structs

from engine import ChecksumMismatch, MiB, StoreLimits, TransferConfig
from engine.events import BytesMoved
from engine.transfer.copy import copy
from engine.types import S3Url
from tests.integration.conftest import Scene
from tests.integration.kept import MemoryJournal, Rows
from tests.integration.others import put_in_parts

PART = 5 * MiB
SIZE = 4 * PART + 4321
CONFIG = TransferConfig(multipart_threshold=PART, part_size=PART, max_parts_in_flight=1)
DATA = Random(11).randbytes(SIZE)
# As other clients cut: as we do; so that our borders are none of theirs; unequal and hard to guess.
CUTS: list[int | Sequence[int]] = [PART, 6 * MiB + 1, (6 * MiB, 8 * MiB, SIZE - 14 * MiB)]


def check_made(scene: Scene) -> None:
    assert scene.aws.gate.get_object(scene.bucket, "copy") == DATA
    assert scene.aws.gate.open_uploads(scene.bucket) == []


@pytest.mark.parametrize("cut", CUTS, ids=["ours", "other", "unequal"])
async def test_a_flipped_bit_costs_one_part(scene: Scene, cut: Any) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA, cut, "crc32c")
    async with scene.engine(config=CONFIG) as s3:
        scene.aws.gate.faults.add(kind="flip", action="GetObject", nth=2, at=4000, bit=3)
        scene.events.clear()
        result = await s3.copy(scene.url("key"), scene.url("copy"), through=True)
    assert result.verified and result.checksum is not None
    assert result.checksum.algorithm == "crc32c" and result.checksum.full_object
    check_made(scene)
    # Two where it lies in a stored part that two of ours share.
    again = len(scene.log("UploadPart")) - 5
    assert again == 1 if cut == PART else again <= 3
    assert sum(e.size for e in scene.events if isinstance(e, BytesMoved)) == SIZE


@pytest.mark.parametrize("cut", CUTS, ids=["ours", "other", "unequal"])
async def test_nothing_is_read_twice_where_all_is_right(scene: Scene, cut: Any) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA, cut, "crc32")
    async with scene.engine(config=CONFIG) as s3:
        result = await s3.copy(scene.url("key"), scene.url("copy"), through=True)
    assert result.verified
    check_made(scene)
    assert len(scene.log("GetObject")) == len(scene.log("UploadPart")) == 5


async def test_a_guess_of_the_parts_that_is_wrong_costs_what_holds_their_borders(
    scene: Scene,
) -> None:
    """Parts of which the first and the number let one think that all are of one size."""
    cut = (7 * MiB, 6 * MiB, SIZE - 13 * MiB)
    put_in_parts(scene.aws, scene.bucket, "key", DATA, cut, "crc32c")
    async with scene.engine(config=CONFIG) as s3:
        result = await s3.copy(scene.url("key"), scene.url("copy"), through=True)
    assert result.verified
    check_made(scene)
    assert len(scene.log("GetObject")) == 6 and len(scene.log("UploadPart")) == 5


async def test_where_the_store_tells_no_sums_of_parts_all_may_come_twice(scene: Scene) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA, 6 * MiB + 1, "crc32c")
    scene.aws.gate.part_sums = "never"
    scene.aws.gate.faults.add(kind="flip", action="GetObject", nth=2, at=4000, bit=3)
    async with scene.engine(config=CONFIG) as s3:
        assert (await s3.copy(scene.url("key"), scene.url("copy"), through=True)).verified
    check_made(scene)
    assert len(scene.log("GetObject")) <= 10


@pytest.mark.parametrize("size", [1000, SIZE])
async def test_lasting_damage_is_named_and_nothing_is_made(scene: Scene, size: int) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA[:size], 6 * MiB, "crc32c")
    scene.aws.gate.faults.add(kind="flip", action="GetObject", at=9, times=None)
    async with scene.engine(config=CONFIG) as s3:
        with pytest.raises(ChecksumMismatch, match="S3 stores crc32c"):
            await s3.copy(scene.url("key"), scene.url("copy"), through=True)
    assert scene.aws.gate.list_keys(scene.bucket) == ["key"]
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_a_flipped_bit_in_one_request_is_fetched_again(scene: Scene) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA, 6 * MiB, "crc32c")
    scene.aws.gate.faults.add(kind="flip", action="GetObject", at=4000, bit=3)
    whole = TransferConfig(multipart_threshold=SIZE)
    async with scene.engine(config=whole) as s3:
        assert (await s3.copy(scene.url("key"), scene.url("copy"), through=True)).verified
    check_made(scene)
    assert len(scene.log("GetObject")) == 2 and len(scene.log("PutObject")) == 1


@pytest.mark.parametrize("known", [True, False], ids=["journal", "listed"])
@pytest.mark.parametrize("cut", CUTS[:2], ids=["ours", "other"])
async def test_what_an_earlier_process_copied_is_compared_too(
    scene: Scene, cut: Any, known: bool
) -> None:
    """A bit flipped, then the process died: its part was right for the target alone."""
    put_in_parts(scene.aws, scene.bucket, "key", DATA, cut, "crc32c")
    rows, url = Rows(), S3Url(scene.bucket, "key")
    scene.aws.gate.faults.add(kind="flip", action="GetObject", nth=2, at=4000, bit=3)
    async with scene.engine(config=CONFIG) as s3:
        context = s3._ready().context
        rules = structs.replace(context.copies, through=True)

        async def run(hook: Any) -> Any:
            journal = MemoryJournal(rows, None, hook)
            kept = structs.replace(context, copies=rules, journal=journal)
            return await copy(url, S3Url(scene.bucket, "copy"), kept)

        with anyio.CancelScope() as scope:

            def die(name: str) -> None:
                if name == "part" and len(rows.parts) == 3:
                    scope.cancel()

            await run(die)
        assert len(scene.aws.gate.open_uploads(scene.bucket)) == 1
        if not known:
            rows.parts.clear()
        result = await run(lambda name: None)
    assert result.verified
    check_made(scene)
    assert len(scene.log("UploadPart")) <= 7


@pytest.mark.parametrize("through", [True, False])
async def test_what_was_begun_of_a_source_that_is_small_by_now_is_aborted(
    scene: Scene, through: bool
) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", DATA)
    rows, url = Rows(), S3Url(scene.bucket, "key")
    config = replace(CONFIG, limits=StoreLimits("small", max_copy_size=PART))
    async with scene.engine(config=config) as s3:
        context = s3._ready().context
        rules = structs.replace(context.copies, through=through)

        async def run(hook: Any) -> Any:
            kept = structs.replace(context, copies=rules, journal=MemoryJournal(rows, None, hook))
            return await copy(url, S3Url(scene.bucket, "copy"), kept)

        with anyio.CancelScope() as scope:
            await run(lambda name: scope.cancel() if name == "part" else None)
        assert len(scene.aws.gate.open_uploads(scene.bucket)) == 1
        scene.aws.gate.put_object(scene.bucket, "key", DATA[:1000])
        await run(lambda name: None)
    assert scene.aws.gate.get_object(scene.bucket, "copy") == DATA[:1000]
    assert scene.aws.gate.open_uploads(scene.bucket) == [] and not rows.open
