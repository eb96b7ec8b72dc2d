"""Trees with odd names, both ways."""

from __future__ import annotations

import os
from pathlib import Path

from engine import Manifest, UsageError
from engine.batch import ManifestEntry
from engine.types import S3Url
from tests.integration.conftest import Scene

ODD_NAMES = [
    "plain",
    "with space",
    "ünïcödé-日本語-🎈",
    "a+b",
    "a%20b",
    "100%",
    "#hash",
    "q?x=1&y=2",
    "-leading-dash",
    "--",
    "two..dots",
    "..leading",
    "trailing..",
    "'quote'\"",
    "a;b,c=d@e:f",
    "back\\slash",
    "tab\tname",
    "~tilde*star[x]",
    "empty",
    "deep/er/and deeper/ß",
]


def make_tree(folder: Path, names: list[str]) -> dict[str, bytes]:
    contents = {}
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents[name] = b"" if name == "empty" else os.urandom(100 + number)
        path.write_bytes(contents[name])
    return contents


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


async def test_a_tree_with_odd_names_comes_back_the_same(scene: Scene, tmp_path: Path) -> None:
    names = ODD_NAMES + [f"many/{number:04}" for number in range(300)]
    contents = make_tree(tmp_path / "up", names)
    async with scene.engine() as s3:
        report = await s3.run(Manifest.upload(tmp_path / "up", scene.url("tree/")))
        assert (report.objects, report.failed) == (len(names), [])
        assert report.verified == len(names)
        assert set(scene.aws.gate.list_keys(scene.bucket)) == {f"tree/{n}" for n in names}
        report = await s3.run(Manifest.download(scene.url("tree/"), tmp_path / "down"))
        assert (report.objects, report.failed) == (len(names), [])
    assert read_tree(tmp_path / "down") == contents


async def test_one_failure_does_not_stop_the_others_and_can_be_run_again(
    scene: Scene, tmp_path: Path
) -> None:
    make_tree(tmp_path / "up", [f"{number:03}" for number in range(40)])
    (tmp_path / "up" / "loop").symlink_to(tmp_path / "up", target_is_directory=True)
    (tmp_path / "up" / "itself").symlink_to(tmp_path / "up" / "itself")
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", key="t/007", status=400, code="InvalidRequest"
    )
    async with scene.engine() as s3:
        report = await s3.run(Manifest.upload(tmp_path / "up", scene.url("t/")))
        assert report.objects == 39
        assert {failure.entry.path.name for failure in report.failed} == {"007", "loop", "itself"}
        again = tmp_path / "again.ndjson"
        report.failed = [f for f in report.failed if f.entry.path.name == "007"]
        assert report.failures().write(tmp_path / "sync") == 1
        assert await report.failures().save(again) == 1
        assert again.read_bytes() == (tmp_path / "sync").read_bytes()
        report = await s3.run(Manifest.read(again))
        assert (report.objects, report.failed) == (1, [])
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 40


async def test_a_key_cannot_leave_the_target_folder(scene: Scene, tmp_path: Path) -> None:
    gate = scene.aws.gate
    for key in ("t/../../evil", "t//abs", "t/./dot", "t/ok", "t/link/evil", "t/a/../b"):
        gate.put_object(scene.bucket, key, b"bytes")
    target = tmp_path / "target"
    (tmp_path / "elsewhere").mkdir()
    target.mkdir()
    (target / "link").symlink_to(tmp_path / "elsewhere")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), target))
    assert report.objects == 1
    assert len(report.failed) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "target"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(path.name for path in target.iterdir()) == ["link", "ok"]


async def test_a_manifest_line_that_is_none_stops_before_anything_moves(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "bad.ndjson").write_text('{"op":"upload"}\n')
    async with scene.engine() as s3:
        try:
            await s3.run(Manifest.read(tmp_path / "bad.ndjson"))
        except UsageError as error:
            assert "line 1" in str(error)
        else:
            raise AssertionError("a bad line was accepted")
        url = S3Url.parse(scene.url("x"))
        missing = ManifestEntry("upload", tmp_path / "none", url)
        nul = ManifestEntry("upload", Path("a\0b"), url)
        down = ManifestEntry("download", Path("a\0b"), url)
        scene.aws.gate.put_object(scene.bucket, "x", b"bytes")
        report = await s3.run(Manifest(entries=[missing, nul, down]))
        words = sorted(str(failure.error)[:12] for failure in report.failed)
        assert words == ["cannot read ", "cannot read ", "cannot write"]
