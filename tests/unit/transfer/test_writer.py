"""Small files in groups: each whole and under its name, or an error of its own."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from engine.disk import in_memory
from engine.errors import TransferError, UsageError
from engine.records import file_version
from engine.threads import ThreadDoor
from engine.transfer import writer as writer_room
from engine.transfer.writer import FileWriter
from engine.types import KiB

_SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder where calls may wait, and one where they never do."""
    if request.param == "disk":
        yield tmp_path
        return
    if not _SHARED_MEMORY.is_dir() or not in_memory(_SHARED_MEMORY.stat().st_dev):
        pytest.skip("no file system in memory here")
    with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY) as name:
        yield Path(name)


async def test_what_was_written_is_told_once_by_the_version_that_a_later_look_finds(
    folder: Path,
) -> None:
    writer = FileWriter(ThreadDoor(), remembers=True)
    now, then = folder / "now", folder / "then"
    await writer.write(now, b"abc")
    await writer.write(then, b"abcd", 10**18)
    for target in (now, then):
        assert writer.version_of(target) == file_version(os.lstat(target))
        assert writer.version_of(target) == ""


async def test_files_that_come_together_are_all_written(folder: Path) -> None:
    writer = FileWriter(ThreadDoor())
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            target = folder / f"d{number % 3}" / f"{number}"
            tasks.start_soon(writer.write, target, str(number).encode() * number, number * 10**9)
    for number in range(200):
        written = folder / f"d{number % 3}" / f"{number}"
        assert written.read_bytes() == str(number).encode() * number
        assert written.stat().st_mtime == number
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 200
    assert repr(writer) == "<FileWriter trips=0 pending=0>"


async def test_a_file_that_cannot_be_written_fails_alone(folder: Path) -> None:
    tmp_path = folder
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    bad = {"folder": UsageError, "link": UsageError, "file/below": TransferError, "n\0": UsageError}
    writer, failed = FileWriter(ThreadDoor()), {}

    async def write(name: str) -> None:
        try:
            await writer.write(tmp_path / name, b"new")
        except (UsageError, TransferError) as error:
            failed[name] = type(error)

    async with anyio.create_task_group() as tasks:
        for name in (*bad, *(f"good{n}" for n in range(20))):
            tasks.start_soon(write, name)
    assert failed == bad
    assert all((tmp_path / f"good{n}").read_bytes() == b"new" for n in range(20))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert not list(tmp_path.glob(".s3engine*"))


async def test_in_memory_no_thread_is_asked(folder: Path) -> None:
    door = ThreadDoor()
    door.close()
    writer = FileWriter(door)
    if in_memory(folder.stat().st_dev):
        await writer.write(folder / "file", b"bytes", None)
        assert (folder / "file").read_bytes() == b"bytes"
    else:
        with pytest.raises(RuntimeError, match="closed"):
            await writer.write(folder / "file", b"bytes", None)


async def test_who_is_cancelled_leaves_no_half_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some lead, some are in a group, some wait for one: whoever is cancelled, the rest go on."""
    go = threading.Event()
    plain = writer_room._write_all

    def held(group: list[writer_room._Write]) -> None:
        go.wait(10)
        plain(group)

    monkeypatch.setattr(writer_room, "_write_all", held)
    writer, scopes = FileWriter(ThreadDoor()), []

    async def write(number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await writer.write(tmp_path / f"{number}", b"x" * 1000)

    async with anyio.create_task_group() as tasks:
        for number in range(90):
            tasks.start_soon(write, number)
        await anyio.wait_all_tasks_blocked()
        for scope in scopes[::3]:
            scope.cancel()
        await anyio.wait_all_tasks_blocked()
        go.set()
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{n}" for n in range(90) if n % 3} <= names
    assert not [name for name in names if name.startswith(".")]
    assert all(os.path.getsize(tmp_path / name) == 1000 for name in names)
    assert repr(writer) == "<FileWriter trips=0 pending=0>"


def test_memory_of_an_object_that_is_written_is_used_again() -> None:
    writer = FileWriter(ThreadDoor())
    first, other, unused = (writer.sink(1000) for _ in range(3))
    assert first.buffer is None, "nothing has come yet"
    first.memory[:] = other.memory[:] = b"x" * 1000
    assert first.buffer is not other.buffer
    writer.give_back(first)
    writer.give_back(unused)
    bigger = writer.sink(10**6)
    assert len(bigger.memory) == 10**6 and bigger.buffer is not first.buffer
    again = writer.sink(2000)
    assert len(again.memory) == 2000 and again.buffer is first.buffer
    many = [writer.sink(1) for _ in range(2 * writer_room.MAX_BUFFERS)]
    for sink in many:
        sink.write_at(0, memoryview(b"x"))
    for sink in many:
        writer.give_back(sink)
    kept = [writer.sink(1).room for _ in range(3 * writer_room.MAX_BUFFERS)]
    assert len({id(room.obj) for room in kept}) == len(kept)


@pytest.mark.parametrize("size", [0, 1, 14 * KiB, 14 * KiB + 1, 128 * KiB])
def test_what_a_small_object_is_counted_with_is_what_it_holds(size: int) -> None:
    sink = FileWriter(ThreadDoor()).sink(size)
    assert len(sink.memory) == size
    assert sink.buffer is not None and len(sink.buffer) == writer_room.room_of(size)
