"""What the tests of the journal share: entries, results, a journal in a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.batch.journal import Journal
from engine.batch.journal.objects import Found, Key, find_all
from engine.batch.journal.store import Store
from engine.batch.manifest import ManifestEntry, Operation
from engine.records import DownloadRecord, UploadRecord, file_version
from engine.types import Checksum, PartReceipt, S3Url, TransferResult, UploadId

SIZE = 20


def entry(folder: Path, number: int, operation: Operation = "upload") -> ManifestEntry:
    """An object, and its file, which is made where it is not."""
    path = folder / f"file-{number}"
    if not path.exists():
        path.write_bytes(b"x" * SIZE)
    return ManifestEntry(operation, path, S3Url("bucket", f"key-{number}"), SIZE, '"etag"')


def result(of: ManifestEntry) -> TransferResult:
    return TransferResult(
        url=of.url,
        path=of.name,
        size=SIZE,
        etag='"etag"',
        parts=1,
        checksum=None,
        verified=True,
        seconds=0.1,
    )


def version(of: ManifestEntry) -> str:
    return file_version(os.stat(of.path))


def upload_record(upload_id: str = "id") -> UploadRecord:
    return UploadRecord(upload_id=UploadId(upload_id), size=SIZE, version="v", part_size=5)


def download_record(name: str = ".s3engine-1.part") -> DownloadRecord:
    return DownloadRecord(temporary=name, etag='"e"', size=SIZE, part_size=5, algorithm="crc64nvme")


def part(number: int) -> PartReceipt:
    """Its sum needs all of 64 bits, which SQLite's integers have not."""
    checksum = Checksum("crc64nvme", f"sum-{number}")
    return PartReceipt(number, 5 * (number - 1), 5, f'"part-{number}"', checksum, 2**64 - number)


def journal(folder: Path, identity: str = "work", **settings: Any) -> Journal:
    return Journal.open(identity=identity, folder=folder / "runs", **settings)


def files(folder: Path) -> list[str]:
    """Names in the folder of runs, without what is random in them."""
    runs = folder / "runs"
    return sorted(path.name.partition(".")[2] for path in runs.iterdir()) if runs.exists() else []


def contents(path: Path) -> tuple[dict[Key, Found], dict[Key, tuple[Any, ...]]]:
    """What is kept: objects under way, and those that are done."""
    store = Store.open(path)
    try:
        done = {tuple(row[:3]): row[3:] for row in store.read("SELECT * FROM done")}
        return find_all(store), done
    finally:
        store.close()
