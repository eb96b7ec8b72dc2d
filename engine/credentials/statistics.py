"""What a broker has done, in numbers. What must not live here: counting (``broker.py``)."""

from __future__ import annotations

from msgspec import Struct


class BrokerStatistics(Struct, frozen=True):
    """Counts since the broker started.

    Attributes:
        fetches: Calls of the provider (STS calls, for a role).
        issued: New sets that came of them.
        failed: Calls that failed.
        waits: Requests that had to wait, those for the first set included.
        waits_after_first: Requests that had to wait although a set had been issued before.
        served_stale: Requests served in the mandatory window by the old set.
        expired: Sets that came to their end before there was a newer one.
        reports: Reports of expiry that concerned the current set.
        renewed_for_denial: Early renewals because of a burst of AccessDenied.
    """

    fetches: int = 0
    issued: int = 0
    failed: int = 0
    waits: int = 0
    waits_after_first: int = 0
    served_stale: int = 0
    expired: int = 0
    reports: int = 0
    renewed_for_denial: int = 0
