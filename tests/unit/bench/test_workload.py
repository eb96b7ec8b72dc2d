"""Workload files of the public benchmarks: what is read from them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.bench.workload import Item, read, standard
from engine.errors import UsageError


def _file(folder: Path, document: Any) -> Path:
    path = folder / "w.json"
    path.write_text(json.dumps(document))
    return path


def _run(**fields: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "comment": "why",
        "filesOnDisk": True,
        "checksum": None,
        "maxRepeatCount": 3,
        "maxRepeatSecs": 60,
        "tasks": [{"action": "upload", "key": "a/1", "size": 5}],
        **fields,
    }


def test_a_task_an_object_each_direction_a_job(tmp_path: Path) -> None:
    tasks = [
        {"action": "upload", "key": "a/1", "size": 5},
        {"action": "download", "key": "b/1", "size": 0},
        {"action": "upload", "key": "a/2", "size": 7},
    ]
    found = read(_file(tmp_path, _run(tasks=tasks, checksum="CRC32C")))
    assert (found.rounds, found.comment) == (3, "why")
    up, down = found.works
    assert (up.verb, up.items, up.bytes) == ("upload", (Item("a/1", 5), Item("a/2", 7)), 12)
    assert (down.verb, down.items) == ("download", (Item("b/1", 0),))
    assert {(work.checksum, work.max_seconds, work.in_memory) for work in found.works} == {
        ("CRC32C", 60.0, False)
    }


def test_a_key_may_be_there_often_only_where_there_are_no_files(tmp_path: Path) -> None:
    tasks = [{"action": "download", "key": "a", "size": 5}] * 4
    (work,) = read(_file(tmp_path, _run(tasks=tasks, filesOnDisk=False))).works
    assert (work.in_memory, work.bytes, work.unique()) == (True, 20, (Item("a", 5),))


def test_the_short_form_has_the_keys_that_the_long_one_gets(tmp_path: Path) -> None:
    document = {"action": "download", "fileSize": "256KiB", "numFiles": 10_000}
    found = read(_file(tmp_path, document))
    (work,) = found.works
    assert (found.rounds, work.max_seconds) == (10, 600.0)
    assert work.items[0] == Item("download/256KiB-10_000x/00001", 262_144)
    assert work.items[-1].name == "download/256KiB-10_000x/10000"
    document = {"action": "upload", "fileSize": "1byte", "checksum": "SHA1", "filesOnDisk": False}
    (work,) = read(_file(tmp_path, document)).works
    assert (work.items, work.in_memory) == ((Item("upload/1byte-1x-sha1/1", 1),), True)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "not an object"),
        (_run(version=3), "version is 3"),
        (_run(tasks=[]), "0 tasks"),
        (_run(tasks=["upload"]), "not an object"),
        (_run(tasks=[{"action": "copy", "key": "a", "size": 1}]), "an action is 'copy'"),
        (_run(tasks=[{"action": "upload", "key": "../a", "size": 1}]), "no name of a file"),
        (_run(tasks=[{"action": "upload", "key": "/a", "size": 1}]), "no name of a file"),
        (_run(tasks=[{"action": "upload", "key": "a", "size": -1}]), "size is -1"),
        (_run(tasks=[{"action": "upload", "key": "a", "size": True}]), "size is True"),
        (_run(tasks=[{"action": "upload", "key": "a", "size": 1}] * 2), "twice"),
        (_run(checksum="MD5"), "checksum is 'MD5'"),
        (_run(filesOnDisk="yes"), "filesOnDisk"),
        ({"action": "upload", "fileSize": "5GB"}, "fileSize is '5GB'"),
        ({"action": "upload", "fileSize": "1byte", "numFiles": 0}, "numFiles is 0"),
        ({"fileSize": "1byte"}, "an action is None"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(document: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read(_file(tmp_path, document))
    assert words in str(refused.value)


def test_a_file_that_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    with pytest.raises(UsageError, match="cannot be read"):
        read(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        read(path)


def test_generated_objects_are_the_same_for_every_verb() -> None:
    found = standard(["upload", "list"], 10, 1_001, 2)
    up, listing = found.works
    assert up.items == listing.items
    assert (up.amount, listing.amount) == (10_010, 1_001)
    assert len({item.name for item in up.items}) == 1_001
    assert up.items[-1].name == "001/001000"
