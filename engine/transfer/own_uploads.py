"""OwnUploads: what uploads in parts this very engine has begun, so that no task of it takes that of
another for what was left by a lost answer.

What must not live here: what is aborted (``nameless.py``).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import final

from engine.types import S3Url, UploadId


@final
class OwnUploads:
    """Of one engine; for one event loop."""

    def __init__(self) -> None:
        self._creating: Counter[S3Url] = Counter()
        self._ids: set[UploadId] = set()

    @contextlib.contextmanager
    def creating(self, url: S3Url) -> Iterator[None]:
        """While an upload to ``url`` may be there whose id nobody has yet."""
        self._creating[url] += 1
        try:
            yield
        finally:
            self._creating[url] -= 1
            if not self._creating[url]:
                del self._creating[url]

    def begun(self, upload_id: UploadId) -> None:
        """Somebody has it, until it is ``over``."""
        self._ids.add(upload_id)

    def over(self, upload_id: UploadId) -> None:
        """It is an object, or aborted."""
        self._ids.discard(upload_id)

    def has(self, upload_id: UploadId) -> bool:
        return upload_id in self._ids

    def creates(self, url: S3Url) -> int:
        """How many tasks ask for an upload to ``url`` just now."""
        return self._creating[url]

    def __repr__(self) -> str:
        return f"<OwnUploads {len(self._ids)} open, {self._creating.total()} asked for>"
