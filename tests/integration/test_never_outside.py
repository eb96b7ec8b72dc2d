"""Files stay in the folder that they were asked to go into, whatever is put in their way."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine import Manifest
from tests.integration.conftest import Scene
from tests.integration.test_trees import read_tree

FOLDERS = 4


@contextmanager
def swapping(root: Path, outside: Path) -> Iterator[list[int]]:
    """Somebody who puts links to ``outside`` in the place of folders, and the folders back."""
    over, swaps = threading.Event(), [0]

    def swap() -> None:
        while not over.is_set():
            for number in range(FOLDERS):
                folder, aside = root / f"d{number}", root / f"aside{number}"
                link = root / f"link{number}"
                with suppress(OSError):
                    folder.rename(aside)
                    link.symlink_to(outside)
                    link.rename(folder)
                    swaps[0] += 1
                    over.wait(0.002)
                    folder.unlink()
                with suppress(OSError):
                    aside.rename(folder)
                over.wait(0.002)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("objects", [500, pytest.param(5_000, marks=pytest.mark.prove)])
async def test_no_race_with_a_link_leads_outside(
    scene: Scene, tmp_path: Path, objects: int
) -> None:
    """Small files in groups, some big ones by their temporary file."""
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    contents = {}
    for number in range(objects):
        size = 200 * 1024 if number % 50 == 0 else 100
        key = f"d{number % FOLDERS}/{number:04}"
        contents[key] = os.urandom(size)
        scene.aws.gate.put_object(scene.bucket, f"t/{key}", contents[key])
    async with scene.engine() as s3:
        with swapping(target, outside) as swaps:
            report = await s3.run(Manifest.download(scene.url("t/"), target))
        assert swaps[0] > 10
        assert list(outside.iterdir()) == []
        assert report.objects + len(report.failed) == objects
        words = {str(failure.error.code) for failure in report.failed}
        assert words <= {"T100", "T132"}, words
        whole = {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}
        assert all(whole[name] == contents[f"d{int(name) % FOLDERS}/{name}"] for name in whole)
        assert not list(target.rglob(".s3engine-*"))
        for left in (*target.glob("aside*"), *target.glob("link*")):
            left.unlink() if left.is_symlink() else shutil.rmtree(left)
        report = await s3.run(Manifest.download(scene.url("t/"), target))
        assert (report.objects, report.failed) == (objects, [])
    assert read_tree(target) == contents


async def test_one_object_may_go_through_links_that_the_user_has(
    scene: Scene, tmp_path: Path
) -> None:
    scene.aws.gate.put_object(scene.bucket, "k", b"bytes")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with scene.engine() as s3:
        await s3.download(scene.url("k"), tmp_path / "link" / "new" / "file")
        report = await s3.run(Manifest.download(scene.url(""), tmp_path / "link"))
    assert report.failed == []
    assert (tmp_path / "real" / "new" / "file").read_bytes() == b"bytes"
    assert (tmp_path / "real" / "k").read_bytes() == b"bytes"


async def test_what_failed_is_held_to_its_folder_when_it_is_run_again(
    scene: Scene, tmp_path: Path
) -> None:
    scene.aws.gate.put_object(scene.bucket, "t/d/k", b"bytes")
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    scene.aws.gate.faults.add(
        kind="status", action="GetObject", key="t/d/k", status=400, code="InvalidRequest"
    )
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), target))
        assert len(report.failed) == 1
        report.failures().write(tmp_path / "again")
        shutil.rmtree(target / "d", ignore_errors=True)
        target.mkdir(exist_ok=True)
        (target / "d").symlink_to(outside)
        report = await s3.run(Manifest.read(tmp_path / "again"))
        assert [failure.error.code for failure in report.failed] == ["T132"]
        assert list(outside.iterdir()) == []
        (target / "d").unlink()
        report = await s3.run(Manifest.read(tmp_path / "again"))
    assert report.failed == [] and read_tree(target) == {"d/k": b"bytes"}
