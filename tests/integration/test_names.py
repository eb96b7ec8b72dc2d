"""Names that do not fit: each is refused by name, the others go on, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from engine import Engine, Manifest
from engine.batch import ManifestEntry, Report, names
from engine.batch.manifest import Tree
from engine.events import FileSkipped
from engine.types import S3Url
from tests.integration.conftest import Scene
from tests.integration.test_trees import read_tree

TOO_LONG = "x" * 256


def put(scene: Scene, *keys: str) -> None:
    for key in keys:
        data = b"" if key.endswith("/") else key.encode()
        scene.aws.gate.put_object(scene.bucket, f"t/{key}", data)


def refused(scene: Scene, report: Report) -> dict[str, str]:
    return {f.entry.url.key.removeprefix("t/"): f.error.code for f in report.failed}


async def test_hostile_keys_are_refused_one_by_one(scene: Scene, tmp_path: Path) -> None:
    good = ["ok", "back\\slash", "C:\\x", "..a", "tab\tname", "x" * 255]
    bad = ["../up", "a/../b", "a/./b", "/abs", "a//b", TOO_LONG, f"d/{TOO_LONG}/e", "..", "."]
    put(scene, *good, *bad)
    async with scene.engine() as s3:
        down = tmp_path / os.fsdecode(b"down\xff")
        report = await s3.run(Manifest.download(scene.url("t/"), down))
        assert refused(scene, report) == dict.fromkeys(bad, "T132")
        assert os.listdir(tmp_path) == [down.name]
        await check_again(s3, report, tmp_path)
    assert read_tree(down) == {key: key.encode() for key in good}


async def test_a_file_and_a_folder_of_one_name(scene: Scene, tmp_path: Path) -> None:
    """The file is first in S3's order, so it is the one; nothing is asked for of the others."""
    put(scene, "a", "a!b", "a-b/c", "a/b", "a/c/d", "a/", "b/x", "b/x/", "c", "c0")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "down"))
        assert refused(scene, report) == dict.fromkeys(["a/b", "a/c/d", "a/", "b/x/"], "T134")
        got = {key: key.encode() for key in ("a", "a!b", "a-b/c", "b/x", "c", "c0")}
        assert read_tree(tmp_path / "down") == got
        assert len(scene.log("GetObject")) == len(got)
        # What stands there from before is not replaced by the other kind.
        (tmp_path / "was" / "c").mkdir(parents=True)
        (tmp_path / "was" / "b").write_bytes(b"old")
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "was"))
    assert {"b/x", "c"} <= set(refused(scene, report))
    assert (tmp_path / "was" / "b").read_bytes() == b"old" and (tmp_path / "was" / "c").is_dir()


async def test_empty_objects_that_end_with_a_slash_become_folders(
    scene: Scene, tmp_path: Path
) -> None:
    put(scene, "", "empty/", "deep/er/", "full/", "full/file")
    scene.aws.gate.put_object(scene.bucket, "t/bytes/", b"bytes")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "down"))
        assert report.objects == 5 and refused(scene, report) == {"bytes/": "T132"}
        folders = {p.relative_to(tmp_path / "down") for p in tmp_path.glob("down/**/*")}
        assert {str(p) for p in folders} == {"empty", "deep", "deep/er", "full", "full/file"}
        # And back.
        up = Manifest.upload(tmp_path / "down", scene.url("u/"), empty_folders=True)
        report = await s3.run(up)
        assert report.failed == []
        assert scene.aws.gate.list_keys(scene.bucket, "u/") == [
            "u/deep/er/",
            "u/empty/",
            "u/full/file",
        ]


@pytest.mark.parametrize(
    ("folds", "twins"),
    [
        ((True, False), {"README": "readme", "stra\u00dfe": "strasse"}),
        ((False, True), {"caf\u00e9": unicodedata.normalize("NFD", "caf\u00e9")}),
    ],
)
async def test_names_that_the_file_system_takes_for_one(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folds: tuple[bool, bool],
    twins: dict[str, str],
) -> None:
    put(scene, *twins, *twins.values(), "other")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "apart"))
        assert report.failed == []
        monkeypatch.setattr(names, "folds", lambda *args: folds)
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "one"))
    late = [max(pair, key=lambda name: name.encode()) for pair in twins.items()]
    assert refused(scene, report) == dict.fromkeys(late, "T134")
    assert report.objects == len(twins) + 1


async def test_two_sources_for_one_place(scene: Scene, tmp_path: Path) -> None:
    put(scene, "p/x", "p/y", "q/x")
    for name in ("one/x", "two/x", "two/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    down, prefix = tmp_path / "down", S3Url.parse(scene.url("u/"))
    trees = [Tree("download", down, S3Url.parse(scene.url(f"t/{name}/"))) for name in "pq"]
    up = [Tree("upload", tmp_path / name, prefix) for name in ("one", "two")]
    twice = ManifestEntry("download", tmp_path / "z", S3Url.parse(scene.url("t/p/x")))
    async with scene.engine() as s3:
        report = await s3.run(Manifest(trees))
        assert refused(scene, report) == {"q/x": "T134"}
        assert read_tree(down) == {"x": b"p/x", "y": b"p/y"}
        report = await s3.run(Manifest(up))
        assert [f.entry.path for f in report.failed] == [tmp_path / "two" / "x"]
        report = await s3.run(Manifest(entries=[twice, twice]))
        assert (report.objects, len(report.failed)) == (1, 1)
        # Two runs: the file of one of them, and all of it.
        runs = [s3.run(Manifest.download(scene.url(f"t/{n}/"), tmp_path / "both")) for n in "pq"]
        assert [one.failed for one in await asyncio.gather(*runs)] == [[], []]
    assert (tmp_path / "both" / "x").read_bytes() in (b"p/x", b"q/x")
    assert sorted(os.listdir(tmp_path / "both")) == ["x", "y"]


async def check_again(s3: Engine, report: Report, folder: Path) -> None:
    """What failed is written, whatever its name, and fails again, each for its reason."""
    failures = report.failures()
    assert failures.write(folder / "1") == await failures.save(folder / "2") == len(report.failed)
    assert (folder / "1").read_bytes() == (folder / "2").read_bytes()
    again = await s3.run(Manifest.read(folder / "1"))
    assert again.objects == 0
    assert [one.entry for one in again.failed] == [one.entry for one in report.failed]


async def test_what_is_no_file_of_the_tree_is_not_sent(scene: Scene, tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "sub").mkdir(parents=True)
    (tree / "empty").mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tree / "file").write_bytes(b"file")
    (tree / "inside").symlink_to("file")
    (tree / "sub" / "up").symlink_to("../file")
    (tree / "out").symlink_to(outside / "secret")
    (tree / "sub" / "out").symlink_to("../../outside/secret")
    (tree / "folder").symlink_to("sub")
    (tree / "loop").symlink_to(".")
    (tree / "itself").symlink_to("itself")
    (tree / "nowhere").symlink_to("none")
    (tree / ".s3engine-0123456789abcdef.part").write_bytes(b"half")
    os.mkfifo(tree / "fifo")
    (tree / "device").symlink_to("/dev/zero")
    Path(os.fsdecode(os.fsencode(tree) + b"/n\xff")).write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    async with scene.engine() as s3:
        report = await s3.run(Manifest.upload(tree, scene.url("u/")))
        words = {os.fsencode(f.entry.path.name): str(f.error) for f in report.failed}
        assert {name.decode(errors="replace") for name in words} == {
            "out", "folder", "loop", "itself", "nowhere", "fifo", "device", "socket", "n\ufffd"
        }  # fmt: skip
        assert len(report.failed) == 10 and "leads out" in words[b"out"]
        assert "to a folder" in words[b"loop"] and "No such file" in words[b"nowhere"]
        assert "not valid Unicode" in words[b"n\xff"] and "pipe" in words[b"fifo"]
        await check_again(s3, report, tmp_path)
        sent = ["u/file", "u/inside", "u/sub/up"]
        assert scene.aws.gate.list_keys(scene.bucket, "u/") == sent
        told = {Path(e.path).name for e in scene.events if isinstance(e, FileSkipped)}
        assert told == {"empty", ".s3engine-0123456789abcdef.part"}
        report = await s3.run(Manifest.upload(tree, scene.url("v/"), follow_symlinks=True))
        assert len(report.failed) == 8
        sent = ["v/file", "v/inside", "v/out", "v/sub/out", "v/sub/up"]
        assert scene.aws.gate.list_keys(scene.bucket, "v/") == sent
