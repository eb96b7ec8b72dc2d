"""A file that is no journal, or is damaged, or of another version, is refused by name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.batch.journal.beginning import Beginning, begin, make_file
from engine.batch.journal.objects import find_all
from engine.batch.journal.schema import SCHEMA, Schema
from engine.batch.journal.store import DONE, Store
from engine.clock import LoopClock
from engine.errors import JournalDamaged, JournalError, JournalVersion
from tests.unit.batch.journal.kit import download_record, entry, journal, part, upload_record

_NEXT = Schema(
    version=SCHEMA.version + 1,
    script=SCHEMA.script + "CREATE TABLE more (id INTEGER PRIMARY KEY);",
    migrations={SCHEMA.version: "CREATE TABLE more (id INTEGER PRIMARY KEY);"},
)


async def _written(folder: Path, objects: int = 3) -> Path:
    async with journal(folder) as kept:
        for number in range(objects):
            upload = await kept.object(entry(folder, number))
            await upload.upload_creating()
            await upload.upload_begun(upload_record(f"id-{number}"))
            for each in range(1, 12):
                await upload.part_done(part(each))
            await (await kept.object(entry(folder, number, "download"))).download_begun(
                download_record()
            )
        assert kept.path is not None
        opened = kept._opened
        assert opened is not None and opened.store is not None
        rows = [(DONE, (f"s3://b/{n}", b"\xff%d" % n, "upload", n, "e", "v")) for n in range(500)]
        opened.store.write(rows, False)
        kept.abandon()
    return kept.path


async def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    files = {
        "empty": b"",
        "text": b"url,size\ns3://bucket/key,1\n",
        "short": b"SQLite format 3\0",
        "zeros": bytes(8192),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(JournalDamaged, match="not a journal") as caught:
            Store.open(tmp_path / name)
        assert caught.value.exit_code == 2 and name in str(caught.value)
        assert (tmp_path / name).read_bytes() == data
    connection = sqlite3.connect(tmp_path / "other")
    connection.execute("CREATE TABLE run (id TEXT)")
    connection.close()
    with pytest.raises(JournalDamaged, match="something else"):
        Store.open(tmp_path / "other")
    with pytest.raises(JournalDamaged, match="regular"):
        Store.open(tmp_path)
    (tmp_path / "link").symlink_to("other")
    for name in ("link", "missing"):
        with pytest.raises(JournalError, match="cannot read the journal"):
            Store.open(tmp_path / name)


async def test_tables_of_somebody_else_s_are_refused(tmp_path: Path) -> None:
    """A trigger in a file that somebody planted would run with our next write."""
    path = await _written(tmp_path, 1)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER t AFTER INSERT ON done BEGIN DELETE FROM uploads; END")
    connection.close()
    with pytest.raises(JournalDamaged, match="tables"):
        Store.open(path)


async def test_a_journal_of_the_version_before_goes_on(tmp_path: Path) -> None:
    path = await _written(tmp_path)
    store = Store.open(path, _NEXT)
    assert store.read("PRAGMA user_version") == [(_NEXT.version,)]
    assert store.read("SELECT * FROM more") == [] and len(find_all(store)) == 6
    store.close()
    Store.open(path, _NEXT).close()  # what was made by steps is the same as what is made at once
    with pytest.raises(JournalVersion, match="made by s3engine") as caught:
        Store.open(path)
    assert "Finish the run with s3engine" in caught.value.fix
    with pytest.raises(JournalVersion):
        Store.look(path)


async def test_a_journal_without_a_way_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = await _written(tmp_path)
    Store.open(path).close()
    data = path.read_bytes()
    far = Schema(version=3, script=SCHEMA.script, migrations={2: "SELECT 1;"})
    with pytest.raises(JournalVersion, match="its version is 1, this one reads 3"):
        Store.open(path, far)
    broken = Schema(version=2, script=SCHEMA.script, migrations={1: "ALTER TABLE nothing ADD x;"})
    with pytest.raises(JournalError):
        Store.open(path, broken)
    assert path.read_bytes() == data


async def test_a_journal_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    now = LoopClock().now()
    asked = Beginning(tmp_path / "j", tmp_path, "i", "s", (), (), "/")
    opened = begin(asked, now)
    (tmp_path / "j").write_bytes(b"somebody else's, since")
    with pytest.raises(JournalError, match="exists"):
        make_file(asked, opened, now)
    opened.drop()
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
    assert (tmp_path / "j").read_bytes() == b"somebody else's, since"
