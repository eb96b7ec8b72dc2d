"""The bytes that are moved: ``python -m benchmarks.data FOLDER BIG_SIZE COUNT SMALL_SIZE``.

Makes ``big`` (one file), ``small/`` (a tree of files) and ``spec.json`` (for the origin: the same
bytes as objects ``big`` and ``small/...``, with the CRC64NVME that S3 would keep of them). A
process of its own: its memory must not count as that of the processes that the harness starts.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from random import Random

_BLOCK = 1024 * 1024


def small_name(number: int) -> str:
    """The name of a small file, and the end of its key."""
    return f"{number // 100:04d}/{number:06d}"


def make(folder: Path, big_size: int, count: int, small_size: int) -> None:
    """Write everything into ``folder``, which must be empty."""
    from awscrt import checksums  # here: the harness only wants ``small_name``

    objects = [["big", 0, 0, big_size, _write(folder / "big", big_size, seed=1)]]
    pack = folder / "pack"
    with pack.open("wb") as packed:
        for number in range(count):
            data = Random(number).randbytes(small_size)
            path = folder / "small" / small_name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            packed.write(data)
            crc = _encode(checksums.crc64nvme(data))
            objects.append([f"small/{small_name(number)}", 1, number * small_size, len(data), crc])
    spec = {"files": [str(folder / "big"), str(pack)], "objects": objects}
    (folder / "spec.json").write_text(json.dumps(spec))
    # What is dirty now would be written while the first client is measured.
    os.sync()


def _write(path: Path, size: int, seed: int) -> str:
    """Blocks that differ from each other, so that a block in the wrong place is seen."""
    from awscrt import checksums

    block = Random(seed).randbytes(_BLOCK)
    crc = done = 0
    with path.open("wb") as file:
        while done < size:
            data = (done.to_bytes(8, "big") + block[8:])[: size - done]
            file.write(data)
            crc = checksums.crc64nvme(data, crc)
            done += len(data)
    return _encode(crc)


def _encode(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


if __name__ == "__main__":
    make(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:5]))
