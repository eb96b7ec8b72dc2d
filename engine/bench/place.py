"""The prefix that a benchmark works in: taken only where it is empty, emptied at the end.

Everything is written below one folder of the prefix, beside a marker that is written first. So
what a killed run left is known by its marker and removed by the next; anything else is not ours.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from engine.api import Engine
from engine.bench.workload import Item
from engine.errors import UsageError
from engine.types import S3Url

FOLDER = "s3engine-bench/"
MARKER = "made-by-s3engine-bench.json"
# DeleteObjects takes as many.
_BATCH = 1000


class BenchPlace:
    """``s3://bucket/prefix/s3engine-bench/``."""

    def __init__(self, engine: Engine, prefix: S3Url) -> None:
        key = prefix.key if not prefix.key or prefix.key.endswith("/") else prefix.key + "/"
        self._engine = engine
        self.prefix = S3Url(prefix.bucket, key)
        self.root = S3Url(prefix.bucket, key + FOLDER)
        self._claimed = False

    def below(self, name: str) -> S3Url:
        """A folder of the place, with its slash."""
        return S3Url(self.root.bucket, f"{self.root.key}{name}/")

    async def claim(self) -> int:
        """Take the place; returns how many objects of a killed run were removed.

        Raises:
            UsageError: Something is there that no benchmark made.
            EngineError: The bucket cannot be listed or written.
        """
        left = 0
        marked = False
        async with aclosing(self._keys(self.prefix)) as keys:
            async for key in keys:
                if not key.startswith(self.root.key):
                    raise UsageError(
                        f"{self.prefix} is not empty: {key} is there",
                        fix="Give a prefix with nothing below it; the benchmark writes and deletes",
                    )
                marked = marked or key == self.root.key + MARKER
                left += 1
        if left and not marked:
            raise UsageError(
                f"{self.root} holds {left} objects and no marker of a benchmark",
                fix="Give a prefix with nothing below it; the benchmark writes and deletes",
            )
        self._claimed = True
        if left:
            await self.empty(self.root)
        made = json.dumps({"run": self._engine.run_id, "at": datetime.now(UTC).isoformat()})
        await self._engine.upload(made.encode(), self.root.join(MARKER))
        return left

    async def difference(self, folder: S3Url, items: tuple[Item, ...]) -> str:
        """What is wrong with what was uploaded, by names and sizes; or nothing."""
        wanted = {folder.key + item.name: item.size for item in items}
        got = {}
        async for info in self._engine.list(folder):
            got[info.url.key] = info.size
        if wanted == got:
            return ""
        odd = sorted({key for key, _ in set(wanted.items()) ^ set(got.items())})
        return f"{len(odd)} objects are missing, too many or of another size, such as {odd[0]}"

    async def empty(self, folder: S3Url) -> None:
        """Delete all objects below a folder of the place."""
        assert folder.key.startswith(self.root.key)
        batch: list[S3Url | str] = []
        async with aclosing(self._keys(folder)) as keys:
            async for key in keys:
                batch.append(S3Url(folder.bucket, key))
                if len(batch) == _BATCH:
                    await self._engine.delete(batch)
                    batch = []
        if batch:
            await self._engine.delete(batch)

    async def leave(self) -> None:
        """Delete everything that was written; the marker last, so that a second try is possible."""
        if not self._claimed:
            return
        for name in ("data", "up", "ceiling"):
            await self.empty(self.below(name))
        await self.empty(self.root)

    async def _keys(self, prefix: S3Url) -> AsyncGenerator[str, None]:
        async for info in self._engine.list(prefix):
            yield info.url.key
