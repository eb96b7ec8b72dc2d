"""When a body waits for the server's consent (``Expect: 100-continue``, RFC 9110, 10.1.1).

What lives here: whether to ask, from what the servers have said so far. What must not: waiting
(``_wire.connection``), requests.

Consent costs a round trip and saves a body that would have been sent in vain: one that a server
refuses for its region, its rights or its load. So it is asked for where that is likely, and not
where a server has shown that it does not know the question.
"""

from __future__ import annotations

from typing import final

from engine._wire.endpoint import Origin
from engine.config import Endpoints
from engine.types import MiB

# Below this the body is on its way before the answer to a question would be back.
EXPECT_FROM = 2 * MiB
# Buckets and hosts that are remembered; beyond it everything is forgotten, which costs a question.
MAX_KNOWN = 1_000


@final
class Expectations:
    """What one engine knows of the servers' consent."""

    def __init__(self, endpoints: Endpoints) -> None:
        wanted = endpoints.expect_continue
        self._on = endpoints.s3 is None if wanted is None else wanted
        self._refusing: set[str] = set()
        self._deaf: set[Origin] = set()

    def pays(self, bucket: str, origin: Origin, length: int, *, fresh: bool) -> bool:
        """Whether to wait before a body of ``length`` bytes.

        Args:
            fresh: Whether the connection is new, so that nothing is known of what is behind it.
        """
        if not self._on or length < EXPECT_FROM or origin in self._deaf:
            return False
        return fresh or bucket in self._refusing

    def heard(self, bucket: str, status: int) -> None:
        """The last answer on ``bucket``."""
        if 300 <= status < 500 or status == 503:
            self._remember(self._refusing, bucket)
        else:
            self._refusing.discard(bucket)

    def deaf(self, origin: Origin) -> None:
        """``origin`` gave no interim answer in time, or refuses the question (417)."""
        self._remember(self._deaf, origin)

    @staticmethod
    def _remember(known: set[str] | set[Origin], what: object) -> None:
        if len(known) >= MAX_KNOWN:
            known.clear()
        known.add(what)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        state = "on" if self._on else "off"
        return f"<Expectations {state} refusing={len(self._refusing)} deaf={len(self._deaf)}>"
