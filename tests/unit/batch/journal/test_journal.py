"""The life of a journal: when there is a file, what another process finds in it, how it ends."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from engine.batch.journal import Journal, list_runs
from engine.batch.journal.lock import holder_of
from engine.batch.journal.runs import lock_of
from engine.clock import LoopClock
from engine.errors import JournalError
from engine.records import KeptRange
from engine.testing.clock import run_virtual
from engine.types import OpenUpload, S3Url, UploadId
from tests.unit.batch.journal.kit import (
    SIZE,
    contents,
    download_record,
    entry,
    files,
    journal,
    part,
    result,
    upload_record,
    version,
)


async def test_what_ends_before_there_is_something_to_keep_leaves_no_file(tmp_path: Path) -> None:
    async with journal(tmp_path) as kept:
        assert files(tmp_path) == ["lock"]
        for number in range(900):
            each = entry(tmp_path, number % 3)
            await kept.done(each, result(each), version(each))
        assert not kept.kept and kept.statistics().waiting == 900
        kept.finish()
    with pytest.raises(ValueError):
        async with journal(tmp_path) as kept:
            kept.planned(3, 60)
            await kept.done(entry(tmp_path, 1), result(entry(tmp_path, 1)), "v")
            raise ValueError
    assert files(tmp_path) == []


async def test_an_object_that_turns_out_to_be_small_leaves_no_file(tmp_path: Path) -> None:
    """Whoever does not know its size asks for a place to keep what is under way."""
    async with journal(tmp_path) as kept:
        each = entry(tmp_path, 1, "download")
        await kept.object(each)
        await kept.done(each, result(each))
        kept.finish()
    assert files(tmp_path) == []


async def test_what_the_journals_of_other_runs_have_is_known(tmp_path: Path) -> None:
    """With an id, or just asked for at a store that tells no session."""
    one, two = entry(tmp_path, 1), entry(tmp_path, 2)
    async with journal(tmp_path, "one") as first, journal(tmp_path, "two") as second:
        mine = await second.object(one)
        await mine.upload_creating()
        named = await first.object(one)
        await named.upload_creating()
        await named.upload_begun(upload_record("named"))
        await (await first.object(two)).upload_creating()
        uploads = [
            OpenUpload(one.url, UploadId("named")),
            OpenUpload(one.url, UploadId("mine"), datetime.now(UTC)),
            OpenUpload(two.url, UploadId("asked"), datetime.now(UTC)),
            OpenUpload(two.url, UploadId("old"), datetime.now(UTC) - timedelta(hours=1)),
        ]
        assert await mine.of_others(uploads) == {"named", "asked"}
        assert await mine.of_others([]) == frozenset()


@pytest.mark.parametrize("heard", [False, True])
async def test_whose_clock_an_intent_is_by_is_kept(tmp_path: Path, heard: bool) -> None:
    clock, ahead = LoopClock(), timedelta(minutes=7)
    if heard:
        clock.heard(datetime.now(UTC) + ahead)
    async with journal(tmp_path, clock=clock) as kept:
        await (await kept.object(entry(tmp_path, 1))).upload_creating()
        assert kept.path is not None
        (found,) = contents(kept.path)[0].values()
    (intent,) = found.intents.values()
    assert intent.own_clock is not heard
    off = intent.at - datetime.now(UTC) - (ahead if heard else timedelta())
    assert abs(off.total_seconds()) < 5
    later = LoopClock()
    later.heard(datetime.now(UTC) + ahead)
    assert abs((later.as_servers(intent.at) - intent.at - ahead).total_seconds()) < 5


async def test_a_process_that_died_before_there_was_a_file_is_followed(tmp_path: Path) -> None:
    """Its temporary files have the id of its run in their names."""
    async with journal(tmp_path, session="first1") as first:
        assert not first.follows
        first.abandon()
    for session in ("second2", "third3"):
        async with journal(tmp_path, session=session) as stopped:
            assert stopped.follows and not stopped.resumed
            assert (stopped.run_id, stopped.session) == ("first1", session)
        assert files(tmp_path) == ["lock"]  # which goes on naming it
    async with journal(tmp_path) as last:
        assert last.follows
        for number in range(1000):
            each = entry(tmp_path, number % 3)
            await last.done(each, result(each), version(each))
        assert last.path is not None and last.path.name.startswith("first1-")
        last.finish()
    assert files(tmp_path) == ["done"]
    async with journal(tmp_path, session="another") as another:
        assert not another.follows and another.run_id == "another"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 65])
async def test_a_lock_that_names_no_run_is_not_followed(tmp_path: Path, name: str) -> None:
    async with journal(tmp_path, session="first1") as first:
        first.abandon()
    (lock,) = (tmp_path / "runs").glob("*.lock")
    lock.write_text(lock.read_text().replace("first1", name))
    async with journal(tmp_path, session="second2") as second:
        assert not second.follows and second.run_id == "second2"


async def test_a_run_that_ended_well_and_left_its_lock_is_not_followed(tmp_path: Path) -> None:
    each = entry(tmp_path, 1, "download")
    for path in (None, tmp_path / "own.journal"):
        async with journal(tmp_path, path=path, session="first1") as first:
            await (await first.object(each)).download_begun(download_record())
            assert first.path is not None
            lock = lock_of(first.path)
            left = lock.read_bytes()
            await first.done(each, result(each), "v")
            first.finish()
        lock.write_bytes(left)
        async with journal(tmp_path, path=path, session="second2") as second:
            assert not second.follows and second.run_id == "second2"


async def test_a_thousand_objects_are_worth_a_file(tmp_path: Path) -> None:
    async with journal(tmp_path) as kept:
        for number in range(1100):
            each = entry(tmp_path, number % 5)
            await kept.done(each, result(each), version(each))
        assert kept.kept
        assert kept.statistics().rows >= 1000 and kept.statistics().durable == 0


def test_a_second_of_work_is_worth_a_file_and_late_rows_are_written(tmp_path: Path) -> None:
    async def work() -> None:
        async with journal(tmp_path) as kept:
            each = entry(tmp_path, 1)
            await kept.done(each, result(each), version(each))
            await anyio.sleep(0.9)
            assert (kept.statistics().waiting, files(tmp_path)) == (1, ["lock"])
            await anyio.sleep(0.2)
            assert (kept.statistics().waiting, kept.kept) == (0, True)
            for number in range(2, 5):
                each = entry(tmp_path, number)
                await kept.done(each, result(each), version(each))
            assert kept.statistics().waiting == 3
            await anyio.sleep(0.3)
            assert kept.statistics().waiting == 0
            assert kept.statistics().commits == 2

    run_virtual(work)


def test_a_heartbeat_says_every_five_seconds_how_far_it_is(tmp_path: Path) -> None:
    async def work() -> None:
        async with journal(tmp_path) as kept:
            (lock,) = (tmp_path / "runs").glob("*.lock")
            began = kept.clock.now()
            kept.planned(7, None)
            each = entry(tmp_path, 1)
            await kept.done(each, result(each), version(each))
            for seconds, beats in ((4.9, 0), (0.2, 5), (5.0, 10)):
                await anyio.sleep(seconds)
                beat = holder_of(lock, kept.clock.now())
                assert beat is not None and (beat.run, beat.pid) == (kept.run_id, os.getpid())
                assert round((beat.at - began).total_seconds()) == beats
            assert beat is not None and (beat.objects, beat.planned) == (1, 7)

    run_virtual(work)


async def test_a_run_that_is_cancelled_keeps_what_it_has_done(tmp_path: Path) -> None:
    each = entry(tmp_path, 1)
    with anyio.CancelScope() as scope:
        async with journal(tmp_path) as first:
            await (await first.object(entry(tmp_path, 2))).upload_creating()
            await first.done(each, result(each), version(each))
            assert first.statistics().waiting == 1
            scope.cancel()
            await anyio.sleep(1)
    (info,) = list_runs(tmp_path / "runs", LoopClock().now())
    assert info.state == "stopped" and info.run and info.run.ended_at and info.run.error == ""
    async with journal(tmp_path) as second:
        assert await second.known([each]) == [(SIZE, '"etag"')]
        assert second.before is not None and second.before.last is not None
        assert second.before.last.outcome == "stopped"


async def test_another_process_finds_what_was_under_way(tmp_path: Path) -> None:
    up, down = entry(tmp_path, 1), entry(tmp_path, 2, "download")
    async with journal(tmp_path) as first:
        first_id = first.run_id
        upload = await first.object(up)
        assert (upload.upload, upload.parts, upload.intents) == (None, {}, ())
        await upload.upload_creating()
        await upload.upload_begun(upload_record())
        for number in (1, 2, 7):
            await upload.part_done(part(number))
        download = await first.object(down)
        await download.download_begun(download_record())
        await download.range_done(KeptRange(5, 10, 2**64 - 1))
        assert first.statistics().durable == 3 and not first.resumed
        first.abandon()
    async with journal(tmp_path, session="another") as second:
        assert second.run_id == first_id and second.session == "another"
        upload, download = await second.object(up), await second.object(down)
        assert upload.upload == upload_record()
        assert upload.parts == {number: part(number) for number in (1, 2, 7)}
        assert upload.intents == ()
        assert download.download == download_record()
        assert download.ranges == [KeptRange(5, 10, 2**64 - 1)]
        assert second.before is not None and second.before.half_way == 2
        assert second.before.last is not None
        assert (second.before.last.pid, second.before.last.ended_at) == (os.getpid(), None)
        assert second.before.seen_at is not None
        await upload.part_done(part(3))  # of the upload that is gone on with
        await download.ended()
        await second.done(down, result(down))
    async with journal(tmp_path) as third:
        upload = await third.object(up)
        assert sorted(upload.parts) == [1, 2, 3, 7]
        assert (await third.object(down)).download is None
        assert await third.known([up, down]) == [None, (SIZE, '"etag"')]
        assert third.before is not None and third.before.sessions == 2


async def test_an_upload_without_an_id_is_remembered(tmp_path: Path) -> None:
    each, clock = entry(tmp_path, 1), LoopClock()
    async with journal(tmp_path, session="first1", clock=clock) as first:
        before = clock.now()
        await (await first.object(each)).upload_creating()
        first.abandon()
    async with journal(tmp_path) as second:
        kept = await second.object(each)
        assert kept.upload is None
        (intent,) = kept.intents
        assert intent.session == "first1" and before <= intent.at <= clock.now()
        await kept.ended()
        await kept.upload_creating()
        await kept.upload_begun(upload_record("new"))
        second.abandon()
    async with journal(tmp_path) as third:
        kept = await third.object(each)
        # The first process's request may be on its way still.
        assert kept.upload == upload_record("new") and kept.intents == (intent,)


def test_an_upload_that_may_come_late_is_looked_for_again(tmp_path: Path) -> None:
    """The request of a process that died may arrive when the next one has looked, and is done."""
    up, other = entry(tmp_path, 1), entry(tmp_path, 2)

    async def work() -> None:
        clock = LoopClock()
        async with journal(tmp_path, session="first1", clock=clock) as first:
            await (await first.object(up)).upload_creating()
            first.abandon()
        async with journal(tmp_path, clock=clock) as second:
            (intent,) = (await second.object(up)).intents
            await anyio.sleep(60)  # behind the look; when that was made it was too early
            await second.done(up, result(up), version(up))
            assert [url for url, _ in second.may_come()] == [up.url]
            second.finish(1)
        async with journal(tmp_path, clock=clock) as third:
            assert await third.known([up]) == [(SIZE, '"etag"')]
            ((url, kept),) = third.may_come()
            assert (url, kept.intents) == (up.url, (intent,)) and third.may_come() == []
            await kept.ended()
            await (await third.object(other)).upload_creating()
            third.finish(1)
        async with journal(tmp_path, clock=clock) as last:
            assert not last.has_left(up) and last.has_left(other)

    run_virtual(work)


async def test_what_changed_since_is_not_done(tmp_path: Path) -> None:
    ups = [entry(tmp_path, number) for number in range(3)]
    downs = [entry(tmp_path, number, "download") for number in range(3, 7)]
    copied = entry(tmp_path, 7, "copy")
    async with journal(tmp_path) as first:
        for each in (*ups, *downs):
            await (await first.object(each)).upload_creating()
            await first.done(each, result(each), version(each) if each in ups else "")
        await first.done(copied, result(copied))
        # Each that was under way at once, with what says that it no longer is.
        assert first.statistics().commits == 14 and first.statistics().waiting == 1
    ups[0].path.write_bytes(b"y" * SIZE)
    ups[1].path.unlink()
    downs[0].path.unlink()
    downs[1].path.unlink()
    downs[1].path.write_bytes(b"x" * SIZE)
    other = type(downs[2])("download", downs[2].path, downs[2].url, SIZE, '"other"')
    moved = type(ups[2])("upload", ups[2].path, S3Url("bucket", "elsewhere"), SIZE)
    asked = [*ups, *downs[:2], other, downs[3], moved, copied]
    async with journal(tmp_path) as second:
        known = await second.known(asked)
    still = {ups[2].url, downs[3].url, copied.url}
    assert {e.url for e, k in zip(asked, known, strict=True) if k} == still


async def test_many_are_looked_up_at_once(tmp_path: Path) -> None:
    ones = [entry(tmp_path, 0)] + [
        type(entry(tmp_path, 0))("upload", tmp_path / "file-0", S3Url("bucket", f"ké{n}"), SIZE)
        for n in range(1200)
    ]
    async with journal(tmp_path) as first:
        for each in ones[::2]:
            await first.done(each, result(each), version(each))
        await (await first.object(ones[1])).upload_creating()
    async with journal(tmp_path) as second:
        known = await second.known(ones)
    assert [bool(each) for each in known] == [n % 2 == 0 for n in range(1201)]


async def test_a_run_that_ended_well_leaves_a_summary(tmp_path: Path) -> None:
    async with journal(tmp_path, command=["cp", "a", "s3://b/c"]) as kept:
        await (await kept.object(entry(tmp_path, 0))).upload_creating()
        for number in range(3):
            each = entry(tmp_path, number)
            await kept.done(each, result(each), version(each))
        kept.planned(3, 60)
        kept.finish()
    assert files(tmp_path) == ["done"]
    (info,) = list_runs(tmp_path / "runs", LoopClock().now())
    assert info.state == "done" and info.run is not None and info.left == 0
    assert (info.run.objects, info.run.bytes, info.run.command[0]) == (3, 60, "cp")
    assert info.path.stat().st_size <= 40_960
    async with journal(tmp_path) as again:
        assert not again.resumed
        await (await again.object(entry(tmp_path, 1))).upload_creating()
    assert files(tmp_path) == ["done", "journal"]


async def test_a_run_with_failures_can_be_gone_on_with(tmp_path: Path) -> None:
    each = entry(tmp_path, 1)
    async with journal(tmp_path) as first:
        await (await first.object(each)).upload_creating()
        await first.done(each, result(each), version(each))
        first.planned(5, None)
        first.finish(failed=4)
    (info,) = list_runs(tmp_path / "runs", LoopClock().now())
    assert info.state == "failed" and info.left == 4 and info.run and info.run.failed == 4
    async with journal(tmp_path) as second:
        assert await second.known([each]) == [(SIZE, '"etag"')]
        second.finish()
    assert files(tmp_path) == ["done"]


async def test_a_file_of_one_s_own_choice(tmp_path: Path) -> None:
    path, each = tmp_path / "dump.journal", entry(tmp_path, 1)

    def own(identity: str) -> Journal:
        return Journal.open(path, identity=identity)

    for _ in range(2):  # a summary makes room for the next run
        async with own("a") as kept:
            assert not kept.resumed
            await (await kept.object(each)).upload_creating()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with own("a") as kept:
            assert kept.resumed
            with pytest.raises(JournalError, match="locked|worked on"):
                async with own("a"):
                    pass
            kept.finish()
    async with own("a") as kept:
        await (await kept.object(each)).upload_creating()
    with pytest.raises(JournalError, match="of another run"):
        async with own("b"):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dump.journal", "file-1"]


async def test_a_folder_that_cannot_be_is_an_error_by_name(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(JournalError, match="cannot keep a journal"):
        async with journal(tmp_path):
            pass
    with pytest.raises(JournalError, match="cannot keep a journal"):
        async with Journal.open(tmp_path / "no" / "such" / "folder", identity="a"):
            pass


async def test_what_must_be_on_disk_fails_the_object_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    each = entry(tmp_path, 1)
    async with journal(tmp_path) as kept:
        upload = await kept.object(each)
        await upload.upload_creating()
        await upload.upload_begun(upload_record())
        assert kept.path is not None
        opened = kept._opened
        assert opened is not None and opened.store is not None
        store = opened.store
        # SQLite's own limit: the same error as a disk that is full.
        store.read(f"PRAGMA max_page_count = {store.read('PRAGMA page_count')[0][0]}")
        for number in range(1, 400):
            await upload.part_done(part(number))
        assert kept.statistics().lost > 0
        assert kept.trouble is not None and "full" in str(kept.trouble)
        with pytest.raises(JournalError, match="full") as caught:
            for number in range(100):
                other = await kept.object(entry(tmp_path, number))
                await other.download_begun(download_record("x" * 500))
        assert caught.value.exit_code == 2 and "Free some space" in caught.value.fix
    assert files(tmp_path) == ["journal"]


async def test_the_folder_and_its_files_are_one_s_own(tmp_path: Path) -> None:
    async with journal(tmp_path) as kept:
        await (await kept.object(entry(tmp_path, 1))).upload_creating()
        for path in (tmp_path / "runs").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
        assert "kept" in repr(kept) and "done=0" in repr(kept)
