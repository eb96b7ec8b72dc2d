"""A manifest with a journal: what an earlier process did is not done again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import Manifest, Report, RetryPolicy, TransferConfig
from engine.errors import AccessDenied, JournalError, ObjectExists
from engine.events import BytesMoved, Event, ObjectDone, ObjectKnown, TakenUp
from engine.options import PLAIN, ObjectOptions
from engine.types import MiB
from tests.integration.conftest import Scene

pytestmark = pytest.mark.slow

PART = 5 * MiB
CONFIG = TransferConfig(
    part_size=PART,
    multipart_threshold=PART,
    multipart_download_threshold=PART,
    max_parts_in_flight=1,
    max_concurrency=2,
)
SMALL = 30
BIG = 3 * PART + 1


@dataclass
class Tree:
    """A folder of small files and a big one, and what is left of it by each process."""

    scene: Scene
    folder: Path
    journal: Path
    events: list[Event] = field(default_factory=list)
    at_event: Callable[[], None] = lambda: None
    options: ObjectOptions = PLAIN

    def manifest(self) -> Manifest:
        return Manifest.upload(self.folder, self.scene.url("t/"))

    async def run(self, manifest: Manifest | None = None, **more: Any) -> Report:
        self.events.clear()
        self.scene.aws.gate.log.clear()
        retry = RetryPolicy(max_attempts=2, base_delay=0.01, max_delay=0.02)
        async with self.scene.engine(config=CONFIG, retry=retry, hook=self.tell, **more) as s3:
            work = manifest or self.manifest()
            return await s3.run(work, journal=self.journal, options=self.options)

    async def stop_half_way(self, manifest: Manifest | None = None) -> None:
        """A process that is stopped when some small files are done and two parts of the big."""
        with anyio.CancelScope() as scope:

            def stop() -> None:
                moved = [e.size for e in self.events if isinstance(e, BytesMoved)]
                # Not "moved": of five that were, some would have no name yet.
                if self.count(ObjectDone) >= 5 and moved.count(PART) >= 2:
                    scope.cancel()

            self.at_event = stop
            try:
                await self.run(manifest)
            finally:
                self.at_event = lambda: None
        assert scope.cancelled_caught

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self.at_event()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def sent(self) -> int:
        log = self.scene.aws.gate.log
        return len(log.where(action="PutObject")) + len(log.where(action="UploadPart"))


@pytest.fixture
def tree(scene: Scene, tmp_path: Path) -> Tree:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for number in range(SMALL):
        (folder / "sub" / f"{number:03}").write_bytes(os.urandom(1000))
    (folder / "big").write_bytes(os.urandom(BIG))
    return Tree(scene, folder, tmp_path / "run.journal")


async def test_a_run_goes_on_where_it_was_stopped(tree: Tree) -> None:
    await tree.stop_half_way()
    done = tree.count(ObjectDone)
    report = await tree.run()
    assert (report.objects, report.failed) == (SMALL + 1, [])
    assert report.resumed == tree.count(ObjectKnown) >= done - 1
    assert tree.count(ObjectDone) == SMALL + 1 - report.resumed
    assert tree.count(TakenUp) == 1 and tree.sent() <= 3 + SMALL + 1 - report.resumed
    assert report.bytes == SMALL * 1000 + BIG
    for path in tree.folder.rglob("*[0-9g]"):
        key = f"t/{path.relative_to(tree.folder)}"
        assert (
            path.is_dir()
            or tree.scene.aws.gate.get_object(tree.scene.bucket, key) == path.read_bytes()
        )
    assert tree.scene.aws.gate.open_uploads(tree.scene.bucket) == []


async def test_a_run_that_is_done_begins_anew(tree: Tree) -> None:
    await tree.run()
    report = await tree.run()
    assert report.resumed == 0 and report.objects == SMALL + 1


async def test_what_has_changed_since_is_done_again(tree: Tree) -> None:
    """Of what was done: a file with other bytes, and one that is new."""
    await tree.stop_half_way()
    before = {str(e.path) for e in tree.events if isinstance(e, ObjectDone)}
    changed = tree.folder / "sub" / "000"
    assert str(changed) in before
    changed.write_bytes(b"other bytes")
    (tree.folder / "sub" / "new").write_bytes(b"new")
    report = await tree.run()
    assert report.objects == SMALL + 2 and not report.failed
    get = tree.scene.aws.gate.get_object
    assert get(tree.scene.bucket, "t/sub/000") == b"other bytes"
    assert get(tree.scene.bucket, "t/sub/new") == b"new"


async def test_a_failure_is_tried_again_and_nothing_else(tree: Tree) -> None:
    tree.scene.aws.gate.faults.add(
        kind="status", action="PutObject", key="t/sub/007", status=403, code="AccessDenied", times=2
    )
    report = await tree.run()
    assert [type(failure.error) for failure in report.failed] == [AccessDenied]
    tree.scene.aws.gate.faults.clear()
    report = await tree.run()
    assert (report.resumed, report.failed) == (SMALL, []) and tree.sent() == 1


async def test_downloads_go_on_and_leave_no_file(tree: Tree, tmp_path: Path) -> None:
    await tree.run()
    tree.journal = tmp_path / "down.journal"
    back, names = tmp_path / "back", tmp_path / "back" / "sub"
    down = Manifest.download(tree.scene.url("t/"), back)
    await tree.stop_half_way(down)
    for left in (".s3engine-x-y-0.part", _of_dead_process(tree)):
        (names / left).write_bytes(b"half of it")
    done = next(e for e in tree.events if isinstance(e, ObjectDone) and e.size == 1000)
    Path(done.path).unlink()
    report = await tree.run(down)
    assert report.objects == SMALL + 1 and 0 < report.resumed < SMALL
    assert Path(done.path).read_bytes()
    for path in tree.folder.rglob("*"):
        other = back / path.relative_to(tree.folder)
        assert path.is_dir() or path.read_bytes() == other.read_bytes()
    assert {name for name in os.listdir(names) if ".part" in name} == {".s3engine-x-y-0.part"}
    assert set(os.listdir(back)) == {"sub", "big"}


@pytest.mark.parametrize(
    "option",
    [PLAIN, ObjectOptions(if_none_match=True), ObjectOptions(preserve_mtime=True)],
    ids=["plain", "new", "mtime"],
)
async def test_files_that_have_their_names_are_not_fetched_again(
    tree: Tree, tmp_path: Path, option: ObjectOptions
) -> None:
    """A process that died behind the rename and before its journal said so: its rows are gone. Of
    the files one is another by now, one has a second name, one is of an object that has changed;
    and of no file is it known which time it was to have."""
    await tree.run()
    tree.journal = tmp_path / "down.journal"
    back = tmp_path / "back"
    down = Manifest.download(tree.scene.url("t/"), back)
    tree.options = option
    await tree.stop_half_way(down)
    there = sorted(path for path in (back / "sub").iterdir() if path.name.isdigit())
    other, twice, changed, *same = there
    assert len(same) >= 2
    other.write_bytes(bytes(1000))
    os.link(twice, tmp_path / "elsewhere")
    tree.scene.aws.gate.put_object(tree.scene.bucket, f"t/sub/{changed.name}", b"c" * 1000)
    with closing(sqlite3.connect(tree.journal)) as journal, journal:
        journal.execute("DELETE FROM done")
    report = await tree.run(down)
    if option.preserve_mtime:
        assert (report.resumed, report.objects, report.failed) == (0, SMALL + 1, [])
        return
    fetched = {entry.key for entry in tree.scene.log("GetObject")}
    assert not fetched & {f"t/sub/{path.name}" for path in same}
    assert report.resumed == len(same) == tree.count(ObjectKnown)
    if option.if_none_match:
        assert [type(failure.error) for failure in report.failed] == [ObjectExists] * 3
        return
    assert (report.objects, report.failed) == (SMALL + 1, [])
    assert changed.read_bytes() == b"c" * 1000 and twice.stat().st_nlink == 1
    for path in (other, twice, *same):
        assert path.read_bytes() == (tree.folder / "sub" / path.name).read_bytes()


def _of_dead_process(tree: Tree) -> str:
    """A small file that was being written when its process died."""
    (kept,) = [name for name in os.listdir(tree.journal.parent / "back") if ".part" in name]
    run = kept.split("-")[1]
    return f".s3engine-{run}-dead-0.part"


async def test_a_journal_of_another_work_is_refused(tree: Tree) -> None:
    await tree.stop_half_way()
    with pytest.raises(JournalError, match="another run"):
        await tree.run(Manifest.upload(tree.folder, tree.scene.url("other/")))


async def test_without_a_journal_nothing_stays(tree: Tree) -> None:
    journal, tree.journal = tree.journal, None  # type: ignore[assignment]
    await tree.stop_half_way()
    assert tree.scene.aws.gate.open_uploads(tree.scene.bucket) == [] and not journal.exists()
