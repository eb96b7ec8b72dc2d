"""Engine: joins the rooms. The only file that knows all of them.

What lives here: opening and closing, and one method a verb. What must not: how a verb works.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.abc

from engine.batch import Manifest, Report, run_batch
from engine.clock import LoopClock
from engine.config import Endpoints, RetryPolicy, TransferConfig
from engine.credentials import SOURCES, Broker, BrokerStatistics, RoleSpec
from engine.credentials.chain import LeaseChain, assume, source_chain
from engine.credentials.providers.static import StaticProvider
from engine.errors import LoadRefused, UsageError, WrongLoop
from engine.events import Emit, Event, silent
from engine.home import Home
from engine.planes import CONTROL_PLANES, DATA_PLANES
from engine.protocols import CredentialProvider, Lease
from engine.retry import Retrier
from engine.settings import endpoints_from, package_version
from engine.staging import EngineStage
from engine.threads import ThreadDoor
from engine.transfer import (
    BytesSource,
    Limiter,
    ObjectReader,
    TransferContext,
    download,
    head,
    list_objects,
    open_file,
    open_read,
    upload,
)
from engine.types import ByteRange, Credentials, ObjectInfo, S3Url, TransferResult

if TYPE_CHECKING:
    from engine._aws.sts import StsClient
    from engine.redshift import CopyOptions, LoadReport
    from engine.redshift.formats import StagingFormat

Source = str | os.PathLike[str] | bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Of one engine, since it was opened."""

    source: BrokerStatistics
    role: BrokerStatistics | None
    data_plane: str


class Engine:
    """Moves objects, and loads them into Redshift, under credentials that are kept fresh.

    Args:
        role: The role to assume; None works as the source itself.
        region: Of the buckets and of STS; else AWS_REGION, AWS_DEFAULT_REGION, us-east-1.
        endpoint_url: S3's address where it is not AWS; else AWS_ENDPOINT_URL_S3.
        sts_endpoint_url: STS's address; else AWS_ENDPOINT_URL_STS.
        credentials: Keys to start from, instead of the role's source.
        source: ``env`` or ``ec2``, where no role says so.
        config: Sizes and limits.
        hook: Told every event; must not block.
        random: Jitter; pass a seeded one to repeat a run.
        refuse_long_chain: Over an hour from a role is an error; else it is cut to an hour.

    Use it as ``async with Engine(...) as s3``; all its methods may run in any number of tasks of
    that event loop.

    Raises:
        WrongLoop: Used in another event loop or process than it was opened in, or under trio.
    """

    def __init__(
        self,
        role: RoleSpec | None = None,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        sts_endpoint_url: str | None = None,
        ca_bundle: str | None = None,
        credentials: Credentials | None = None,
        source: str | None = None,
        config: TransferConfig | None = None,
        retry: RetryPolicy | None = None,
        hook: Emit = silent,
        random: Random | None = None,
        refuse_long_chain: bool = False,
    ) -> None:
        self.run_id = secrets.token_hex(4)
        self._role = role
        self._endpoints = endpoints_from(
            os.environ,
            region=region,
            s3=endpoint_url,
            sts=sts_endpoint_url,
            ca_bundle=ca_bundle,
        )
        self._credentials = credentials
        self._source_name = _source_name(source or (role.source if role else "env"))
        self._config = config or TransferConfig()
        self._retry = retry or RetryPolicy()
        self._emit = _guarded(hook)
        self._random = random or Random()
        self._refuse_long_chain = refuse_long_chain
        self._user_agent = f"s3engine/{package_version()} run/{self.run_id}"
        self._clock = LoopClock()
        self._open: _OpenEngine | None = None

    # ---- verbs ----------------------------------------------------------------------------

    async def upload(self, source: Source, url: S3Url | str) -> TransferResult:
        """One file, or bytes in memory, to one object.

        Raises:
            UsageError: The file cannot be read; nothing was sent.
            TransferError: The object was not written; what was there before is unchanged.
            CredentialsError: No usable credentials.
        """
        engine, target = self._ready(), _object_url(url)
        if isinstance(source, bytes | bytearray | memoryview):
            return await upload(BytesSource(source), target, engine.context)
        async with open_file(Path(source), engine.door) as file:
            return await upload(file, target, engine.context)

    async def download(self, url: S3Url | str, path: str | os.PathLike[str]) -> TransferResult:
        """One object to one file, which appears when it is whole and its checksum is right.

        Raises:
            UsageError: ``path`` cannot be written.
            TransferError: ``path`` is as it was before.
            CredentialsError: No usable credentials.
        """
        return await download(_object_url(url), Path(path), self._ready().context)

    async def run(self, manifest: Manifest) -> Report:
        """Many objects, as the manifest says. One that fails does not stop the others.

        Raises:
            UsageError: The manifest cannot be read.
            CredentialsError: No credentials are to be had any more.
        """
        return await run_batch(manifest, self._ready().context)

    async def head(self, url: S3Url | str) -> ObjectInfo:
        """What S3 says of one object. Raises NotFound, AccessDenied."""
        return await head(_object_url(url), self._ready().context)

    async def list(self, prefix: S3Url | str) -> AsyncIterator[ObjectInfo]:
        """All objects whose keys start with the prefix, in S3's order."""
        async for info in list_objects(S3Url.parse(prefix), self._ready().context):
            yield info

    async def delete(self, urls: Iterable[S3Url | str]) -> int:
        """Delete objects of one bucket; returns how many were named. Raises S3Error."""
        targets = [_object_url(url) for url in urls]
        if len({target.bucket for target in targets}) > 1:
            raise UsageError("the objects to delete are in more than one bucket")
        await EngineStage(self._ready().context).sweep(targets)
        return len(targets)

    @asynccontextmanager
    async def open_read(
        self, url: S3Url | str, range: ByteRange | None = None
    ) -> AsyncIterator[ObjectReader]:
        """An object as a stream: ``async for piece in reader``. The reader sets the pace.

        Raises:
            ChecksumMismatch: At the end of a whole object whose bytes are not what S3 stores.
        """
        async with open_read(_object_url(url), self._ready().context, range) as reader:
            yield reader

    async def load(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        table: str,
        staging: S3Url | str,
        database: str,
        user: str | None = None,
        password: str | None = None,
        copy_role: str | None = None,
        copy_keys_role: RoleSpec | None = None,
        columns: Iterable[str] = (),
        format: StagingFormat | None = None,
        options: CopyOptions | None = None,
        keep_staged: bool = False,
        estimate_seconds: float = 60.0,
        load_id: str | None = None,
    ) -> LoadReport:
        """Stage files to S3 and COPY them into a table, in one transaction.

        Args:
            database: A ``jdbc:redshift:`` URL.
            copy_role: ARN of a role of the cluster (several: comma-separated), or ``default``.
            copy_keys_role: A role whose temporary keys COPY gets instead; its sessions must
                outlive the COPY, which is checked before BEGIN.
            estimate_seconds: How long COPY will take; only used with ``copy_keys_role``.

        Raises:
            LoadRefused: Found before BEGIN.
            CopyFailed, CountMismatch: Rolled back; the stage is kept.
            CommitUnknown: The answer to COMMIT was lost. Never retried by itself.
        """
        from engine.redshift import CopyOptions, CopyRole, CsvFormat, JdbcUrl, LoadRequest, load
        from engine.redshift.executors.wire import WireExecutor

        engine = self._ready()
        if (copy_role is None) == (copy_keys_role is None):
            raise LoadRefused(
                "COPY needs either a role of the cluster or a role whose keys it gets",
                fix="Give one of copy_role and copy_keys_role (--copy-role, --copy-keys-role)",
            )
        target = JdbcUrl.parse(database)
        request = LoadRequest(
            files=tuple(Path(file) for file in files),
            table=table,
            staging=S3Url.parse(staging),
            load_id=load_id or f"{self.run_id}-{secrets.token_hex(4)}",
            authority=CopyRole.parse(copy_role) if copy_role is not None else "keys",
            columns=tuple(columns),
            format=format or CsvFormat(),
            options=options or CopyOptions(),
            keep_staged=keep_staged,
            estimate_seconds=estimate_seconds,
        )
        lease = await engine.extra_lease(copy_keys_role) if copy_keys_role is not None else None
        return await load(
            request,
            EngineStage(engine.context),
            lambda: WireExecutor.connect(target, user=user, password=password, threads=engine.door),
            copy_lease=lease,
            clock=self._clock,
            threads=engine.door,
            hook=self._emit,
        )

    # ---- state ------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """The live credentials of this engine, for use beside it."""
        return self._ready().chain.lease

    def statistics(self) -> EngineStatistics:
        engine = self._ready()
        brokers = engine.chain.brokers
        return EngineStatistics(
            source=brokers[0].statistics(),
            role=brokers[1].statistics() if len(brokers) > 1 else None,
            data_plane=repr(engine.context.data),
        )

    def __repr__(self) -> str:
        state = "closed" if self._open is None else repr(self._open.chain.brokers[-1])
        return f"<Engine run {self.run_id}: {state}>"

    def _ready(self) -> _OpenEngine:
        engine = self._open
        if engine is None:
            raise WrongLoop("the engine is not open", fix="Use it as `async with Engine(...)`")
        engine.home.check("engine")
        return engine

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise WrongLoop("the engine is open already", fix="Make a second Engine")
        opened = _OpenEngine(self, Home.here())
        await opened.start()
        self._open = opened
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened = self._ready()
        self._open = None
        await opened.stop()


class _OpenEngine:
    """What exists only while an engine is open."""

    def __init__(self, engine: Engine, home: Home) -> None:
        self.home = home
        self.door = ThreadDoor()
        self._engine = engine
        self._sts: StsClient | None = None
        self._extra: list[tuple[RoleSpec, Lease]] = []
        self._tasks = anyio.create_task_group()
        self.chain = self._chain()
        self.context = self._context(self.chain.lease)

    async def start(self) -> None:
        await self._tasks.__aenter__()
        try:
            for broker in self.chain.brokers:
                await self._tasks.start(broker.run)
        except BaseException:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            raise

    async def stop(self) -> None:
        """Close everything. The error that ends the engine's block goes on as it is: handed to
        the task group it would come back inside a group."""
        try:
            with anyio.CancelScope(shield=True):
                await self.context.data.aclose()
                await self.context.control.aclose()
                if self._sts is not None:
                    await self._sts.aclose()
        finally:
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)
            self.door.close()

    async def extra_lease(self, role: RoleSpec) -> Lease:
        """A lease of another role from the same source, kept as long as the engine is open."""
        for known, lease in self._extra:
            if known == role:
                return lease
        first = self.chain.brokers[0]
        source = LeaseChain((first,), first.lease, chained=self._source_is_role())
        chain = self._assume(source, role)
        await self._tasks.start(chain.brokers[-1].run)
        self._extra.append((role, chain.lease))
        return chain.lease

    def _chain(self) -> LeaseChain:
        engine = self._engine
        provider = _provider(engine._credentials, engine._source_name, engine._endpoints)
        chain = source_chain(provider, is_role=self._source_is_role(), make=self._broker)
        return chain if engine._role is None else self._assume(chain, engine._role)

    def _assume(self, chain: LeaseChain, role: RoleSpec) -> LeaseChain:
        from engine._aws.sts import StsClient

        engine = self._engine
        if self._sts is None:
            self._sts = StsClient(engine._endpoints, engine._user_agent)
        return assume(
            chain,
            role,
            self._sts,
            session_name=f"s3engine-{engine.run_id}",
            make=self._broker,
            refuse_long_chain=engine._refuse_long_chain,
        )

    def _source_is_role(self) -> bool:
        given = self._engine._credentials
        if given is not None:
            return given.session_token is not None
        # A session token in the environment means a role, or a GetSessionToken session, which
        # STS caps alike (id_credentials_temp_request).
        return self._engine._source_name != "env" or bool(os.environ.get("AWS_SESSION_TOKEN"))

    def _broker(self, provider: CredentialProvider) -> Broker:
        engine = self._engine
        return Broker(provider, clock=engine._clock, random=engine._random, emit=engine._emit)

    def _context(self, lease: Lease) -> TransferContext:
        engine = self._engine
        data = DATA_PLANES.get("wire")(
            engine._endpoints,
            lease,
            clock=engine._clock,
            threads=self.door,
            user_agent=engine._user_agent,
        )
        control = CONTROL_PLANES.get("aws")(engine._endpoints, lease, user_agent=engine._user_agent)
        return TransferContext(
            data=data,
            control=control,
            config=engine._config,
            retrier=Retrier(engine._retry, random=engine._random, emit=engine._emit),
            limiter=Limiter(engine._config),
            door=self.door,
            clock=engine._clock,
            emit=engine._emit,
        )


def _provider(given: Credentials | None, source: str, endpoints: Endpoints) -> CredentialProvider:
    if given is not None:
        return StaticProvider(given)
    return SOURCES.get(source)(os.environ, endpoints)


def _source_name(name: str) -> str:
    name = {"imds": "ec2"}.get(name, name)
    if name not in SOURCES:
        raise UsageError(
            f"unknown source of credentials: {name!r}", fix=f"Known: {', '.join(SOURCES.names())}"
        )
    return name


def _guarded(hook: Emit) -> Emit:
    """A listener that fails must not end a transfer, nor the broker."""

    def emit(event: Event) -> None:
        try:
            hook(event)
        except Exception:
            logging.getLogger("engine").exception("a hook failed at %s", type(event).__name__)

    return emit


def _object_url(url: S3Url | str) -> S3Url:
    parsed = S3Url.parse(url)
    if not parsed.key:
        raise UsageError(f"{parsed} names a bucket, not an object", fix="Add the key")
    return parsed
