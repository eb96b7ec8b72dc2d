"""Temporaries: how files are called until they are whole, so that none of a dead process stays.

Rules of this file
- A run with a journal has its id in all names. What the journal names is gone on with, or removed,
  by whoever goes on with the object.
- What it does not name, because naming it would cost more than to fetch it again, is removed by a
  resumed run in each folder that it writes to; that of other runs and of itself never.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import final

from engine import disk
from engine.transfer.folders import Folder

PREFIX = ".s3engine-"
SUFFIX = ".part"
# In the names of those that the journal has.
_KEPT = "kept"
# Folders that are remembered; others are looked at once more.
_MAX_FOLDERS = 10_000


@final
class Temporaries:
    """Names of one process.

    Args:
        run_id: Of the run with a journal; empty without one.
        session: Of this process of the run.
        resumed: Whether earlier processes of the run may have left something; also one that died
            before it had a journal.
    """

    def __init__(self, run_id: str = "", session: str = "", *, resumed: bool = False) -> None:
        self._run = f"{PREFIX}{run_id}-" if run_id else PREFIX
        self._own = f"{self._run}{session}-" if run_id else PREFIX
        self.resumed = resumed and bool(run_id)
        self._swept: set[str] = set()

    def new(self, folder: Folder) -> str:
        """A name for a file that no journal names. In a thread: the first of a folder may have to
        tidy it up."""
        self.tidy(folder)
        return f"{self._own}{secrets.token_hex(8)}{SUFFIX}"

    def tidy(self, folder: Folder) -> None:
        """In a thread: remove what dead processes of a resumed run left in a folder; once."""
        if self.resumed:
            self._sweep(folder)

    def new_kept(self) -> str:
        """A name for a file that the journal names."""
        return f"{self._run}{_KEPT}-{secrets.token_hex(8)}{SUFFIX}"

    def _sweep(self, folder: Folder) -> None:
        if folder.path in self._swept:
            return
        try:
            left = [name for name in disk.names_in(folder.at, folder.path) if self._is_left(name)]
        except OSError:
            return  # nobody may look
        if len(self._swept) >= _MAX_FOLDERS:
            self._swept.clear()
        self._swept.add(folder.path)
        for name in left:
            with contextlib.suppress(OSError):
                disk.unlink(folder.name(name), dir_fd=folder.at)

    def _is_left(self, name: str) -> bool:
        ours = name.startswith(self._run) and name.endswith(SUFFIX)
        return ours and not name.startswith((self._own, f"{self._run}{_KEPT}-"))

    def __repr__(self) -> str:
        return f"<Temporaries {self._own}*{SUFFIX}>"


WITHOUT_RUN = Temporaries()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one of ours, in the folder of its target."""
    return os.path.basename(name) == name and name.startswith(PREFIX) and name.endswith(SUFFIX)
