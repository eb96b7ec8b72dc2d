"""Whether a client wrote the files that were served. What must not live here: a heavy import."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from benchmarks.harness import RunFailed


def check_files(source: Path, target: Path, *, content: bool) -> None:
    """The same names and sizes, and the same bytes where ``content`` asks for it."""
    wanted, got = _files(source), _files(target)
    if wanted != got:
        odd = sorted(set(wanted.items()) ^ set(got.items()))[:3]
        raise RunFailed(f"other files than were served, such as {odd}")
    for name in wanted if content else ():
        if not filecmp.cmp(source / name, target / name, shallow=False):
            raise RunFailed(f"{target / name} has other bytes than were served")


def _files(root: Path) -> dict[str, int]:
    if root.is_file():
        return {"": root.stat().st_size}
    return {
        os.path.relpath(os.path.join(folder, name), root): os.stat(f"{folder}/{name}").st_size
        for folder, _, names in os.walk(root)
        for name in names
    }
