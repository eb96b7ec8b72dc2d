"""Sessions: who may do what at the simulated store, and for how long.

What lives here: sets of credentials, their ends, revocation, the source that gives them. What must
not: when they are renewed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import final

import anyio

from engine.errors import SourceUnavailable
from engine.protocols import CredentialProvider
from engine.testing.simulation.store import Refused
from engine.types import Credentials


@final
class Sessions:
    """All that were issued in one schedule.

    Args:
        lifetime: Of each session, in seconds.
    """

    def __init__(self, random: Random, lifetime: float = 900.0) -> None:
        self._random = random
        self.lifetime = lifetime
        self.secrets: list[str] = []
        self.worked = ""
        self._began: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        self.revoked_before = float("-inf")
        self.source_fails_until = float("-inf")
        self.source_failures = 0.0
        self.denied_verbs: frozenset[str] = frozenset()
        self.fetches = self.failed_fetches = 0

    def issue(self, now: float) -> Credentials:
        """A new session."""
        key = f"ASIA{self._random.getrandbits(64):016X}"
        secret, token = (f"{self._random.getrandbits(160):040x}" for _ in range(2))
        self.secrets += (secret, token)
        self._ends[key] = now + self.lifetime
        self._began[key] = now
        return Credentials(
            access_key_id=key,
            secret_access_key=secret,
            session_token=token,
            expires_at=datetime.fromtimestamp(now + self.lifetime, UTC),
            issued_at=datetime.fromtimestamp(now, UTC),
        )

    def heard(self, credentials: Credentials) -> None:
        """The engine has got an answer to a request that was carried out."""
        self.worked = credentials.access_key_id

    def newest_worked(self) -> bool:
        """Whether the engine has heard that the session that was issued last works."""
        return self.worked == next(reversed(self._ends), None)

    def check(self, credentials: Credentials, verb: str, now: float) -> None:
        """Whether a request may be carried out.

        Raises:
            Refused: ExpiredToken, AccessDenied.
        """
        end = self._ends.get(credentials.access_key_id)
        if end is None:
            raise Refused("InvalidAccessKeyId", 403)
        if now >= end:
            raise Refused("ExpiredToken", 400)
        if self._began[credentials.access_key_id] < self.revoked_before:
            raise Refused("AccessDenied", 403)
        if verb in self.denied_verbs:
            raise Refused("AccessDenied", 403)


@final
class SimulatedSource(CredentialProvider):
    """Gives sessions, when it answers."""

    recheck = None

    def __init__(self, sessions: Sessions, random: Random, now: Callable[[], float]) -> None:
        self._sessions = sessions
        self._random = random
        self._now = now

    async def fetch(self) -> Credentials:
        self._sessions.fetches += 1
        await anyio.sleep(self._random.uniform(0.01, 0.5))
        fails = self._random.random() < self._sessions.source_failures
        if fails or self._now() < self._sessions.source_fails_until:
            self._sessions.failed_fetches += 1
            raise SourceUnavailable("the simulated source does not answer")
        return self._sessions.issue(self._now())

    def describe(self) -> str:
        return "simulated source"
