"""Cancelled at every await, one after the other, each time to be left as if it had not begun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine import Engine, GiB, Manifest, MiB, StoreLimits, TransferConfig
from tests.integration.conftest import Scene
from tests.integration.counted import cancelled_at

# Few slots: one that is lost at each try would stop the test after four.
CONFIG = TransferConfig(
    multipart_threshold=5 * MiB,
    multipart_download_threshold=5 * MiB,
    part_size=5 * MiB,
    max_concurrency=4,
    # A store of which copies go in parts, too.
    limits=StoreLimits("small", max_copy_size=5 * MiB, max_part_size=5 * MiB, max_object_size=GiB),
)
PARTS = os.urandom(5 * MiB + 1)
SMALL = {f"{number}": os.urandom(1000 + number) for number in range(3)}
# No verb here has nearly as many awaits.
MOST = 2_000


class Place:
    """Where the verbs work, and how it has to look after each of them."""

    def __init__(self, scene: Scene, s3: Engine, folder: Path) -> None:
        self.scene = scene
        self.s3 = s3
        self.up = folder / "up"
        self.down = folder / "down"
        self._folder = folder
        for path in (self.up, self.down):
            path.mkdir()
        (self.up / "parts").write_bytes(PARTS)
        for name, data in SMALL.items():
            (self.up / "t" / name).parent.mkdir(exist_ok=True)
            (self.up / "t" / name).write_bytes(data)

    def check(self, key: str) -> None:
        gate, bucket = self.scene.aws.gate, self.scene.bucket
        assert gate.open_uploads(bucket) == []
        for found in gate.list_keys(bucket, key):
            name = found.rpartition("/")[2]
            assert gate.get_object(bucket, found) == SMALL.get(name, PARTS)
        for path in self.down.rglob("*"):
            if path.is_file():
                assert not path.name.startswith("."), "a temporary file is left"
                assert path.read_bytes() == SMALL.get(path.name, PARTS)
        held = descriptors()
        assert not [path for path in held if path.startswith(str(self._folder))]
        assert self.s3._ready().context.limiter.streams.statistics().memory == 0
        assert "busy=0" in self.s3.statistics().data_plane


def descriptors() -> list[str]:
    """What the open descriptors of this process lead to."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, by the gate's thread
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found


@pytest.fixture
async def place(scene: Scene, tmp_path: Path) -> AsyncIterator[Place]:
    before = len(descriptors())
    async with scene.engine(config=CONFIG) as s3:
        place = Place(scene, s3, tmp_path)
        await s3.upload(PARTS, scene.url("parts"))
        await s3.run(Manifest.upload(place.up / "t", scene.url("t/")))
        yield place
    # The gate is of this process as well: its connections come and go. A leak would be dozens.
    assert len(descriptors()) <= before + 8


async def upload_parts(place: Place) -> None:
    await place.s3.upload(place.up / "parts", place.scene.url("new/parts"))


async def upload_whole(place: Place) -> None:
    await place.s3.upload(place.up / "t" / "0", place.scene.url("new/0"))


async def download_ranges(place: Place) -> None:
    await place.s3.download(place.scene.url("parts"), place.down / "parts")


async def run_up(place: Place) -> None:
    await place.s3.run(Manifest.upload(place.up / "t", place.scene.url("new/")))


async def run_down(place: Place) -> None:
    await place.s3.run(Manifest.download(place.scene.url("t/"), place.down / "t"))


async def iterate(place: Place) -> None:
    manifest = Manifest.download(place.scene.url("t/"), place.down / "t")
    assert len([outcome async for outcome in place.s3.transfer(manifest)]) == len(SMALL)


async def read(place: Place) -> None:
    async with place.s3.open_read(place.scene.url("parts")) as reader:
        assert await reader.read() == PARTS


async def write(place: Place) -> None:
    async with place.s3.open_write(place.scene.url("new/parts")) as writer:
        await writer.write(PARTS[:MiB])
        await writer.write(PARTS[MiB:])


async def copy_parts(place: Place) -> None:
    await place.s3.copy(place.scene.url("parts"), place.scene.url("new/parts"))


async def copy_through(place: Place) -> None:
    await place.s3.copy(place.scene.url("parts"), place.scene.url("new/parts"), through=True)


async def run_copy(place: Place) -> None:
    await place.s3.run(Manifest.copy(place.scene.url("t/"), place.scene.url("new/")))


VERBS: list[Callable[[Place], Awaitable[None]]] = [
    upload_parts, upload_whole, download_ranges, run_up, run_down, iterate, read, write,
    copy_parts, copy_through, run_copy,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
@pytest.mark.parametrize("natively", [True, False], ids=["task", "scope"])
async def test_cancelled_at_every_await(
    place: Place, verb: Callable[[Place], Awaitable[None]], natively: bool
) -> None:
    for number in range(1, MOST):
        reached = await cancelled_at(number, lambda: verb(place), natively=natively)
        place.check("new/")
        if not reached:
            break
    else:
        raise AssertionError(f"{MOST} awaits")
    assert number > 1
    await verb(place)  # the engine is as good as before
    place.check("new/")
