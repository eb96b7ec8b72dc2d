"""What is measured: objects and a direction, from flags or from a workload file. PURE but for
reading the file.

Workload files are those of AWS's public benchmarks of its S3 clients, as its page describes them:
version 2 (``.run.json``, a task an object), or the short form they are made from (``.src.json``).
https://github.com/awslabs/aws-crt-s3-benchmarks/tree/main/workloads
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import UsageError
from engine.types import GiB, KiB, MiB

Verb = Literal["upload", "download", "list"]

VERSION = 2
# The biggest public file has 10,000 tasks in 1.3 MB.
MAX_FILE_BYTES = 64 * MiB
MAX_OBJECTS = 100_000
# What the short form means where it says nothing.
_REPEATS, _REPEAT_SECONDS = 10, 600

_SIZE = re.compile(r"(\d+)(KiB|MiB|GiB|bytes|byte)")
_UNITS = {"byte": 1, "bytes": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB}
_CHECKSUMS = ("CRC32", "CRC32C", "SHA1", "SHA256")


@dataclass(frozen=True, slots=True)
class Item:
    """One object: its name below the place, which is also its file's, and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Work:
    """One job, the same for every tool.

    Attributes:
        in_memory: No files: uploads come from memory, downloads are thrown away.
        checksum: The S3 algorithm that every upload must carry and every download check; None
            leaves it to each tool's own settings.
        max_seconds: A tool that has worked so long gets no further round; None for no limit.
    """

    verb: Verb
    items: tuple[Item, ...]
    in_memory: bool = False
    checksum: str | None = None
    max_seconds: float | None = None

    @property
    def bytes(self) -> int:
        return sum(item.size for item in self.items)

    @property
    def amount(self) -> int:
        """What a rate counts: bytes, or keys of a listing."""
        return len(self.items) if self.verb == "list" else self.bytes

    @property
    def unit(self) -> str:
        return "keys/s" if self.verb == "list" else "MiB/s"

    @property
    def scale(self) -> float:
        """Of ``amount`` for one of ``unit``'s."""
        return 1.0 if self.verb == "list" else float(MiB)

    def unique(self) -> tuple[Item, ...]:
        """Each object once: a workload in memory may name one many times."""
        return tuple({item.name: item for item in self.items}.values())


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs to be measured one after the other.

    Attributes:
        rounds: How often, where the user does not say.
    """

    works: tuple[Work, ...]
    rounds: int
    comment: str = ""


def standard(verbs: Sequence[Verb], size: int, count: int, rounds: int) -> Workload:
    """``count`` objects of ``size`` bytes, the same for every verb."""
    if not 1 <= count <= MAX_OBJECTS:
        raise UsageError(f"{count} objects", fix=f"From 1 to {MAX_OBJECTS:,}")
    items = tuple(Item(f"{n // 1000:03d}/{n:06d}", size) for n in range(count))
    return Workload(tuple(Work(verb, items) for verb in verbs), rounds)


def read(path: Path) -> Workload:
    """A workload file. Blocks.

    Raises:
        UsageError: Not such a file, of another version, or a wish that cannot be met.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is over {MAX_FILE_BYTES} bytes, so no workload file")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is not JSON") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no workload: not an object")
    try:
        return _from_run(document) if "tasks" in document else _from_source(document)
    except _Wrong as wrong:
        raise UsageError(f"{path} is no workload that can be run: {wrong}") from None


class _Wrong(Exception):
    """What is wrong with the document."""


def _from_run(document: dict[str, Any]) -> Workload:
    # A newer version may mean something by a field that is not known here: a run of it would
    # measure something else under its name.
    if document.get("version") != VERSION:
        raise _Wrong(f"its version is {document.get('version')!r}, known is {VERSION}")
    tasks = _value(document, "tasks", list)
    if not 1 <= len(tasks) <= MAX_OBJECTS:
        raise _Wrong(f"it has {len(tasks)} tasks; from 1 to {MAX_OBJECTS:,} can be run")
    by_verb: dict[Verb, list[Item]] = {}
    for task in tasks:
        if not isinstance(task, dict):
            raise _Wrong("a task is not an object")
        item = Item(_name(_value(task, "key", str)), _count(task, "size", 0))
        by_verb.setdefault(_verb(task), []).append(item)
    return _workload(document, by_verb)


def _from_source(document: dict[str, Any]) -> Workload:
    verb = _verb(document)
    words = _value(document, "fileSize", str)
    match = _SIZE.fullmatch(words)
    if match is None:
        raise _Wrong(f"fileSize is {words!r}; known are sizes such as 256KiB or 1byte")
    count = _count(document, "numFiles", 1, 1)
    if count > MAX_OBJECTS:
        raise _Wrong(f"numFiles is {count}; up to {MAX_OBJECTS:,} can be run")
    checksum = document.get("checksum")
    folder = f"{verb}/{words}-{count:_}x" + (f"-{str(checksum).lower()}" if checksum else "")
    width = len(str(count))
    size = int(match[1]) * _UNITS[match[2]]
    items = [Item(f"{folder}/{n:0{width}d}", size) for n in range(1, count + 1)]
    return _workload(document, {verb: items})


def _workload(document: dict[str, Any], by_verb: dict[Verb, list[Item]]) -> Workload:
    checksum = document.get("checksum")
    if checksum is not None and checksum not in _CHECKSUMS:
        raise _Wrong(f"checksum is {checksum!r}; known are {', '.join(_CHECKSUMS)} and null")
    on_disk = document.get("filesOnDisk", True)
    if not isinstance(on_disk, bool):
        raise _Wrong("filesOnDisk is neither true nor false")
    seconds = float(_count(document, "maxRepeatSecs", 0, _REPEAT_SECONDS))
    works = []
    for verb, items in by_verb.items():
        work = Work(verb, tuple(items), not on_disk, checksum, seconds)
        if on_disk and len(work.unique()) < len(items):
            raise _Wrong("a key is there twice, and both would be the same file")
        works.append(work)
    return Workload(
        tuple(works),
        max(_count(document, "maxRepeatCount", 1, _REPEATS), 1),
        str(document.get("comment", "")),
    )


def _value(document: dict[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise _Wrong(f"{name} is not there, or not what it should be")
    return value


def _count(document: dict[str, Any], name: str, least: int, default: int | None = None) -> int:
    value = document.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _Wrong(f"{name} is {value!r}")
    return value


def _verb(document: dict[str, Any]) -> Verb:
    verb = document.get("action")
    if verb == "upload":
        return "upload"
    if verb == "download":
        return "download"
    raise _Wrong(f"an action is {verb!r}; known are upload and download")


def _name(key: str) -> str:
    """The key, which is also the path of a file below the work folder."""
    parts = key.split("/")
    if not key or "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise _Wrong(f"the key {key[:60]!r} is no name of a file")
    return key
