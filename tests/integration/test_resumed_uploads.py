"""Uploads that an earlier process left half-way are gone on with, whatever became of them since."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from engine import Manifest, ManifestEntry
from engine.config import TransferConfig
from engine.errors import AccessDenied, ConnectionFailed, NotFound, S3Error, SourceChanged
from engine.events import BytesMoved, StartedOver, TakenUp, UploadKept, UploadLeft
from engine.records import UploadIntent
from engine.transfer import FileSource, upload
from engine.types import MiB, S3Url
from tests.integration.conftest import Scene
from tests.integration.kept import ONCE, PART, PARTS, SIZE, Died, Kept, MemoryJournal, Rows

pytestmark = pytest.mark.slow

CONFIG = TransferConfig(part_size=PART, multipart_threshold=PART, max_parts_in_flight=1)


@dataclass(kw_only=True)
class Job(Kept):
    """One file."""

    step = "part"

    path: Path
    config: TransferConfig = CONFIG
    pieces: int = 0

    async def stop_after(self, pieces: int) -> None:
        await super().stop_after(pieces)
        self.pieces = pieces

    async def run(self, **journal: Any) -> None:
        async with self.process(**journal) as context:
            with FileSource(self.path) as source:
                result = await upload(source, self.url, context)
        assert result.size == self.path.stat().st_size
        self.check_moved()

    def check_moved(self) -> None:
        assert sum(event.size for event in self.events(BytesMoved)) == self.path.stat().st_size

    def check_done(self) -> None:
        gate = self.scene.aws.gate
        assert gate.get_object(self.url.bucket, self.url.key) == self.path.read_bytes()
        assert gate.open_uploads(self.url.bucket) == []
        assert not self.rows.open

    def sent(self) -> list[int | None]:
        """The part behind those that were there at the stop may have been on its way then: if it
        was sent again, it counts once."""
        sent = [entry.part_number for entry in self.scene.log("UploadPart") if not entry.failed]
        behind = self.pieces + 1
        if self.pieces and sent[self.pieces :].count(behind) > 1 and sent[self.pieces] == behind:
            del sent[self.pieces]
        return sent


@pytest.fixture
def job(scene: Scene, tmp_path: Path) -> Job:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return Job(scene=scene, path=path, url=S3Url(scene.bucket, "key"))


async def test_a_stopped_upload_is_kept_and_gone_on_with(job: Job) -> None:
    await job.stop_after(2)
    (kept,) = job.events(UploadKept)
    (left,) = job.scene.aws.gate.open_uploads(job.url.bucket)
    assert kept.upload_id == left.upload_id == (job.rows.upload and job.rows.upload.upload_id)
    assert job.scene.log("AbortMultipartUpload") == [] and job.sent() == [1, 2]
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]
    assert job.events(TakenUp) == [TakenUp(job.url, 2, PARTS, 2 * PART)]


async def test_parts_that_no_journal_has_are_summed(job: Job) -> None:
    await job.stop_after(3)
    job.rows.parts.clear()
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]


async def test_a_store_without_sums_of_parts_is_compared_by_md5(job: Job) -> None:
    job.config = replace(CONFIG, checksum="none")
    await job.stop_after(3)
    job.rows.parts.clear()
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]


async def test_a_part_that_is_not_the_sources_is_sent_again(job: Job) -> None:
    """The journal did not hear of it, and its bytes are wrong."""
    await job.stop_after(2)
    assert job.rows.upload is not None
    job.rows.parts.clear()
    async with job.process() as context:
        other = replace_bytes(job.path, 7)
        with FileSource(other) as source:
            await context.data.upload_part(
                job.url, job.rows.upload.upload_id, 1, source, 0, PART, _crc()
            )
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 1, 1, 3, 4]


async def test_a_receipt_that_is_not_of_the_part_is_no_receipt(job: Job) -> None:
    await job.stop_after(2)
    job.rows.parts[1] = job.rows.parts[2]
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]  # its sum was made


async def test_a_changed_source_is_started_over_with_a_word(job: Job) -> None:
    await job.stop_after(2)
    job.path.write_bytes(os.urandom(SIZE))
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 1, 2, 3, 4]
    (event,) = job.events(StartedOver)
    assert "source" in event.reason


@pytest.mark.parametrize("change", [{"checksum": "crc32c"}, {"checksum": "none"}])
async def test_another_checksum_is_started_over(job: Job, change: dict[str, Any]) -> None:
    await job.stop_after(1)
    job.config = replace(CONFIG, **change)
    await job.run()
    job.check_done()
    assert job.sent() == [1, 1, 2, 3, 4] and len(job.events(StartedOver)) == 1


@pytest.mark.parametrize("threshold", [PART, 100 * MiB])
async def test_another_part_size_goes_on_with_the_old_one(job: Job, threshold: int) -> None:
    await job.stop_after(1)
    job.config = replace(CONFIG, part_size=6 * MiB, multipart_threshold=threshold)
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]


async def test_a_death_just_behind_complete(job: Job) -> None:
    def dies(name: str) -> None:
        if name == "ended":
            raise Died

    with pytest.raises((Died, BaseExceptionGroup)):
        await job.run(hook=dies)
    assert job.rows.open
    await job.run()
    assert job.sent() == [1, 2, 3, 4]
    job.rows = Rows()
    job.check_done()


async def test_an_upload_that_is_gone_is_begun_anew(job: Job) -> None:
    await job.stop_after(2)
    assert job.rows.upload is not None
    async with job.process() as context:
        await context.control.abort_multipart_upload(job.url, job.rows.upload.upload_id)
    job.scene.aws.gate.put_object(job.url.bucket, job.url.key, b"another's")
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 1, 2, 3, 4] and len(job.events(StartedOver)) == 1


async def test_an_upload_that_turns_out_to_be_aborted_is_begun_anew(job: Job) -> None:
    """Parts that landed behind an abort are listed."""
    await job.stop_after(2)
    job.scene.aws.gate.faults.add(
        kind="status", action="UploadPart", status=404, code="NoSuchUpload"
    )
    async with job.process() as context:
        with FileSource(job.path) as source:
            await upload(source, job.url, context)
    assert [event.reason for event in job.events(StartedOver)] == ["its upload was aborted"]
    job.check_done()


async def test_the_same_bytes_put_by_somebody_else_are_not_our_upload(job: Job) -> None:
    """Their metadata may be others."""
    await job.stop_after(2)
    assert job.rows.upload is not None
    async with job.process() as context:
        await context.control.abort_multipart_upload(job.url, job.rows.upload.upload_id)
    job.config = replace(CONFIG, multipart_threshold=100 * MiB)
    async with job.process() as context:
        with FileSource(job.path) as source:
            await upload(source, job.url, structs.replace(context, journal=None))
    await job.run()
    assert len(job.events(StartedOver)) == 1


async def test_what_a_later_process_can_outlive_is_kept(job: Job) -> None:
    faults = job.scene.aws.gate.faults
    faults.add(kind="status", action="UploadPart", nth=2, times=None, code="SlowDown")
    with pytest.raises(S3Error, match="SlowDown"):
        await job.run()
    assert len(job.events(UploadKept)) == 1 and job.rows.upload is not None
    faults.clear()
    faults.add(kind="drop", action="CompleteMultipartUpload", times=None)
    with pytest.raises(ConnectionFailed):
        await job.run()
    assert len(job.rows.parts) == PARTS
    faults.clear()
    await job.run()
    job.check_done()
    assert job.sent() == [1, 2, 3, 4]


async def test_what_nobody_can_mend_is_aborted(job: Job) -> None:
    faults = job.scene.aws.gate.faults
    denied: dict[str, Any] = {"status": 403, "code": "AccessDenied", "times": None}
    faults.add(kind="status", action="UploadPart", nth=2, **denied)
    with pytest.raises(AccessDenied):
        await job.run()
    assert not job.rows.open and job.scene.aws.gate.open_uploads(job.url.bucket) == []
    faults.clear()
    faults.add(kind="call", action="UploadPart", nth=3, call=lambda: os.utime(job.path, ns=(1, 1)))
    with pytest.raises(SourceChanged):
        await job.run()
    assert not job.rows.open and job.scene.aws.gate.open_uploads(job.url.bucket) == []


async def test_an_upload_that_cannot_be_begun_is_not_open(job: Job) -> None:
    job.scene.aws.gate.faults.add(
        kind="status", action="CreateMultipartUpload", status=403, code="AccessDenied"
    )
    with pytest.raises(AccessDenied):
        await job.run(intent=UploadIntent(at=datetime.now(UTC), session="other"))
    assert not job.rows.open and job.rows.said == ["creating", "ended"]


async def test_an_upload_whose_id_was_lost_is_found_and_aborted(job: Job) -> None:
    """By the session that began it; one of another session stays."""
    faults, gate = job.scene.aws.gate.faults, job.scene.aws.gate
    faults.add(kind="swallow", action="CreateMultipartUpload", times=2)
    async with job.scene.engine(config=CONFIG, retry=ONCE) as s3:
        intent = UploadIntent(at=datetime.now(UTC), session=s3.run_id)
        journal = MemoryJournal(job.rows, intent)
        with FileSource(job.path) as source, pytest.raises(ConnectionFailed):
            await upload(source, job.url, structs.replace(s3._ready().context, journal=journal))
    assert len(gate.open_uploads(job.url.bucket)) == 2 and job.rows.intents == [intent]
    assert len(job.events(UploadLeft)) == 2
    async with job.process() as context:
        other = await context.control.create_multipart_upload(job.url, _crc())
        near = await context.control.create_multipart_upload(job.url.join("2"), _crc())
    await job.run()
    left = gate.open_uploads(job.url.bucket)
    assert {upload.upload_id for upload in left} == {other, near}
    assert not job.rows.open


async def test_of_two_uploads_that_were_begun_one_goes(job: Job) -> None:
    """The first answer was lost, the second came."""
    job.scene.aws.gate.faults.add(kind="swallow", action="CreateMultipartUpload", times=1)
    await job.run()
    job.check_done()
    assert job.events(UploadLeft) == [] and len(job.scene.log("AbortMultipartUpload")) == 1


async def test_two_tasks_of_one_engine_leave_each_other_alone(job: Job) -> None:
    """The first answer to one of them was lost; both write the same key."""
    gate = job.scene.aws.gate
    gate.faults.add(kind="swallow", action="CreateMultipartUpload", times=1)
    async with job.process() as context, anyio.create_task_group() as tasks:

        async def one() -> None:
            mine = structs.replace(context, journal=MemoryJournal(Rows()))
            with FileSource(job.path) as source:
                await upload(source, job.url, mine)

        tasks.start_soon(one)
        tasks.start_soon(one)
    assert gate.get_object(job.url.bucket, job.url.key) == job.path.read_bytes()
    left = gate.open_uploads(job.url.bucket)
    assert len(left) <= len(job.events(UploadLeft))


@pytest.mark.parametrize("seconds", [0, 40, -10])
async def test_by_time_where_no_session_tells(job: Job, seconds: int) -> None:
    job.scene.role = job.scene.role_with("named")
    user = job.scene.aws.gate.add_user("111122223333", "plain", allow=[("s3:*", "*")])
    async with job.scene.engine(role=None, credentials=user.credentials, config=CONFIG) as s3:
        control = s3._ready().context.control
        empty = await control.create_multipart_upload(job.url, _crc())
        busy = await control.create_multipart_upload(job.url, _crc())
        with FileSource(job.path) as source:
            await s3._ready().context.data.upload_part(job.url, busy, 1, source, 0, PART, _crc())
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    job.rows.intents.append(UploadIntent(at=at, session="dead"))
    await job.run()
    left = {found.upload_id for found in job.scene.aws.gate.open_uploads(job.url.bucket)}
    assert left == ({busy} if seconds == 0 else {busy, empty})


@pytest.mark.parametrize(("off", "own_clock"), [(300, True), (-300, True), (300, False)])
async def test_by_the_stores_clock_where_ours_is_minutes_off(
    job: Job, off: int, own_clock: bool
) -> None:
    """S3 does not mind 5 minutes. The intent is by our clock, where no server was heard before."""
    job.scene.aws.gate.clock_offset = off
    user = job.scene.aws.gate.add_user("111122223333", "plain", allow=[("s3:*", "*")])
    async with job.scene.engine(role=None, credentials=user.credentials, config=CONFIG) as s3:
        control = s3._ready().context.control
        empty = await control.create_multipart_upload(job.url, _crc())
        assert empty in {one.upload_id for one in job.scene.aws.gate.open_uploads(job.url.bucket)}
    intent = UploadIntent(at=datetime.now(UTC), session="dead", own_clock=own_clock)
    job.rows.intents.append(intent)
    await job.run()
    left = {found.upload_id for found in job.scene.aws.gate.open_uploads(job.url.bucket)}
    assert left == (set() if own_clock else {empty})


async def test_by_the_time_of_the_try_that_began_it_where_the_machine_had_slept(
    job: Job, tmp_path: Path
) -> None:
    """An hour: the first try is refused, the second one's answer is lost."""
    gate = job.scene.aws.gate
    manifest = Manifest(entries=[ManifestEntry("upload", job.path, job.url)])
    user = gate.add_user("111122223333", "plain", allow=[("s3:*", "*")])
    settings: dict[str, Any] = {"role": None, "credentials": user.credentials, "config": CONFIG}
    async with job.scene.engine(**settings, retry=ONCE) as s3:
        assert [found async for found in s3.list(job.scene.url(""))] == []  # what time it is there
        gate.clock_offset = 3600
        gate.faults.add(kind="swallow", action="CreateMultipartUpload")
        report = await s3.run(manifest, journal=tmp_path / "run.journal")
        assert isinstance(report.failed[0].error, ConnectionFailed)
    assert len(gate.open_uploads(job.url.bucket)) == 1
    async with job.scene.engine(**settings) as s3:
        assert not (await s3.run(manifest, journal=tmp_path / "run.journal")).failed
    assert gate.open_uploads(job.url.bucket) == []


async def test_what_another_run_has_stays(job: Job) -> None:
    """Both began one in the same second, at a store that tells no session."""
    user = job.scene.aws.gate.add_user("111122223333", "plain", allow=[("s3:*", "*")])
    async with job.scene.engine(role=None, credentials=user.credentials, config=CONFIG) as s3:
        control = s3._ready().context.control
        ours = await control.create_multipart_upload(job.url, _crc())
        theirs = await control.create_multipart_upload(job.url, _crc())
    job.rows.intents.append(UploadIntent(at=datetime.now(UTC), session="dead"))
    job.rows.theirs = frozenset({theirs})
    await job.run()
    left = {found.upload_id for found in job.scene.aws.gate.open_uploads(job.url.bucket)}
    assert left == {theirs} and ours != theirs


async def test_a_role_that_may_not_look_starts_over(job: Job) -> None:
    await job.stop_after(2)
    job.scene.role = job.scene.role_with(
        allow=[(f"s3:{verb}", "*") for verb in ("PutObject", "AbortMultipartUpload")]
    )
    job.rows.intents.append(UploadIntent(at=datetime.now(UTC), session="dead"))
    await job.run()
    assert job.sent() == [1, 2, 1, 2, 3, 4] and len(job.events(StartedOver)) == 1
    (left,) = job.events(UploadLeft)
    assert left.url == job.url and not left.upload_id and "denied" in left.reason.lower()
    job.check_done()


async def test_what_became_of_an_upload_is_not_said_where_it_may_not_be_looked_at(job: Job) -> None:
    await job.stop_after(2)
    assert job.rows.upload is not None
    async with job.process() as context:
        await context.control.abort_multipart_upload(job.url, job.rows.upload.upload_id)
    verbs = ("PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")
    job.scene.role = job.scene.role_with(allow=[(f"s3:{verb}", "*") for verb in verbs])
    await job.run()
    job.check_done()
    (event,) = job.events(StartedOver)
    assert "s3:GetObject" in event.reason


async def test_no_part_is_sent_for_an_upload_that_no_journal_has(job: Job) -> None:
    def full(name: str) -> None:
        if name == "begun":
            raise NotFound("disk full", s3_code="x", status=0)

    with pytest.raises(NotFound):
        await job.run(hook=full)
    assert job.sent() == [] and job.scene.aws.gate.open_uploads(job.url.bucket) == []


def replace_bytes(path: Path, at: int) -> Path:
    other = path.with_name("other")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    other.write_bytes(data)
    return other


def _crc() -> Any:
    from engine.transfer.checksums.crc64nvme import Crc64Nvme

    return Crc64Nvme()
