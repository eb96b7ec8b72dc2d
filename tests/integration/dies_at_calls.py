"""A small download that dies at each of its file calls, one after the other; run as a program.

Prints, a line a death: the call, and what is then under the target's name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio

from engine import Credentials, Engine, Manifest, ObjectOptions, disk

CALLS = (
    "close",
    "fchmod",
    "fsync",
    "ftruncate",
    "mkdir",
    "open",
    "posix_fallocate",
    "pwrite",
    "rename_new",
    "replace",
    "unlink",
    "utime",
    "write",
)
_DIED, _MOST = 9, 100


def main() -> None:
    endpoint, region, key, secret, prefix, folder, how, old = sys.argv[1:]
    target = Path(folder) / "d" / "file"
    for number in range(1, _MOST):
        if old:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(old.encode())
            target.chmod(0o640)
        else:
            target.unlink(missing_ok=True)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            _die_at(number, write)
            engine = Engine(
                endpoint_url=endpoint, region=region, credentials=Credentials(key, secret)
            )
            anyio.run(_fetch, engine, prefix, Path(folder), how)
            os._exit(0)
        os.close(write)
        _, status = os.waitpid(child, 0)
        call = os.read(read, 100).decode() or "none"
        os.close(read)
        there = target.read_text() if target.exists() else "absent"
        print(call, there, oct(target.stat().st_mode & 0o777) if target.exists() else "-")
        code = os.waitstatus_to_exitcode(status)
        if code != _DIED:
            sys.exit(code)


async def _fetch(engine: Engine, prefix: str, folder: Path, how: str) -> None:
    async with engine as s3:
        if how == "tree":
            report = await s3.run(Manifest.download(prefix, folder))
            assert not report.failed, report
        else:
            options = ObjectOptions(if_none_match=how == "new")
            await s3.download(f"{prefix}d/file", folder / "d" / "file", options=options)


def _die_at(number: int, pipe: int) -> None:
    calls = [0]

    def dying(name: str) -> Any:
        real = getattr(disk, name)

        def call(*args: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                os.write(pipe, name.encode())
                os._exit(_DIED)
            return real(*args, **named)

        return call

    for name in CALLS:
        setattr(disk, name, dying(name))
    disk.in_memory = lambda device: False  # type: ignore[assignment]


if __name__ == "__main__":
    main()
