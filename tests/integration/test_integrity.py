"""Bits that flip on the way, up and down: they are noticed, and little is moved again."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine import ChecksumMismatch, MiB, S3Error, TransferConfig
from engine.events import BytesMoved
from engine.transfer.sources import FileSource
from tests.integration.conftest import Scene
from tests.integration.others import put_in_parts

PART = 5 * MiB
SIZE = 4 * PART + 4321
PARTS = TransferConfig(multipart_threshold=PART, multipart_download_threshold=PART, part_size=PART)
DATA = Random(5).randbytes(SIZE)


def flips(scene: Scene, kind: Any, action: str, random: Random) -> None:
    """Flip one bit, anywhere in the object."""
    offset = random.randrange(SIZE)
    number = offset // PART + 1
    scene.aws.gate.faults.add(
        kind=kind,
        action=action,
        part_number=number if action == "UploadPart" else None,
        nth=1 if action == "UploadPart" else number,
        # Ranges come in any order, and the last is short: a bit that all of them have.
        at=offset % PART if action == "UploadPart" else offset % (SIZE % PART),
        bit=random.randrange(8),
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_bit_flipped_on_the_way_up_costs_one_part(scene: Scene, seed: int) -> None:
    flips(scene, "garble", "UploadPart", Random(seed))
    async with scene.engine(config=PARTS) as s3:
        result = await s3.upload(DATA, scene.url("key"))
    assert result.verified
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA
    refused = [entry for entry in scene.log("UploadPart") if entry.failed]
    assert [entry.error_code for entry in refused] == ["BadDigest"]
    assert len(scene.log("UploadPart")) == 5 + 1
    moved = [event.size for event in scene.events if isinstance(event, BytesMoved)]
    assert sum(moved) == SIZE


async def test_a_part_that_was_read_wrong_for_its_sum_is_summed_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    right, wrong = FileSource.read_into, [True]

    def read_into(source: FileSource, offset: int, view: memoryview) -> None:
        right(source, offset, view)
        if PART <= offset < 2 * PART and wrong:
            wrong.clear()
            view[-1] ^= 1

    monkeypatch.setattr(FileSource, "read_into", read_into)
    async with scene.engine(config=PARTS) as s3:
        assert (await s3.upload(tmp_path / "file", scene.url("key"))).verified
    assert not wrong
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA
    assert [e.error_code for e in scene.log("UploadPart") if e.failed] == ["BadDigest"]


async def test_a_bit_flipped_in_a_single_put_is_sent_again(scene: Scene) -> None:
    scene.aws.gate.faults.add(kind="garble", action="PutObject", at=4321, bit=5)
    async with scene.engine() as s3:
        assert (await s3.upload(DATA[:9999], scene.url("key"))).verified
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA[:9999]
    assert [entry.error_code for entry in scene.log("PutObject")] == ["BadDigest", ""]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sums", ["composite", "always"])
async def test_a_bit_flipped_on_the_way_down_costs_one_range(
    scene: Scene, tmp_path: Path, seed: int, sums: Any
) -> None:
    """Also where the store keeps a checksum of the whole and none of its parts, as S3 does."""
    scene.aws.gate.part_sums = sums
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(DATA, scene.url("key"))
        scene.events.clear()
        flips(scene, "flip", "GetObject", Random(seed))
        result = await s3.download(scene.url("key"), tmp_path / "key")
    assert result.verified
    assert (tmp_path / "key").read_bytes() == DATA
    ranges = [entry.headers["range"] for entry in scene.log("GetObject")]
    (flipped,) = [e.headers["range"] for e in scene.log("GetObject") if "flip" in e.fault]
    assert len(ranges) == 5 + 1
    assert ranges.count(flipped) == 2
    moved = [event.size for event in scene.events if isinstance(event, BytesMoved)]
    assert sum(moved) == SIZE


@pytest.mark.parametrize("algorithm", ["crc32c", "crc32"])
@pytest.mark.parametrize("part_sums", ["composite", "never"])
async def test_an_object_with_a_composite_checksum_is_verified_and_healed(
    scene: Scene, tmp_path: Path, algorithm: str, part_sums: Any
) -> None:
    """As other clients write them by default; in parts of another size than ours."""
    put_in_parts(scene.aws, scene.bucket, "key", DATA, 6 * MiB + 1, algorithm)
    scene.aws.gate.part_sums = part_sums
    async with scene.engine(config=PARTS) as s3:
        clean = await s3.download(scene.url("key"), tmp_path / "clean")
        assert clean.verified and clean.checksum is not None and not clean.checksum.full_object
        assert (
            clean.parts == len(scene.log("GetObject")) == 7
        )  # three parts of two ranges, and the last
        scene.aws.gate.log.clear()
        flips(scene, "flip", "GetObject", Random(7))
        result = await s3.download(scene.url("key"), tmp_path / "key")
    assert result.verified
    assert (tmp_path / "key").read_bytes() == DATA
    again = len(scene.log("GetObject")) - 7
    # Where the damaged part is known it is fetched again; else all of it is, once.
    assert again in (1, 2) if part_sums == "composite" else 1 <= again <= 7


@pytest.mark.parametrize("sizes", [(5, 6, 5), (6, 5, 6), (5, 7, 6, 5)])
async def test_parts_of_unequal_sizes_are_verified(
    scene: Scene, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    cuts = [size * MiB for size in sizes]
    data = DATA[: sum(cuts)] if sum(cuts) <= SIZE else os.urandom(sum(cuts))
    put_in_parts(scene.aws, scene.bucket, "key", data, cuts, "crc32c")
    async with scene.engine(config=PARTS) as s3:
        assert (await s3.download(scene.url("key"), tmp_path / "key")).verified
    assert (tmp_path / "key").read_bytes() == data
    assert len(scene.log("GetObject")) <= 2 * len(sizes)


async def test_a_composite_object_in_one_request_is_verified(scene: Scene, tmp_path: Path) -> None:
    put_in_parts(scene.aws, scene.bucket, "two", DATA[: PART + 7], PART, "crc32c")
    put_in_parts(scene.aws, scene.bucket, "one", DATA[:1000], PART, "crc32")
    async with scene.engine() as s3:
        for key, size in (("two", PART + 7), ("one", 1000)):
            assert (await s3.download(scene.url(key), tmp_path / key)).verified
            assert (tmp_path / key).read_bytes() == DATA[:size]
    assert len(scene.log("GetObject")) == 2


@pytest.mark.parametrize("through", [False, True], ids=["download", "copy"])
async def test_a_store_that_cannot_tell_its_parts_now_is_none_that_never_does(
    scene: Scene, tmp_path: Path, through: bool
) -> None:
    put_in_parts(scene.aws, scene.bucket, "key", DATA, 6 * MiB + 1, "crc32c")
    async with scene.engine(config=PARTS) as s3:

        async def move() -> bool:
            if through:
                return (await s3.copy(scene.url("key"), scene.url("copy"), through=True)).verified
            return (await s3.download(scene.url("key"), tmp_path / "key")).verified

        asked: dict[str, Any] = {
            "kind": "status",
            "action": "HeadObject",
            "part_number": 1,
            "times": None,
        }
        scene.aws.gate.faults.add(**asked, status=500)
        with pytest.raises(S3Error) as raised:
            await move()
        assert raised.value.status == 500 and raised.value.facts.get("attempts", 1) != 1
        assert not (tmp_path / "key").exists()
        assert scene.aws.gate.list_keys(scene.bucket) == ["key"]
        scene.aws.gate.faults.clear()
        scene.aws.gate.faults.add(**asked, status=501, code="NotImplemented")
        assert not await move()


@pytest.mark.parametrize("sums", ["composite", "always"])
async def test_damage_in_two_ranges_is_healed(scene: Scene, tmp_path: Path, sums: Any) -> None:
    scene.aws.gate.part_sums = sums
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(DATA, scene.url("key"))
        for nth in (1, 4):
            scene.aws.gate.faults.add(kind="flip", action="GetObject", nth=nth, at=nth * 1000)
        result = await s3.download(scene.url("key"), tmp_path / "key")
    assert result.verified
    assert (tmp_path / "key").read_bytes() == DATA
    again = len(scene.log("GetObject")) - 5
    assert again == 2 if sums == "always" else again <= 5


async def test_lasting_damage_ends_after_each_range_came_twice(
    scene: Scene, tmp_path: Path
) -> None:
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(DATA, scene.url("key"))
        scene.aws.gate.faults.add(kind="flip", action="GetObject", at=99, times=None)
        with pytest.raises(ChecksumMismatch, match="S3 stores crc64nvme"):
            await s3.download(scene.url("key"), tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    assert len(scene.log("GetObject")) == 2 * 5
