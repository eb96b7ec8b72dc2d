"""A tree that is written below: nothing that is put in the way leads out of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import disk
from engine.errors import TransferError, UnsafeKey
from engine.threads import ThreadDoor
from engine.transfer import folders, source_tree
from engine.transfer.files import partial_file, publish
from engine.transfer.folders import Folder, OpenTree, Trees, enter
from engine.transfer.source_tree import SourceTree


@pytest.fixture(params=["descriptors", "paths"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenTree]:
    """On a system that opens files from their folder's descriptor, and on one that does not."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "paths":
            patch.setattr(folders, "_BY_DESCRIPTOR", False)
        with Trees() as trees:
            yield trees.of(tmp_path / "new" / "root")


def write(folder: Folder, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = disk.open(folder.name(name), flags, 0o666, dir_fd=folder.at)
    disk.close(descriptor)


def open_files(below: Path) -> int:
    """Descriptors of ours of what lies there; others come and go with the rest of the process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            count += Path(os.readlink(f"/proc/self/fd/{name}")).is_relative_to(below)
    return count


def test_folders_are_made_where_they_are_missing(tree: OpenTree, tmp_path: Path) -> None:
    for name in ("file", "a/file", "a/b/c/file", "a/b/other"):
        folder = tree.enter(tree.root / name)
        write(folder, os.path.basename(name))
        assert (tree.root / name).exists() and folder.in_place()
        folder.sync()
        folder.leave()
    tree.close()
    assert open_files(tmp_path) == 0
    folder = tree.enter(tree.root / "a" / "again")
    tree.close()
    write(folder, "again")  # who is in it stays until it leaves
    folder.leave()
    assert open_files(tmp_path) == 0


def test_a_link_in_the_way_is_refused(tree: OpenTree, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b").mkdir()
    tree.root.mkdir(parents=True)
    (tree.root / "out").symlink_to(tmp_path / "outside")
    (tree.root / "in").symlink_to("real")
    (tree.root / "real").mkdir()
    (tree.root / "nowhere").symlink_to("none")
    (tree.root / "taken").write_bytes(b"")
    for name in ("out/file", "out/b/file", "in/file", "nowhere/file"):
        with pytest.raises(UnsafeKey, match="is a symbolic link"):
            tree.enter(tree.root / name)
    with pytest.raises(TransferError, match="taken: it is a file"):
        tree.enter(tree.root / "taken" / "file")
    assert os.listdir(tmp_path / "outside") == ["b"]


def test_the_user_may_have_links_on_the_way_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Trees() as trees:
        tree = trees.of(tmp_path / "link")
        folder = tree.enter(tmp_path / "link" / "a" / "file")
        write(folder, "file")
        folder.leave()
    folder = enter(tmp_path / "link" / "file", None)
    write(folder, "file")
    folder.leave()
    assert (tmp_path / "real" / "a" / "file").exists() and (tmp_path / "real" / "file").exists()


def test_what_was_moved_away_is_not_written_to(tree: OpenTree, tmp_path: Path) -> None:
    target = tree.root / "a" / "b" / "file"
    folder = tree.enter(target)
    (tree.root / "a").rename(tmp_path / "moved")
    assert not folder.in_place()
    (tree.root / "a").symlink_to(tmp_path / "moved")
    assert not folder.in_place()  # the path leads to it, but over a link
    with pytest.raises(UnsafeKey):
        tree.enter(target)
    (tree.root / "a").unlink()
    new = tree.enter(target)
    assert new is not folder and new.in_place()
    write(new, "file")
    assert target.exists() and os.listdir(tmp_path / "moved" / "b") == []
    new.leave()
    folder.leave()


def test_few_folders_are_kept_open_however_many_there_are(tree: OpenTree, tmp_path: Path) -> None:
    for number in range(3 * folders.MAX_FOLDERS):
        folder = tree.enter(tree.root / f"{number}" / "deeper" / "file")
        folder.sync()
        folder.leave()
    assert open_files(tmp_path) <= folders.MAX_FOLDERS + 2


def test_few_folders_are_kept_open_to_be_read(tmp_path: Path) -> None:
    most = source_tree.MAX_OPEN
    names = [f"{number}/deeper" for number in range(2 * most)]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    tree = SourceTree(tmp_path)
    with tree.scan(names[0]) as found:
        assert [one.name for one in found] == ["file"]
        for name in names:
            os.close(tree.open(tmp_path / name / "file"))
        assert most <= open_files(tmp_path) <= most + 2
        tree.close()
        assert open_files(tmp_path) == 1, "who is in it stays until it leaves"
    assert open_files(tmp_path) == 0


def test_a_new_folder_has_a_durable_name_before_a_file_in_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(disk, "fsync", fsync)
    monkeypatch.setattr(disk, "in_memory", lambda device: False)
    root = tmp_path / "x" / "root"
    with Trees() as trees:
        folder = trees.of(root).enter(root / "a" / "b" / "file")
        folder.sync()
        folder.leave()
    assert set(synced) == {str(path) for path in (tmp_path, root.parent, root, root / "a")} | {
        str(root / "a" / "b")
    }
    assert synced[-1] == str(root / "a" / "b")


async def test_a_folder_that_is_moved_away_is_told(tree: OpenTree, tmp_path: Path) -> None:
    """Neither written to where nobody looks for it, nor made anew: somebody is at work there."""
    folder = tree.enter(tree.root / "file")
    tree.root.rename(tmp_path / "moved")
    tree.root.mkdir()
    assert not folder.in_place()
    with pytest.raises(TransferError, match="moved away"):
        tree.enter(tree.root / "other")
    folder.leave()
    alone = tmp_path / "alone" / "file"
    with pytest.raises(TransferError, match="moved away"):
        async with partial_file(alone, 1, ThreadDoor()) as partial:
            alone.parent.rename(tmp_path / "aside")
            await publish(partial, ThreadDoor())
    # By paths alone nobody finds what has moved.
    assert not folders._BY_DESCRIPTOR or os.listdir(tmp_path / "aside") == []
