"""Local files: what a key may become, and what a partial file leaves."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceChanged, TransferError, UnsafeKey, UsageError
from engine.threads import ThreadDoor
from engine.transfer.files import PartialFile, partial_file, path_under, publish
from engine.transfer.folders import enter
from engine.transfer.sources import FileSource
from engine.types import MiB

ROOT = Path("/nowhere/target")


@given(key=st.text(max_size=60))
def test_no_key_leaves_the_target_folder(key: str) -> None:
    try:
        path = path_under(ROOT, key)
    except UnsafeKey:
        return
    assert path.is_relative_to(ROOT)
    assert path != ROOT
    assert os.path.normpath(path) == str(path)


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/abs", "a//b", "a/", ".", "a/\0b", "x" * 256])
def test_keys_that_cannot_be_files_are_named(key: str) -> None:
    with pytest.raises(UnsafeKey, match="cannot become a file"):
        path_under(ROOT, key)


@pytest.mark.parametrize("key", ["..a", "a..", "-r", "a b", "C:\\x", "a\\b", "%2e%2e"])
def test_odd_keys_keep_their_bytes(key: str) -> None:
    assert path_under(ROOT, key) == ROOT / key


async def test_a_file_that_is_taken_up_is_closed_and_stays_where_one_is_stopped(
    tmp_path: Path,
) -> None:
    temporary = tmp_path / ".s3engine-run-kept-1.part"
    descriptor = os.open(temporary, os.O_CREAT | os.O_RDWR)
    target = tmp_path / "file"
    taken = PartialFile(target, temporary, descriptor, enter(target, None))
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with partial_file(target, 4, ThreadDoor(), taken=taken):
            pytest.fail("it was stopped before")
    assert temporary.exists()
    with pytest.raises(OSError):
        os.fstat(descriptor)


async def test_a_partial_file_is_gone_unless_it_was_published(tmp_path: Path) -> None:
    door = ThreadDoor()
    target = tmp_path / "new" / "file"
    with pytest.raises(ZeroDivisionError):
        async with partial_file(target, 1000, door) as partial:
            assert partial.temporary.parent == target.parent
            raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    async with partial_file(target, 4, door) as partial:
        os.pwrite(partial.descriptor, b"data", 0)
        await publish(partial, door)
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.read_bytes() == b"data"


async def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        async with partial_file(tmp_path, 1, ThreadDoor()):
            pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(TransferError, match="cannot write"):
        async with partial_file(tmp_path / "file" / "below", 1, ThreadDoor()):
            pass


@pytest.mark.parametrize("kind", ["fifo", "socket", "link", "dangling"])
async def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """A device, a pipe or a link under the target's name stays what it is."""
    target, real = tmp_path / "target", tmp_path / "real"
    real.write_text("old")
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "fifo":
            os.mkfifo(target)
        elif kind == "socket":
            listener.bind(str(target))
        else:
            target.symlink_to(real if kind == "link" else tmp_path / "nowhere")
        before = target.lstat()
        with pytest.raises(UsageError, match="is not a regular file"):
            async with partial_file(target, 1, ThreadDoor()):
                pass
    after = target.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert real.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real", "target"]


def test_a_source_that_shrinks_or_is_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    with FileSource(path) as source:
        view = memoryview(bytearray(4))
        source.read_into(3, view)
        assert bytes(view) == b"3456"
        source.check_unchanged()
        os.truncate(path, 5)
        with pytest.raises(SourceChanged, match="shorter"):
            source.read_into(3, view)
        with pytest.raises(SourceChanged):
            source.check_unchanged()
    path.write_bytes(b"0123456789")
    with FileSource(path) as source:
        other = tmp_path / "other"
        other.write_bytes(b"0123456789")
        other.replace(path)
        with pytest.raises(SourceChanged):
            source.check_unchanged()
        path.unlink()
        with pytest.raises(SourceChanged, match="gone"):
            source.check_unchanged()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        FileSource(tmp_path / "fifo")
    with pytest.raises(UsageError, match="cannot read"):
        FileSource(tmp_path / "none")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
async def test_room_in_memory_is_looked_for_before_anything_is_fetched() -> None:
    """Without filling it, as reserving would."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        target = Path(folder) / "out"
        async with partial_file(target, 64 * MiB, ThreadDoor()) as partial:
            status = os.stat(partial.temporary)
            assert (status.st_size, status.st_blocks) == (64 * MiB, 0)
        with pytest.raises(TransferError, match="No space left") as caught:
            async with partial_file(target, 1 << 60, ThreadDoor()):
                pass
        assert "Free some space" in str(caught.value)
        assert os.listdir(folder) == []
