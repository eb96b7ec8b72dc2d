"""Reads a file that holds a token: what web identity and container credentials share.

What must not live here: what a token looks like (``providers``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_token_file(path: str, *, limit: int, encoding: str) -> str:
    """The text of ``path``, at most ``limit`` bytes of it. Blocks.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no regular file, or not in ``encoding``.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe may block a thread for ever
        raise ValueError("not a file")
    with Path(path).open("rb") as file:
        return file.read(limit).decode(encoding)
