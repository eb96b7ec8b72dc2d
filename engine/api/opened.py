"""OpenEngine: what exists only while an engine is open, and what it is made from.

What lives here: brokers, planes and tasks, their beginning and their end. What must not: verbs.
"""

from __future__ import annotations

import logging
import os
from random import Random
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.lowlevel
from msgspec import Struct
from msgspec.structs import replace

from engine._wire.sts import StsClient
from engine.api.background import Work
from engine.clock import LoopClock
from engine.config import Endpoints, RetryPolicy, TransferConfig
from engine.credentials import (
    Broker,
    RoleSpec,
    SourceContext,
    SourcePlan,
    plan_source,
    source_names,
)
from engine.credentials.chain import ChainBuilder
from engine.credentials.providers.static import StaticProvider
from engine.credentials.sources import ALIASES
from engine.errors import LoadRefused, UsageError
from engine.events import ClockCorrected, Emit, Event, silent
from engine.home import Home
from engine.options import PLAIN, ObjectOptions
from engine.pace import Pace
from engine.planes import DATA_PLANES, open_planes
from engine.protocols import Clock, CredentialProvider, Lease
from engine.retry import Retrier
from engine.threads import ThreadDoor
from engine.transfer import CopyRules, FileWriter, Limiter, TransferContext
from engine.types import Credentials

if TYPE_CHECKING:
    from engine.batch import Manifest


class EngineSetup(Struct, frozen=True):
    """What an engine was given, checked and with its defaults."""

    run_id: str
    role: RoleSpec | None
    source: str | CredentialProvider
    profile: str | None
    endpoints: Endpoints
    config: TransferConfig
    retry: RetryPolicy
    options: ObjectOptions
    emit: Emit
    clock: Clock
    random: Random
    refuse_long_chain: bool
    data_plane: str
    user_agent: str
    pace: Pace | None = None

    def __post_init__(self) -> None:
        if self.data_plane not in DATA_PLANES:
            known = ", ".join(DATA_PLANES.names())
            raise UsageError(f"unknown data plane: {self.data_plane!r}", fix=f"Known: {known}")


class OpenEngine:
    """What exists only while an engine is open."""

    def __init__(self, setup: EngineSetup, home: Home) -> None:
        self.home = home
        self.door = ThreadDoor()
        self.setup = setup
        self._sts = StsClient(
            setup.endpoints, setup.user_agent, clock=setup.clock, threads=self.door
        )
        self._extra: list[tuple[RoleSpec, Lease]] = []
        self._extra_lock = anyio.Lock()
        self._tasks = anyio.create_task_group()
        self._running: list[Broker] = []
        self._works: set[Work] = set()
        self._builder = ChainBuilder(
            self._sts,
            session_name=f"s3engine-{setup.run_id}",
            make=self._broker,
            refuse_long_chain=setup.refuse_long_chain,
        )
        self.plan = self._plan()
        source = self._builder.assume(self._builder.source(self.plan.provider), self.plan.roles)
        self._before_role = source
        self.chain = self._builder.assume(source, setup.role.hops() if setup.role else ())
        self.context = self._context(self.chain.broker.lease)

    async def start(self) -> None:
        if isinstance(self.setup.clock, LoopClock):
            self.setup.clock.settle()
        if self.setup.pace is not None:
            self.setup.pace.settle()
        await self._tasks.__aenter__()
        try:
            for broker in self.chain.brokers:
                await self._start(broker)
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            self._stop_brokers()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            raise

    async def stop(self) -> None:
        """Close everything. The error that ends the engine's block goes on as it is: handed to
        the task group it would come back inside a group."""
        try:
            with anyio.CancelScope(shield=True):
                for work in list(self._works):
                    await work.stop()
                await self.context.data.aclose()
                await self.context.control.aclose()
                await self._sts.aclose()
        finally:
            self._stop_brokers()
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            self.door.close()

    async def _start(self, broker: Broker) -> None:
        self._running.append(broker)
        with anyio.CancelScope(shield=True):  # it begins at once, and cannot be cancelled then
            await self._tasks.start(broker.run_until_stopped)

    def begin(self, work: Work) -> None:
        """Begin something that ends with the engine at the latest, before its connections do."""

        async def run() -> None:
            try:
                await work.run()
            finally:
                self._works.discard(work)

        self._works.add(work)
        self._tasks.start_soon(run)

    def _stop_brokers(self) -> None:
        for broker in self._running:
            broker.stop()

    def working(self, options: ObjectOptions | None) -> TransferContext:
        """What a verb works with, under options of its own.

        Raises:
            UsageError: A customer's key, and no https.
        """
        if options is None or options == PLAIN:
            return self.context
        options = options.over(self.context.options)
        _refuse_in_clear(options, self.setup.endpoints)
        return replace(self.context, options=options)

    def writing(self, options: ObjectOptions | None) -> TransferContext:
        """``working`` for one object that is written.

        Raises:
            UsageError: A version is named.
        """
        context = self.working(options)
        if context.options.version_id is not None:
            raise UsageError("a version can be read, not written", fix="Leave version_id out")
        return context

    def moving(
        self, manifest: Manifest, options: ObjectOptions | None, copies: CopyRules
    ) -> TransferContext:
        """``working`` for all objects of a manifest, which are copied by ``copies``.

        Raises:
            UsageError: A version or an ETag is named, and there may be more than one object; a
                version, and it would be written.
        """
        context = self.working(options)
        if not manifest.is_one_object:
            _refuse_single(context.options)
        elif any(entry.operation != "download" for entry in manifest.entries):
            context = self.writing(options)
        return replace(context, copies=copies)

    def staging(self) -> TransferContext:
        """``working`` for files that Redshift is to read.

        Raises:
            LoadRefused: It could not.
        """
        context = self.working(None)
        if context.options.customer_key is not None:
            raise LoadRefused(
                "COPY cannot read objects under a customer's key (SSE-C)",
                fix="Load with an engine that encrypts by AES256 or aws:kms",
            )
        return context

    async def extra_lease(self, role: RoleSpec) -> Lease:
        """A lease of another role from the same source, kept as long as the engine is open."""
        async with self._extra_lock:  # to start a broker takes a turn of the loop
            for known, lease in self._extra:
                if known == role:
                    return lease
            running = len(self._before_role.brokers)
            chain = self._builder.assume(self._before_role, role.hops())
            for broker in chain.brokers[running:]:
                await self._start(broker)
            self._extra.append((role, chain.broker.lease))
            return chain.broker.lease

    def _plan(self) -> SourcePlan:
        setup = self.setup
        if not isinstance(setup.source, str):
            return SourcePlan(setup.source, why=("given by the caller",))
        context = SourceContext(
            environ=os.environ,
            endpoints=setup.endpoints,
            sts=self._sts,
            session_name=f"s3engine-{setup.run_id}",
            door=self.door,
            profile=setup.profile,
            user_agent=setup.user_agent,
            random=setup.random,
        )
        return plan_source(setup.source, context)

    def _broker(self, provider: CredentialProvider) -> Broker:
        setup = self.setup
        return Broker(provider, clock=setup.clock, random=setup.random, emit=setup.emit)

    def _context(self, lease: Lease) -> TransferContext:
        setup = self.setup
        data, control = open_planes(
            setup.data_plane,
            setup.endpoints,
            lease,
            clock=setup.clock,
            threads=self.door,
            user_agent=setup.user_agent,
            emit=setup.emit,
            pace=setup.pace,
        )
        return TransferContext(
            data=data,
            control=control,
            config=setup.config,
            retrier=Retrier(setup.retry, random=setup.random, emit=setup.emit),
            limiter=Limiter(
                setup.config, setup.clock, data.round_trip, self.door.at_work, setup.pace
            ),
            door=self.door,
            writer=FileWriter(self.door),
            clock=setup.clock,
            emit=setup.emit,
            lease=lease,
            options=setup.options,
        )


def source_of(
    given: Credentials | None, source: str | CredentialProvider | None, role: RoleSpec | None
) -> str | CredentialProvider:
    """Where credentials come from: given keys, else the source, else what the role says."""
    if given is not None:
        return StaticProvider(given)
    chosen = source or (role.first_source if role else "default")
    if isinstance(chosen, str) and chosen not in (*source_names(), *ALIASES):
        raise UsageError(
            f"unknown source of credentials: {chosen!r}", fix=f"Known: {', '.join(source_names())}"
        )
    return chosen


def of_an_engine(options: ObjectOptions | None, endpoints: Endpoints) -> ObjectOptions:
    """What all verbs of an engine share.

    Raises:
        UsageError: A version or an ETag, which are of one object; a customer's key, and no https.
    """
    if options is None or options == PLAIN:
        return PLAIN
    _refuse_in_clear(options, endpoints)
    _refuse_single(options)
    return options


def _refuse_in_clear(options: ObjectOptions, endpoints: Endpoints) -> None:
    endpoint = endpoints.s3 or ""
    if options.customer_key is not None and endpoint.lower().startswith("http:"):
        raise UsageError(
            "a customer's key goes along with every request, and this endpoint is not https",
            fix="Use an https endpoint; S3 refuses such a key over http too",
        )


def _refuse_single(options: ObjectOptions) -> None:
    for name in ("version_id", "if_match"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"{name} names one object, and this may be many",
                fix="Give it with the verb that moves that object",
            )


def telling_clock(emit: Emit) -> LoopClock:
    """A clock whose correction by a server is told, since nothing else would be seen of it."""

    def corrected(seconds: float) -> None:
        emit(ClockCorrected(seconds))
        logging.getLogger("engine").warning(
            "the clock of this machine is %.0f s %s that of the server; requests go by the "
            "server's. Set the clock, or let NTP do it",
            abs(seconds),
            "behind" if seconds > 0 else "ahead of",
        )

    return LoopClock(corrected)


def guarded(hook: Emit) -> Emit:
    """A listener that fails must not end a transfer, nor the broker."""

    if hook is silent:
        return hook

    def emit(event: Event) -> None:
        try:
            hook(event)
        except Exception:
            logging.getLogger("engine").exception("a hook failed at %s", type(event).__name__)

    return emit
