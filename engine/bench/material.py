"""The bytes that are moved, and whether they came back as they were. Blocks: for a thread.

Blocks of random bytes that differ from each other by a number: nothing compresses them, and a
block in the wrong place is seen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from engine.bench.workload import Item
from engine.errors import UsageError
from engine.types import MiB

_BLOCK = MiB
# The files, and of what is left some air for everybody else.
_AIR = 1.05


def content(number: int, size: int, block: bytes) -> Iterator[bytes]:
    """The bytes of file ``number``, in pieces."""
    done = 0
    while done < size:
        head = number.to_bytes(8, "big") + done.to_bytes(8, "big")
        piece = (head + block[len(head) :])[: size - done]
        yield piece
        done += len(piece)


def make(folder: Path, items: Iterable[Item], random: Random) -> None:
    """Write the files and have them on the disk, so that no tool pays for writing them back."""
    block = random.randbytes(_BLOCK)
    for number, item in enumerate(items):
        path = folder / item.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(content(number, item.size, block))
    os.sync()


def check_room(folder: Path, bytes_needed: int) -> None:
    """Raises UsageError where source and copy would not fit."""
    free = shutil.disk_usage(folder).free
    if free < bytes_needed * _AIR:
        raise UsageError(
            f"{folder} has {free // MiB} MiB free, {int(bytes_needed * _AIR) // MiB} are needed",
            fix="Give another folder by --dir, or fewer or smaller objects",
        )


def empty(folder: Path) -> None:
    """A folder with nothing in it, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def difference(folder: Path, items: Iterable[Item], source: Path | None) -> str:
    """What is wrong with downloaded files, or nothing.

    Args:
        source: Compare every byte with the files there; None looks at names and sizes.
    """
    wanted = {item.name: item.size for item in items}
    got = {
        os.path.relpath(os.path.join(where, name), folder): os.stat(f"{where}/{name}").st_size
        for where, _, names in os.walk(folder)
        for name in names
    }
    if wanted != got:
        odd = sorted({name for name, _ in set(wanted.items()) ^ set(got.items())})
        return f"{len(odd)} files are missing, too many or of another size, such as {odd[0]}"
    for name in wanted if source is not None else ():
        assert source is not None
        if not _same(folder / name, source / name):
            return f"{name} has other bytes than were uploaded"
    return ""


def _same(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            first, second = a.read(_BLOCK), b.read(_BLOCK)
            if first != second:
                return False
            if not first:
                return True
