"""Small files that got their names from an earlier process, which died before its journal said so.

What lives here: whether a file is what an object that was listed has. What must not: who is to be
told (``batch``).

Rules of this file
- A file is taken if its bytes are those of the object that is there now: by its size and its ETag,
  which is the MD5 of what came in one request and was not encrypted by KMS or a customer's key. Any
  other ETag is like no file's, and the object is fetched.
- S3 is not asked: to ask would cost as much as to fetch a small object.
- What is taken is as durable as what is written, and leaves no temporary file behind.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from hashlib import md5
from itertools import groupby
from pathlib import Path

from msgspec import Struct

from engine import disk
from engine.errors import EngineError
from engine.records import file_version
from engine.transfer.files import name_of
from engine.transfer.folders import Folder, OpenTree, enter
from engine.transfer.temporaries import Temporaries

_MD5 = re.compile("[0-9a-f]{32}")
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MayBeThere(Struct, frozen=True):
    """A file that is to be written, and what the listing says of its object."""

    target: Path
    size: int
    etag: str
    tree: OpenTree | None = None


def written_before(files: Sequence[MayBeThere], names: Temporaries) -> list[str]:
    """In a thread: the version (``file_version``) of each file that is whole; empty for those that
    are not, or cannot be read, and are to be fetched."""
    versions: list[str] = []
    for _, together in groupby(files, lambda file: (file.tree, file.target.parent)):
        versions += _in_one_folder(list(together), names)
    return versions


def _in_one_folder(files: Sequence[MayBeThere], names: Temporaries) -> list[str]:
    nothing = [""] * len(files)
    # First without opening anything: in most places there is nothing yet.
    likely = [_may_be(file) for file in files]
    if not any(likely):
        return nothing
    try:
        folder = enter(files[0].target, files[0].tree)
    except (EngineError, OSError, ValueError):
        return nothing  # who writes it says why
    try:
        names.tidy(folder)
        versions = [
            _version(file, folder) if may_be else ""
            for file, may_be in zip(files, likely, strict=True)
        ]
        if any(versions):
            folder.sync()
    except OSError:
        return nothing
    finally:
        folder.leave()
    return versions


def _may_be(file: MayBeThere) -> bool:
    try:
        there = _fits(disk.lstat(file.target), file.size)
    except (OSError, ValueError):
        return False
    return there and _MD5.fullmatch(file.etag.strip('"')) is not None


def _version(file: MayBeThere, folder: Folder) -> str:
    try:
        return _read(file, folder)
    except OSError:
        return ""


def _fits(status: os.stat_result, size: int) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _read(file: MayBeThere, folder: Folder) -> str:
    descriptor = disk.open(folder.name(name_of(file.target)), _NO_LINK, dir_fd=folder.at)
    try:
        status = disk.fstat(descriptor)
        if not _fits(status, file.size) or status.st_nlink != 1:
            return ""
        data = memoryview(bytearray(file.size))
        got = 0
        while got < file.size:
            more = disk.preadv(descriptor, [data[got:]], got)
            if more == 0:
                return ""
            got += more
        if md5(data, usedforsecurity=False).hexdigest() != file.etag.strip('"'):
            return ""
        disk.fsync(descriptor)
        return file_version(status)
    finally:
        disk.close(descriptor)
