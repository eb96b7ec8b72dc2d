"""OpenFolders: the folders of one root that are open, held by descriptors, and closed in time.

What lives here: how many stay open, and when one is closed. What must not: how a folder is reached
(``folders.py`` to write, ``source_tree.py`` to read).
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar, final

from engine import disk


class OpenFolder:
    """A folder that is open.

    Attributes:
        above: Its path below the root; empty for the root.
        at: Its descriptor; None where the system wants whole paths.
        users: How many are at it.
    """

    __slots__ = ("above", "at", "users")

    def __init__(self, above: str, at: int | None) -> None:
        self.above = above
        self.at = at
        self.users = 0

    def close(self) -> None:
        """Its descriptor; nobody may be at it."""
        if self.at is not None:
            at, self.at = self.at, None
            disk.close(at)


F = TypeVar("F", bound=OpenFolder)


@final
class OpenFolders(Generic[F]):
    """Of one root, by their paths below it. One that is in use when it is forgotten is closed by
    the last who leaves it.

    Args:
        most: How many stay open beside the root.

    Attributes:
        lock: To be held by who calls ``get``, ``keep`` or ``forget``, or counts a user; the other
            methods take it.
    """

    def __init__(self, most: int) -> None:
        self.lock = threading.Lock()
        self._most = most
        self._kept: dict[str, F] = {}

    def get(self, above: str) -> F | None:
        return self._kept.get(above)

    def keep(self, folder: F) -> F:
        """In the place of the oldest one, where there are too many."""
        if len(self._kept) > self._most:
            self.forget(self._kept[next(name for name in self._kept if name)])
        self._kept[folder.above] = folder
        return folder

    def forget(self, folder: F) -> None:
        """Whoever comes opens it anew."""
        self._kept.pop(folder.above, None)
        if not folder.users:
            folder.close()

    def leave(self, folder: F) -> None:
        """One is not at it any more."""
        with self.lock:
            folder.users -= 1
            if not folder.users and self._kept.get(folder.above) is not folder:
                folder.close()

    def close(self) -> None:
        """Forget them all."""
        with self.lock:
            for folder in list(self._kept.values()):
                self.forget(folder)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<OpenFolders {len(self._kept)}/{self._most}>"
