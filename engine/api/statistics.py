"""What an engine counts, as frozen values. What must not live here: the counting."""

from __future__ import annotations

from dataclasses import dataclass

from engine.api.opened import OpenEngine
from engine.credentials import BrokerStatistics
from engine.transfer import SlotStatistics


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Of one engine, since it was opened.

    Attributes:
        chain: What each broker's credentials are, and its counts: the source, then the roles.
        buffers, most_buffers: Bytes that all buffers hold now, and have held at most; within
            ``max_memory``.
        small, big: Requests under way and waiting for a slot: of whole objects, and of parts and
            ranges of big ones.
        max_bandwidth: Bytes a second; None for no limit.
        paced_seconds: How long somebody waited for his turn under that limit.
    """

    chain: tuple[tuple[str, BrokerStatistics], ...]
    data_plane: str
    buffers: int
    most_buffers: int
    max_buffers: int
    small: SlotStatistics
    big: SlotStatistics
    max_bandwidth: int | None = None
    paced_seconds: float = 0.0

    @property
    def source(self) -> BrokerStatistics:
        return self.chain[0][1]

    @property
    def role(self) -> BrokerStatistics | None:
        """Of the last role; None without one."""
        return self.chain[-1][1] if len(self.chain) > 1 else None


def statistics_of(engine: OpenEngine) -> EngineStatistics:
    """By now."""
    limiter = engine.context.limiter
    memory, slots, pace = limiter.memory, limiter.statistics(), limiter.pace
    return EngineStatistics(
        chain=tuple((b.describe(), b.statistics()) for b in engine.chain.brokers),
        data_plane=repr(engine.context.data),
        buffers=memory.held,
        most_buffers=memory.most,
        max_buffers=memory.total,
        small=slots.small,
        big=slots.big,
        max_bandwidth=None if pace is None else pace.limit,
        paced_seconds=0.0 if pace is None else pace.waited,
    )
