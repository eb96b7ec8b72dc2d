"""Downloads that an earlier process left half-way are gone on with, whatever became of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config import TransferConfig
from engine.errors import AccessDenied, ConnectionFailed, EngineError, NotFound, UsageError
from engine.events import BytesMoved, DownloadKept, StartedOver, TakenUp
from engine.transfer import download
from engine.transfer.folders import enter
from engine.transfer.temporaries import Temporaries
from engine.types import MiB, S3Url
from tests.integration.conftest import Scene
from tests.integration.kept import PART, PARTS, SIZE, Died, Kept

pytestmark = pytest.mark.slow

CONFIG = TransferConfig(part_size=PART, multipart_download_threshold=PART, max_parts_in_flight=1)


@dataclass(kw_only=True)
class Job(Kept):
    """One object."""

    step = "range"

    path: Path
    data: bytes
    config: TransferConfig = CONFIG

    def begin(self) -> None:
        super().begin()
        self.scene.aws.gate.log.clear()

    async def run(self, **journal: Any) -> None:
        async with self.process(**journal) as context:
            result = await download(self.url, self.path, context)
        assert result.size == len(self.data)
        assert sum(event.size for event in self.events(BytesMoved)) == len(self.data)

    def check_done(self, data: bytes | None = None) -> None:
        assert self.path.read_bytes() == (self.data if data is None else data)
        assert os.listdir(self.path.parent) == [self.path.name]
        assert not self.rows.open

    def fetched(self) -> int:
        """Ranges that went out; one that was asked for just before the stop may come late."""
        log = self.scene.log("GetObject")
        return len({entry.headers.get("range") for entry in log if entry.bytes_out})

    def check_only_the_rest(self, least: int) -> None:
        """A range more than was waited for may have come before the stop was felt."""
        (taken,) = self.events(TakenUp)
        assert least <= taken.parts < PARTS and taken.of == PARTS
        assert self.fetched() == PARTS - taken.parts

    @property
    def temporary(self) -> Path:
        assert self.rows.download is not None
        return self.path.parent / self.rows.download.temporary


@pytest.fixture
def job(scene: Scene, tmp_path: Path) -> Job:
    data, url = os.urandom(SIZE), S3Url(scene.bucket, "key")
    scene.aws.gate.put_object(url.bucket, url.key, data)
    folder = tmp_path / "folder"
    folder.mkdir()
    return Job(scene=scene, path=folder / "file", url=url, data=data)


async def test_a_stopped_download_is_kept_and_gone_on_with(job: Job) -> None:
    await job.stop_after(2)
    (kept,) = job.events(DownloadKept)
    assert kept.temporary == str(job.temporary) and job.temporary.stat().st_size == SIZE
    assert os.listdir(job.path.parent) == [job.temporary.name]
    assert job.temporary.name.startswith(".s3engine-run-")
    await job.run()
    job.check_done()
    job.check_only_the_rest(2)


async def test_what_is_on_the_disk_is_read_again(job: Job) -> None:
    await job.stop_after(3)
    with job.temporary.open("r+b") as file:
        file.seek(PART + 9)
        file.write(b"x" if job.data[PART + 9 :][:1] != b"x" else b"y")
    await job.run()
    job.check_done()
    job.check_only_the_rest(2)


def shorter(job: Job) -> None:
    os.truncate(job.temporary, SIZE - 1)


def gone(job: Job) -> None:
    job.temporary.unlink()


def link(job: Job) -> None:
    elsewhere = job.path.parent.parent / "elsewhere"
    job.temporary.rename(elsewhere)
    job.temporary.symlink_to(elsewhere)


def second_name(job: Job) -> None:
    os.link(job.temporary, job.path.parent.parent / "elsewhere")


def folder(job: Job) -> None:
    job.temporary.unlink()
    os.mkfifo(job.temporary)


def another_object(job: Job) -> None:
    job.data = os.urandom(SIZE)
    job.scene.aws.gate.put_object(job.url.bucket, job.url.key, job.data)


def small_object(job: Job) -> None:
    job.data = b"small"
    job.scene.aws.gate.put_object(job.url.bucket, job.url.key, job.data)


def no_checksums(job: Job) -> None:
    job.config = replace(CONFIG, checksum="none")


CHANGES = [shorter, gone, link, second_name, folder, another_object, small_object, no_checksums]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_is_another_by_now_is_started_over(
    job: Job, change: Callable[[Job], None]
) -> None:
    await job.stop_after(2)
    change(job)
    await job.run()
    job.check_done()
    assert len(job.events(StartedOver)) == 1 and not job.events(TakenUp)
    elsewhere = job.path.parent.parent / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_bytes()[: 2 * PART] == job.data[: 2 * PART]


async def test_a_name_that_leads_elsewhere_is_not_touched(job: Job) -> None:
    await job.stop_after(1)
    assert job.rows.download is not None
    other = job.path.parent.parent / ".s3engine-x.part"
    job.temporary.rename(other)
    named = msgspec.structs.replace(job.rows.download, temporary="../.s3engine-x.part")
    job.rows.download = named
    await job.run()
    job.check_done()
    assert other.exists()


async def test_another_part_size_goes_on_with_the_old_one(job: Job) -> None:
    await job.stop_after(2)
    job.config = replace(CONFIG, part_size=6 * MiB, multipart_download_threshold=100 * MiB)
    await job.run()
    job.check_done()
    job.check_only_the_rest(2)


async def test_an_object_that_is_gone_leaves_no_file(job: Job) -> None:
    await job.stop_after(1)
    async with job.process() as context:
        await context.control.delete_objects([job.url])
    with pytest.raises(NotFound):
        await job.run()
    assert os.listdir(job.path.parent) == [] and not job.rows.open


async def test_a_death_just_behind_the_rename(job: Job) -> None:
    def dies(name: str) -> None:
        if name == "ended":
            raise Died

    with pytest.raises((Died, BaseExceptionGroup)):
        await job.run(hook=dies)
    assert job.path.read_bytes() == job.data and job.rows.open
    await job.run()
    job.check_done()
    assert job.fetched() == 0


async def test_a_file_that_was_there_before_is_not_taken_for_ours(job: Job) -> None:
    job.path.write_bytes(bytes(SIZE))
    await job.stop_after(2)
    job.temporary.unlink()
    await job.run()
    job.check_done()
    assert job.fetched() == PARTS and len(job.events(StartedOver)) == 1


async def test_what_a_later_process_can_outlive_is_kept(job: Job) -> None:
    faults = job.scene.aws.gate.faults
    faults.add(kind="drop", action="GetObject", nth=3, times=None)
    with pytest.raises(ConnectionFailed):
        await job.run()
    assert len(job.events(DownloadKept)) == 1 and job.temporary.exists()
    faults.clear()
    await job.run()
    job.check_done()
    assert job.fetched() == 2


async def test_what_nobody_can_mend_is_removed(job: Job) -> None:
    faults = job.scene.aws.gate.faults
    faults.add(
        kind="status", action="GetObject", nth=2, status=403, times=None, code="AccessDenied"
    )
    with pytest.raises(AccessDenied):
        await job.run()
    assert os.listdir(job.path.parent) == [] and not job.rows.open


async def test_a_target_that_cannot_be_written_is_not_open(job: Job) -> None:
    job.path.mkdir()
    with pytest.raises(UsageError):
        await job.run()
    assert not job.rows.open and job.rows.said == ["begun", "ended"]


async def test_no_file_is_made_that_no_journal_has(job: Job) -> None:
    def full(name: str) -> None:
        if name == "begun":
            raise EngineError("disk full")

    with pytest.raises(EngineError, match="disk full"):
        await job.run(hook=full)
    assert os.listdir(job.path.parent) == [] and job.fetched() == 0


def test_a_resumed_run_sweeps_what_earlier_processes_left(tmp_path: Path) -> None:
    first = Temporaries("run", "one")
    folder = enter(tmp_path / "any", None)
    other, stranger = Temporaries("other", "one").new(folder), ".s3engine-0123456789abcdef.part"
    left, kept = first.new(folder), first.new_kept()
    second = Temporaries("run", "two", resumed=True)
    for name in (left, kept, other, stranger):
        (tmp_path / name).touch()
    own = second.new(folder)
    (tmp_path / own).touch()
    assert second.new(folder) != own
    assert set(os.listdir(tmp_path)) == {kept, other, stranger, own}
    folder.leave()
