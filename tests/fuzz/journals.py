"""Journals that are cut, or of which bytes are others: each is refused by name, or read.

What must not live here: what a journal is (``tests.unit.batch.journal``).
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from random import Random

import anyio

from engine.batch.journal.clean import others_of
from engine.batch.journal.objects import find_all
from engine.batch.journal.runs import look_at, read_run, read_sessions
from engine.batch.journal.store import DONE, Store
from engine.errors import JournalError
from tests.unit.batch.journal.kit import download_record, entry, journal, part, upload_record

_NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def journals(random: Random) -> None:
    """A journal and its log as a process leaves them that is killed, one of them damaged."""
    folder, main, log = _whole()
    if random.random() < 0.7:
        main = _damaged(main, random)
    else:
        log = _damaged(log, random)
    path = folder / f"run-{'0' * 32}.journal"
    path.write_bytes(main)
    Path(f"{path}-wal").write_bytes(log)
    try:
        look_at(path, _NOW)
        assert others_of(folder / "another.journal") is not None
        with suppress(JournalError):
            _read_all(path)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _read_all(path: Path) -> None:
    """Everything that is ever read of a journal that somebody goes on with; and a write."""
    store = Store.open(path)
    try:
        read_run(store)
        read_sessions(store)
        find_all(store)
        store.known([(f"s3://b/{n}", b"\xff%d" % n, "upload") for n in range(500)])
        store.write([(DONE, ("s3://b/x", b"x", "upload", 1, "e", "v"))], False)
    finally:
        store.drop()


def _damaged(data: bytes, random: Random) -> bytes:
    cut = bytearray(data)
    kind = random.randrange(4)
    if kind == 0:
        return bytes(cut[: random.randrange(len(cut))])
    if kind == 1:  # a block of the disk
        start = random.randrange(0, len(cut), 512)
        cut[start : start + 512] = random.randbytes(512)[: len(cut) - start]
        return bytes(cut)
    head = random.random() < 0.3
    for _ in range(random.choice((1, 1, 2, 10, 100))):
        place = random.randrange(min(len(cut), 4096) if head else len(cut))
        cut[place] ^= 1 << random.randrange(8) if kind == 2 else random.randrange(1, 256)
    return bytes(cut)


@lru_cache(maxsize=1)
def _whole() -> tuple[Path, bytes, bytes]:
    """A folder, a journal and its log."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = anyio.run(_written, folder)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL").fetchone()
    writer.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
    rows = [(f"s3://c/{n}", b"n%d" % n, "upload", n, "e", "v") for n in range(300)]
    writer.executemany("INSERT INTO done VALUES (?, ?, ?, ?, ?, ?)", rows)
    writer.commit()
    found = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    writer.close()
    assert len(found[1]) > 10_000
    return folder, *found


async def _written(folder: Path) -> Path:
    async with journal(folder) as kept:
        for number in range(3):
            upload = await kept.object(entry(folder, number))
            await upload.upload_creating()
            await upload.upload_begun(upload_record(f"id-{number}"))
            for each in range(1, 12):
                await upload.part_done(part(each))
            down = await kept.object(entry(folder, number, "download"))
            await down.download_begun(download_record())
        assert kept.path is not None and kept._opened is not None
        assert kept._opened.store is not None
        rows = [(DONE, (f"s3://b/{n}", b"\xff%d" % n, "upload", n, "e", "v")) for n in range(500)]
        kept._opened.store.write(rows, False)
        kept.abandon()
        return kept.path
