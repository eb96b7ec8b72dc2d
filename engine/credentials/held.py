"""The set of credentials that a broker holds, with its instants on the loop's clock.

What lives here: arithmetic of one set. What must not: when to call the provider (``broker.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from engine.config import RefreshPolicy
from engine.types import Credentials

# Expiration and Date have steps of one second, so the end is known to one second.
CLOCK_STEP = 1.0
# Denied requests in a row, with none that worked between them, that make a burst: a session
# that was revoked is denied everything, a lacking permission denies one kind of request.
DENIAL_BURST = 3

# Back-off of failed renewals, seconds; full jitter. 30 s keeps an account that is throttled
# by STS below one call a broker every 15 s.
BASE_DELAY = 0.5
MAX_DELAY = 30.0

_NEVER = float("inf")


@dataclass(slots=True)
class HeldSet:
    """One set in use.

    Attributes:
        received_at: When it came.
        renew_deadline: From here on it is renewed in the background.
        mandatory_deadline: From here on requests wait for a renewal that is on its way.
        safe_deadline: From here on it is not used any more.
        reported: A server called it expired.
        confirmed: The source stood by it after that.
        worked_at: When a server last took a request signed with it.
        denials: Requests denied, with none that was sent since the first of them and worked.
        denied_at: When that first one was heard.
        of_denial: It was fetched because the one before was denied.
        failures_after: Renewals that failed since it was over.
    """

    credentials: Credentials
    received_at: float
    renew_deadline: float
    mandatory_deadline: float
    safe_deadline: float
    of_denial: bool = False
    reported: bool = False
    confirmed: bool = False
    worked_at: float | None = None
    denials: int = 0
    denied_at: float = float("-inf")
    failures_after: int = 0
    told_stale: bool = False
    told_expired: bool = False

    @classmethod
    def of(
        cls,
        credentials: Credentials,
        *,
        sent_at: float,
        now: float,
        policy: RefreshPolicy,
        random: Random,
        recheck: float | None,
        of_denial: bool = False,
    ) -> HeldSet:
        """Life is counted from the moment the request was *sent*: never too long."""
        lifetime = credentials.lifetime
        if lifetime is None:
            again = _NEVER if recheck is None else now + recheck
            return cls(credentials, now, again, _NEVER, _NEVER, of_denial)
        end = sent_at + lifetime
        jitter = 1 - random.uniform(0, policy.jitter)
        safe = end - CLOCK_STEP
        return cls(
            credentials,
            now,
            renew_deadline=end - policy.advisory(lifetime) * jitter,
            mandatory_deadline=min(safe, end - policy.mandatory(lifetime)),
            safe_deadline=safe,
            of_denial=of_denial,
        )

    def is_generation(self, credentials: Credentials) -> bool:
        return self.credentials.generation == credentials.generation

    def is_same(self, credentials: Credentials) -> bool:
        """Whether it is this very set. The same keys with a later end are newer: EC2 has
        trouble, and its set is used on (static stability)."""
        ours, theirs = self.credentials, credentials
        if (ours.access_key_id, ours.secret_access_key, ours.session_token) != (
            theirs.access_key_id,
            theirs.secret_access_key,
            theirs.session_token,
        ):
            return False
        if ours.expires_at is None or theirs.expires_at is None:
            return ours.expires_at == theirs.expires_at
        return theirs.expires_at <= ours.expires_at

    def is_fresh(self, now: float) -> bool:
        """Whether a request takes it without a second thought."""
        return not self.reported and now < self.mandatory_deadline

    def is_safe(self, now: float) -> bool:
        """Whether it may be used at all."""
        return not self.reported and now < self.safe_deadline

    def worked(self, now: float, sent_at: float) -> None:
        """A request of ``sent_at`` was taken. One that was sent before a denial was heard may have
        been taken before the session was revoked, and says nothing of now."""
        self.worked_at = now
        if sent_at >= self.denied_at:
            self.denials = 0

    def denied(self, now: float) -> None:
        if not self.denials:
            self.denied_at = now
        self.denials += 1

    def tries(self, now: float, failures: int) -> int:
        """A renewal failed: how many did in a row, counted anew once the set is over. Who waits
        then must not inherit the patience of those who still had a set."""
        if self.is_safe(now):
            return failures
        self.failures_after += 1
        return self.failures_after

    def may_be_over(self, unknown_key: bool) -> bool:
        """Whether a denial may mean more than a lacking permission.

        Only once: a set that was fetched because of a denial and is denied too shows that
        renewing does not help. A key that the server knows must be a session that worked.
        """
        if self.of_denial:
            return False
        return unknown_key or (
            self.credentials.expires_at is not None and self.worked_at is not None
        )


def retry_delay(live: HeldSet | None, failures: int, now: float, random: Random) -> float:
    """Seconds until a failed renewal is tried again."""
    tries = failures if live is None else live.tries(now, failures)
    ceiling = min(MAX_DELAY, BASE_DELAY * 2.0 ** min(tries, 16))
    if live is not None and now < live.safe_deadline:
        # The nearer the end, the more often: four tries in what is left, at any time.
        ceiling = min(ceiling, max(BASE_DELAY, (live.safe_deadline - now) / 4))
    return random.uniform(ceiling / 2, ceiling)
