"""What the doctor works with: the source, STS, the planes, a clock. Opened and closed here.

Nothing here renews and nothing waits long: every call is tried a few times within ``STEP_SECONDS``.
What must not live here: a check.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar, final

import anyio
from msgspec.structs import replace

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.config import Endpoints, RetryPolicy, Timeouts
from engine.credentials import SourceContext, SourcePlan, plan_source
from engine.credentials.sources import DEFAULT
from engine.credentials.sts import Sts
from engine.doctor.reach import Answer, reach
from engine.doctor.regions import sts_url
from engine.errors import ConnectionFailed, CredentialsError
from engine.events import silent
from engine.planes import DEFAULT_PLANE, open_planes
from engine.protocols import Clock, ControlPlane, CredentialProvider, DataPlane, Lease
from engine.retry import Retrier, classify_direct
from engine.threads import ThreadDoor
from engine.types import Credentials
from engine.version import VERSION

T = TypeVar("T")

# What one step may take, its repetitions included. People wait before the screen.
STEP_SECONDS = 10.0
_TIMEOUTS = Timeouts(connect=3.0, first_byte=8.0, stall=8.0, complete=8.0)
# A hiccup is not a finding; an outage is one, and soon.
_RETRY = RetryPolicy(max_attempts=3, base_delay=0.2, max_delay=1.0)


@dataclass(frozen=True, slots=True)
class Setup:
    """Where the doctor looks.

    Attributes:
        source: Name of a source of credentials, or a provider.
        environ: What the source looks at.
        no_last_resort: Told where the default chain would end at the EC2 instance role, which
            was said not to be meant; None lets it.
    """

    endpoints: Endpoints
    source: str | CredentialProvider = "default"
    profile: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    no_last_resort: CredentialsError | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything that a check may use."""

    endpoints: Endpoints
    plan: SourcePlan
    sts: Sts
    clock: Clock
    door: ThreadDoor
    random: Random
    retrier: Retrier
    run_id: str
    user_agent: str
    named: bool = True
    """Whether the source was named; else the default chain has chosen it."""

    @property
    def session_name(self) -> str:
        return f"s3engine-{self.run_id}"

    async def call(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """``call()``, repeated where that may help, within ``STEP_SECONDS``.

        Raises:
            EngineError: As the call does; ConnectionFailed where the time is over.
        """
        try:
            with anyio.fail_after(STEP_SECONDS):
                return (await self.retrier.run(what, None, call))[0]
        except TimeoutError:
            raise ConnectionFailed(f"no answer to {what} within {STEP_SECONDS:g} s") from None

    async def reach_sts(self) -> Answer:
        """Raises ConnectionFailed, ProtocolError: nobody is there."""
        return await reach(
            sts_url(self.endpoints),
            self.endpoints,
            clock=self.clock,
            threads=self.door,
            user_agent=self.user_agent,
        )

    @asynccontextmanager
    async def planes(
        self, credentials: Credentials
    ) -> AsyncIterator[tuple[DataPlane, ControlPlane]]:
        """S3 as the holder of ``credentials`` sees it."""
        lease = FixedLease(credentials, self.clock)
        data, control = open_planes(
            DEFAULT_PLANE,
            self.endpoints,
            lease,
            clock=self.clock,
            threads=self.door,
            user_agent=self.user_agent,
        )
        try:
            yield data, control
        finally:
            with anyio.CancelScope(shield=True):
                await data.aclose()
                await control.aclose()


@asynccontextmanager
async def open_tools(setup: Setup) -> AsyncIterator[Tools]:
    """The tools, as long as the block lasts.

    Raises:
        UsageError: No such source, or one that cannot be used.
    """
    run_id = secrets.token_hex(4)
    endpoints = replace(setup.endpoints, timeouts=_TIMEOUTS)
    user_agent = f"s3engine/{VERSION} run/{run_id}"
    random, door = Random(), ThreadDoor()
    clock = LoopClock()
    sts = StsClient(endpoints, user_agent, clock=clock, threads=door)
    context = SourceContext(
        environ=setup.environ,
        endpoints=endpoints,
        sts=sts,
        session_name=f"s3engine-{run_id}",
        door=door,
        profile=setup.profile,
        user_agent=user_agent,
    )
    try:
        yield Tools(
            endpoints,
            await door.run(_plan, setup, context),  # it reads files
            sts,
            clock,
            door,
            random,
            Retrier(_RETRY, random=random, emit=silent, verdict=classify_direct),
            run_id,
            user_agent,
            setup.source != DEFAULT,
        )
    finally:
        with anyio.CancelScope(shield=True):
            await sts.aclose()
        door.close()


def _plan(setup: Setup, context: SourceContext) -> SourcePlan:
    source = setup.source
    if not isinstance(source, str):
        return SourcePlan(source, why=("given",))
    try:
        plan = plan_source(source, context)
    except CredentialsError as error:
        return SourcePlan(NoSource(source, error))
    if setup.no_last_resort is not None and source == DEFAULT and is_instance_role(plan):
        return SourcePlan(NoSource(source, setup.no_last_resort), why=plan.why[:-1])
    return plan


def is_instance_role(plan: SourcePlan) -> bool:
    """Whether the keys are those of the EC2 instance itself."""
    return not plan.roles and plan.provider.describe().startswith("instance role")


@final
class NoSource(CredentialProvider):
    """Stands for a source that is not set up, so that this is told as a finding."""

    is_role = False

    def __init__(self, name: str, reason: CredentialsError) -> None:
        self._name = name
        self._reason = reason

    async def fetch(self) -> Credentials:
        raise self._reason

    def describe(self) -> str:
        return "no source" if self._name == DEFAULT else f"source {self._name}, not set up"


@final
class FixedLease(Lease):
    """One set that is not renewed: an examination ends long before a session does."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock
        self._since = clock.monotonic()

    async def ready(self) -> Credentials:
        return self._credentials

    async def at_least(self, seconds: float) -> Credentials:
        return self._credentials

    def remaining(self, credentials: Credentials) -> float:
        lifetime = credentials.lifetime
        return float("inf") if lifetime is None else lifetime - self.age(credentials)

    def age(self, credentials: Credentials) -> float:
        return self._clock.monotonic() - self._since

    def report_expired(self, credentials: Credentials) -> None:
        """There is no other set."""

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        """Nobody asks."""

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        return False
