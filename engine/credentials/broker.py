"""Broker: keeps the credentials of one provider fresh, for any number of workers.

Rules of this file
- One task, ``run``, calls the provider; nobody else does. So N waiters make one STS call, and
  a cancelled waiter cancels nothing.
- No worker waits while a set exists that is safe to use.
- Life is measured on the loop's clock from the moment the request was *sent*, as long as
  Expiration minus Date says. A wall clock that is wrong or jumps changes nothing.

Theory of operation
A set of lifetime L is renewed in the background once less than the advisory window is left
(``RefreshPolicy``). When a renewal fails, the old set is served on and the renewal is tried
again with back-off, faster as the end comes nearer. In the mandatory window a request waits
while a renewal is on its way, and takes the old set if it fails; after the last safe second it
waits, and gets the provider's error when waiting cannot help any more.
A worker to whom a server says "expired" reports the generation that it signed with. Only a
report of the current generation starts a renewal. A burst of AccessDenied on a session that
worked looks like a revoked session: one early renewal tells whether it was
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html).
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
from msgspec import structs

from engine.config import RefreshPolicy
from engine.credentials.held import CLOCK_STEP, DENIAL_BURST, MAX_DELAY, HeldSet, retry_delay
from engine.credentials.lease import BrokerLease
from engine.credentials.lender import Lender
from engine.credentials.statistics import BrokerStatistics
from engine.errors import (
    CredentialsError,
    CredentialsExpired,
    EngineError,
    SourceUnavailable,
    WrongLoop,
    another,
)
from engine.events import (
    Emit,
    LeaseExpired,
    LeaseRenewalFailed,
    LeaseRenewed,
    LeaseServedStale,
    silent,
)
from engine.home import Home
from engine.protocols import Clock, CredentialProvider
from engine.redact import mask_key_id
from engine.types import Credentials

# How long a request without a usable set waits for a provider that keeps failing.
MAX_WAIT = 60.0
# The same before there ever was a set: a job that cannot start should say so soon.
FIRST_WAIT = 10.0
# A provider that waits for its own source gives up with us; its reason comes a moment later.
_REASON_GRACE = 5.0
# How long a request in the mandatory window waits for a renewal that is on its way.
STALE_AFTER = 5.0
# A provider that hangs is cancelled and asked again.
FETCH_WITHIN = 120.0
# The least time between two renewals that servers ask for by saying "expired". A store that
# calls every new set expired must not become a storm at STS.
_MIN_FORCED_INTERVAL = 1.0
# So many sets in a row that a server calls expired before one request worked end the job.
MAX_STILLBORN = 5
# How long a denied request waits to see whether others work with the same set.
DENIAL_GRACE = 1.0


class Broker(Lender):
    """Keeps one provider's credentials fresh.

    Args:
        provider: Where sets come from.
        policy: When they are renewed.
        random: Jitter; pass a seeded one to repeat a run.
        emit: Told about renewals and failures.

    Use it as ``async with Broker(...) as broker``, or start ``run_until_stopped`` in a task group.
    """

    def __init__(
        self,
        provider: CredentialProvider,
        *,
        clock: Clock,
        policy: RefreshPolicy | None = None,
        random: Random | None = None,
        emit: Emit = silent,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._policy = policy or RefreshPolicy()
        self._random = random or Random()
        self._emit = emit
        self._live: HeldSet | None = None
        self._error: CredentialsError | None = None
        self._failures = 0
        self._stillborn = 0
        self._generation = 0
        self._forced_at = float("-inf")
        self._asked_again_at = float("-inf")
        self._fetching = False
        self._wanted = False
        self._denied = False
        self._wake = anyio.Event()
        self._changed = anyio.Event()
        self._counts = BrokerStatistics()
        self._home: Home | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self.lease = BrokerLease(self)

    # ---- the worker's side -------------------------------------------------------------

    async def ready(self) -> Credentials:
        """The current set; see ``Lease.ready``."""
        self._check_home()  # also for a set at hand: in a forked child nobody renews it
        live = self._live
        if live is not None and live.is_fresh(self._clock.monotonic()):
            return live.credentials
        return await self._wait_for_set()

    async def at_least(self, seconds: float) -> Credentials:
        """A set that lives ``seconds`` more; see ``Lease.at_least``."""
        credentials = await self.ready()
        if self.remaining(credentials) >= seconds:
            return credentials
        await self._next_generation(credentials.generation)
        fresh = await self.ready()
        if self.remaining(fresh) < seconds:
            raise CredentialsExpired(
                f"a new session of {self._provider.describe()} lives "
                f"{self.remaining(fresh):.0f} s, {seconds:.0f} s are needed",
                fix="Ask for longer sessions (--session-duration), or let Redshift use a role of "
                "its own (--copy-role), which it renews by itself",
            )
        return fresh

    def remaining(self, credentials: Credentials) -> float:
        """Seconds that a set still lives; 0 for a set that is not the current one."""
        live = self._live
        if live is None or not live.is_generation(credentials):
            return 0.0
        return max(0.0, live.safe_deadline - self._clock.monotonic())

    def age(self, credentials: Credentials) -> float:
        """Seconds since a set came; ``inf`` for a set that is not the current one."""
        live = self._live
        if live is None or not live.is_generation(credentials):
            return float("inf")
        return self._clock.monotonic() - live.received_at

    def report_expired(self, credentials: Credentials) -> None:
        """A server called this set expired; see ``Lease.report_expired``."""
        live = self._live
        if live is None or live.reported or not live.is_generation(credentials):
            return
        live.reported = True
        self._stillborn = 0 if live.worked_at is not None else self._stillborn + 1
        self._count(reports=1)
        self._want()

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        """A server took a request signed with this set; see ``Lease.report_worked``."""
        live = self._live
        if live is not None and live.is_generation(credentials):
            now = self._clock.monotonic()
            live.worked(now, now if sent_at is None else sent_at)

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        """See ``Lease.renewed_after_denial``."""
        self._check_home()
        live = self._live
        if live is None or not live.is_generation(credentials):
            return live is not None  # renewed while the request was under way
        if not live.may_be_over(unknown_key) or self._failures:
            return False  # in an outage nothing can be learned, and the set may be good
        live.denied(self._clock.monotonic())
        if live.denials < DENIAL_BURST and not unknown_key:
            with anyio.move_on_after(DENIAL_GRACE):
                await self._changed.wait()
        if live is self._live and live.denials:  # nobody's request worked meanwhile
            self._denied = True
            try:
                await self._next_generation(credentials.generation, tries=1)
            except CredentialsError:
                return False  # that a renewal fails, too, does not explain the denial
        return self._live is not live

    @property
    def is_role(self) -> bool:
        """Whether the sets are sessions of a role, so that the next role is chained."""
        return self._provider.is_role

    def describe(self) -> str:
        """For people: what the credentials are and where they come from."""
        return self._provider.describe()

    def statistics(self) -> BrokerStatistics:
        return self._counts

    def __repr__(self) -> str:
        live = self._live
        if live is None:
            return f"<Broker of {self._provider.describe()}, no set yet>"
        key = mask_key_id(live.credentials.access_key_id)
        return f"<Broker of {self._provider.describe()}, generation {self._generation}, {key}>"

    async def _wait_for_set(self) -> Credentials:
        first = 1
        give_up = self._clock.monotonic() + (MAX_WAIT if self._generation else FIRST_WAIT)
        stale_at = self._clock.monotonic() + STALE_AFTER
        while True:
            self._check_home()
            live, now = self._live, self._clock.monotonic()
            if live is not None and live.is_safe(now):
                if now < live.mandatory_deadline:
                    return live.credentials
                stale_at = min(stale_at, now + (live.safe_deadline - now) / 2)
                if self._failures or now >= stale_at:
                    return self._serve_stale(live)
            self._note_expiry(now)
            self._want()  # before raising: else a final error would be the last word for ever
            reason_may_come = self._fetching and self._error is None
            # The first answer may take its time (a program that asks a person), its failures not.
            patience = _REASON_GRACE if self._generation else MAX_WAIT
            end = give_up + patience if reason_may_come else give_up
            self._raise_if_hopeless(now >= end)
            until = end
            if live is not None and live.is_safe(now):
                until = min(until, stale_at)
            self._count(waits=first, waits_after_first=first if self._generation else 0)
            first = 0  # one request waits once, in however many steps
            with anyio.move_on_after(until - now):
                await self._changed.wait()

    async def _next_generation(self, generation: int, tries: int = 1_000) -> None:
        """Renew now. Comes back without a new set where the source has none newer."""
        give_up = self._clock.monotonic() + MAX_WAIT
        while self._generation == generation:
            self._check_home()
            self._want()
            with anyio.move_on_after(give_up - self._clock.monotonic()):
                await self._changed.wait()
            self._raise_if_hopeless(self._clock.monotonic() >= give_up)
            if not self._failures or self._failures >= tries:
                return

    def _raise_if_hopeless(self, out_of_time: bool) -> None:
        # The error stays until a renewal succeeds: whoever comes in the back-off gets it at
        # once, and none of them costs a call of the provider.
        error = self._error
        if error is not None and (not error.retryable or out_of_time):
            if not self._generation:
                # A copy: every waiter adds its own traceback and notes.
                raise another(error) from error.__cause__
            raise CredentialsExpired(
                f"the session of {self._provider.describe()} ended and could not be renewed: "
                f"{error.headline}",
                fix=error.fix,
                **error.facts,
            ) from error
        if out_of_time:
            raise CredentialsExpired(
                f"{self._provider.describe()} gives no credentials",
                fix="Nothing is lost; run it again when the source answers",
            )

    def _serve_stale(self, live: HeldSet) -> Credentials:
        self._count(served_stale=1)
        if not live.told_stale:
            live.told_stale = True
            left = live.safe_deadline - self._clock.monotonic()
            self._emit(LeaseServedStale(self._provider.describe(), self._generation, left))
        return live.credentials

    def _note_expiry(self, now: float) -> None:
        """Tell, once a set, that it came to its end before there was a newer one."""
        live = self._live
        if live is None or live.told_expired or live.is_safe(now):
            return
        live.told_expired = True
        self._count(expired=1)
        self._emit(LeaseExpired(self._provider.describe(), self._generation, live.reported))

    def _want(self) -> None:
        self._wanted = True
        self._wake.set()

    # ---- the refresher ------------------------------------------------------------------

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Renew until it is cancelled."""
        self._home = Home.here()
        task_status.started()
        try:
            while True:
                with anyio.move_on_after(self._idle_seconds()):
                    await self._wake.wait()
                self._wake = anyio.Event()
                if self._idle_seconds() > 0:
                    continue
                self._wanted = False
                await self._renew()
        finally:
            self._home = None
            self._changed.set()  # who waits is told

    async def run_until_stopped(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """``run``, also while whoever started it is cancelled, until ``stop``: what is cancelled
        has to clean up, and that needs a live set."""
        with anyio.CancelScope(shield=not self._stopped) as self._scope:
            await self.run(task_status=task_status)

    def stop(self) -> None:
        """End ``run_until_stopped``, also where it has not begun yet."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    def _idle_seconds(self) -> float:
        """Seconds until the next call of the provider is due."""
        now, live = self._clock.monotonic(), self._live
        usable = live is not None and live.is_safe(now)
        if self._failures:
            # Nobody waits and nothing is left to save: the next request will ask.
            idle = not usable and not self._wanted
            return float("inf") if idle else max(0.0, self._forced_at - now)
        if live is not None and not usable:
            return max(0.0, self._forced_at - now)
        if self._wanted:
            return max(0.0, self._asked_again_at - now)
        return float("inf") if live is None else max(0.0, live.renew_deadline - now)

    async def _renew(self) -> None:
        sent_at = self._clock.monotonic()
        self._fetching = True
        self._count(fetches=1)
        try:
            with anyio.fail_after(FETCH_WITHIN):
                credentials = await self._provider.fetch()
            self._succeeded(credentials, sent_at)
        except TimeoutError:
            what = f"{self._provider.describe()} did not answer within {FETCH_WITHIN:.0f} s"
            self._failed(SourceUnavailable(what))
        except EngineError as error:
            self._failed(error)
        except Exception as error:
            # Whatever a provider of somebody else raises must not end the refresher.
            failure = CredentialsError(
                f"{self._provider.describe()} failed: {type(error).__name__}"
            )
            failure.__cause__ = error
            self._failed(failure)
        finally:
            self._fetching = False
            self._changed.set()
            self._changed = anyio.Event()

    def _succeeded(self, credentials: Credentials, sent_at: float) -> None:
        now = self._clock.monotonic()
        lifetime = credentials.lifetime
        if lifetime is not None and sent_at + lifetime - CLOCK_STEP <= now:
            raise SourceUnavailable(
                f"{self._provider.describe()} gave a set that had ended when it came",
                fix="Renew what it is from, and check the clocks",
            )
        self._error = None
        self._wanted = False  # whoever wanted a set while this one was fetched has it now
        old = self._live
        if old is not None and old.is_same(credentials):
            # The source has nothing newer yet (IMDS before its last 5 minutes): ask again
            # later, at a quarter of what is left, so that this neither loops nor is late.
            left = max(0.0, old.safe_deadline - now)
            wait = max(CLOCK_STEP, left / 4)
            if old.credentials.lifetime is None and self._provider.recheck is not None:
                wait = self._provider.recheck
            self._denied = False
            if old.reported and not old.confirmed and left:
                # The source stands by it: one false "expired" must not end the job.
                old.reported, old.confirmed = False, True
            old.renew_deadline = now + (min(wait, MAX_DELAY) if old.reported else wait)
            self._forced_at = old.renew_deadline if old.reported else now + _MIN_FORCED_INTERVAL
            self._asked_again_at = now + _MIN_FORCED_INTERVAL
            # Nothing to wait for until then.
            old.mandatory_deadline = max(
                old.mandatory_deadline, min(old.safe_deadline, old.renew_deadline)
            )
            self._failures = 1 if old.reported else 0
            if old.reported:
                self._error = self._nothing_newer()
            return
        if self._stillborn >= MAX_STILLBORN:
            self._stillborn = 0  # whoever asks after that gets another try
            raise CredentialsError(
                f"{MAX_STILLBORN} new sets of {self._provider.describe()} in a row were called "
                "expired at their first use",
                fix="Check the clock of the store, and of this machine",
            )
        self._failures = 0
        self._generation += 1
        credentials = replace(credentials, generation=self._generation)
        self._live = HeldSet.of(
            credentials,
            sent_at=sent_at,
            now=now,
            policy=self._policy,
            random=self._random,
            recheck=self._provider.recheck,
            of_denial=self._denied,
        )
        self._count(renewed_for_denial=1 if self._denied else 0)
        self._denied = False
        self._forced_at = now + _MIN_FORCED_INTERVAL
        self._count(issued=1)
        self._emit(
            LeaseRenewed(
                self._provider.describe(), self._generation, credentials.expires_at, now - sent_at
            )
        )

    def _nothing_newer(self) -> CredentialsError:
        what = f"{self._provider.describe()} has nothing newer than the set that has expired"
        if self._provider.renews:
            return SourceUnavailable(what)
        return CredentialsError(what, fix="Give newer keys")  # waiting would not help

    def _failed(self, error: EngineError) -> None:
        now = self._clock.monotonic()
        self._failures += 1
        self._denied = False
        self._count(failed=1)
        self._note_expiry(now)
        self._error = (
            error
            if isinstance(error, CredentialsError)
            else CredentialsError(error.headline, fix=error.fix)
        )
        live = self._live
        delay = retry_delay(live, self._failures, now, self._random)
        self._forced_at = now + delay
        hopeless = not self._error.retryable and (live is None or not live.is_safe(now))
        self._emit(
            LeaseRenewalFailed(
                self._provider.describe(),
                self._generation,
                error.headline,
                None if hopeless else delay,
            )
        )

    def _count(self, **more: int) -> None:
        self._counts = structs.replace(
            self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()}
        )

    # ---- life ---------------------------------------------------------------------------

    def _check_home(self) -> None:
        if self._home is None:
            raise WrongLoop("the broker is not running", fix="Use it as `async with Broker(...)`")
        self._home.check("broker")

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        with anyio.CancelScope(shield=True):  # it begins at once, and cannot be cancelled then
            await self._tasks.start(self.run_until_stopped)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        self.stop()
        self._tasks.cancel_scope.cancel()
        # Without the error: the task group would put it into a group.
        await self._tasks.__aexit__(None, None, None)
