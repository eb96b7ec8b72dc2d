"""The link that all connections of the gate share: so many bytes a second, both directions.

What lives here: the token bucket. What must not: anything that knows requests.
"""

from __future__ import annotations

import asyncio

# Bytes that may pass at once after a pause. Small, so that short transfers are slow as well.
BURST_SECONDS = 0.02
# Largest piece that is accounted at once while the link is limited; smaller pieces are smoother.
PIECE = 16 * 1024


class Link:
    """Delays callers so that together they stay under ``bandwidth``.

    Attributes:
        bandwidth: Bytes a second, or None for no limit. May be set from any thread.
    """

    def __init__(self) -> None:
        self.bandwidth: int | None = None
        self._free_at = 0.0

    @property
    def piece(self) -> int:
        """How many bytes to move between two calls of ``take``."""
        return PIECE if self.bandwidth else 1024 * 1024

    async def take(self, size: int) -> None:
        """Wait until ``size`` further bytes may pass. First come, first served."""
        bandwidth = self.bandwidth
        if not bandwidth or not size:
            return
        now = asyncio.get_running_loop().time()
        start = max(self._free_at, now - BURST_SECONDS)
        self._free_at = start + size / bandwidth
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
