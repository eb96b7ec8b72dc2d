"""Engine: the front. One method a verb.

What must not live here: how a verb works, how an engine is opened (``opened.py``).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import structs

from engine.api.background import outcomes
from engine.api.journals import journal_of
from engine.api.opened import (
    EngineSetup,
    OpenEngine,
    guarded,
    of_an_engine,
    source_of,
    telling_clock,
)
from engine.api.statistics import EngineStatistics, statistics_of
from engine.api.streaming import StreamingVerbs, copy_rules
from engine.api.streaming import object_url as _object_url
from engine.config import AddressingStyle, RegionMismatch, RetryPolicy, TransferConfig
from engine.credentials import Broker, RoleSpec
from engine.errors import LoadRefused, UsageError, WrongLoop
from engine.events import Emit, silent
from engine.home import Home
from engine.options import ObjectOptions
from engine.pace import Pace
from engine.planes import DEFAULT_PLANE
from engine.protocols import CredentialProvider, Lease
from engine.settings import endpoints_from
from engine.transfer import (
    BytesSource,
    ObjectReader,
    TransferContext,
    download,
    head,
    list_objects,
    list_pages,
    open_file,
    open_read,
    upload,
)
from engine.types import ByteRange, Credentials, ObjectInfo, S3Url, TransferResult
from engine.version import VERSION

if TYPE_CHECKING:
    from engine.batch import Manifest, Outcome, Report
    from engine.batch.journal import Journal
    from engine.redshift import CopyOptions, LoadReport
    from engine.redshift.formats import StagingFormat

Source = str | os.PathLike[str] | bytes | bytearray | memoryview


class Engine(StreamingVerbs):
    """Moves objects, and loads them into Redshift, under credentials that are kept fresh.

    Args:
        role: The role to assume; None works as the source itself.
        region: Of the buckets and of STS; else AWS_REGION, AWS_DEFAULT_REGION, us-east-1.
        endpoint_url: S3's address where it is not AWS; else AWS_ENDPOINT_URL_S3.
        sts_endpoint_url: STS's address, or ``global`` for sts.amazonaws.com; else
            AWS_ENDPOINT_URL_STS, else the region's.
        redshift_endpoint_url: The Redshift API's address; else AWS_ENDPOINT_URL_REDSHIFT.
        region_mismatch: ``follow`` a bucket to the region that it says it is in, or ``error``.
        addressing_style: ``path``, ``virtual``, or ``auto``: virtual-host style where it can be.
        dualstack, fips: AWS's hosts with IPv6, with FIPS 140 validated TLS; else
            AWS_USE_DUALSTACK_ENDPOINT, AWS_USE_FIPS_ENDPOINT.
        proxy: URL of an HTTP proxy, or ``none``; else HTTPS_PROXY, HTTP_PROXY, NO_PROXY.
        expect_continue: Whether a big body may wait for ``100 Continue`` on a new connection;
            None is yes for AWS's own hosts, no for others.
        credentials: Keys to start from, instead of the role's source.
        source: A source's name (``default``, ``env``, ``profile``, ``ec2``, ...), or a provider
            of your own; where the role names none.
        profile: Of the AWS configuration files; else AWS_PROFILE.
        config: Sizes and limits.
        options: What objects are stored and read with, where a verb's own do not say otherwise.
        hook: Told every event; must not block.
        random: Jitter; pass a seeded one to repeat a run.
        refuse_long_chain: Over an hour from a role is an error; else it is cut to an hour.
        data_plane: How requests to S3 are made: ``wire`` by our own client, ``aws`` by aioboto3
            (slower; to compare with), or by one that you registered.

    Verbs take ``options`` of their own, which go before those of the engine. Use it as
    ``async with Engine(...) as s3``; all its methods may run in any number of tasks of
    that event loop.

    Raises:
        UsageError: Settings that cannot be, or do not go together.
        WrongLoop: Used in another event loop or process than it was opened in, or under trio.
    """

    def __init__(
        self,
        role: RoleSpec | None = None,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        sts_endpoint_url: str | None = None,
        redshift_endpoint_url: str | None = None,
        region_mismatch: RegionMismatch = "follow",
        addressing_style: AddressingStyle | None = None,
        dualstack: bool | None = None,
        fips: bool | None = None,
        proxy: str | None = None,
        expect_continue: bool | None = None,
        ca_bundle: str | None = None,
        credentials: Credentials | None = None,
        source: str | CredentialProvider | None = None,
        profile: str | None = None,
        config: TransferConfig | None = None,
        retry: RetryPolicy | None = None,
        options: ObjectOptions | None = None,
        hook: Emit = silent,
        random: Random | None = None,
        refuse_long_chain: bool = False,
        data_plane: str = DEFAULT_PLANE,
    ) -> None:
        self.run_id = secrets.token_hex(4)
        endpoints = endpoints_from(
            os.environ,
            region=region,
            s3=endpoint_url,
            sts=sts_endpoint_url,
            redshift=redshift_endpoint_url,
            region_mismatch=region_mismatch,
            addressing_style=addressing_style,
            dualstack=dualstack,
            fips=fips,
            proxy=proxy,
            expect_continue=expect_continue,
            ca_bundle=ca_bundle,
            profile=profile,
        )
        emit = guarded(hook)
        config = config or TransferConfig()
        limit = config.max_bandwidth
        self._setup = EngineSetup(
            run_id=self.run_id,
            role=role,
            source=source_of(credentials, source, role),
            profile=profile,
            endpoints=endpoints,
            config=config,
            retry=retry or RetryPolicy(),
            options=of_an_engine(options, endpoints),
            emit=emit,
            clock=telling_clock(emit),
            random=random or Random(),
            refuse_long_chain=refuse_long_chain,
            data_plane=data_plane,
            user_agent=f"s3engine/{VERSION} run/{self.run_id}",
            pace=None if limit is None else Pace(limit),
        )
        self._open: OpenEngine | None = None

    # ---- verbs ----------------------------------------------------------------------------

    async def upload(
        self, source: Source, url: S3Url | str, *, options: ObjectOptions | None = None
    ) -> TransferResult:
        """One file, or bytes in memory, to one object.

        Raises:
            UsageError: The file cannot be read; nothing was sent.
            TransferError: The object was not written; what was there before is unchanged.
            ObjectExists, ObjectChanged: So too, because the condition of ``options`` did not hold.
            CredentialsError: No usable credentials.
        """
        engine, target = self._ready(), _object_url(url)
        context = engine.writing(options)
        if isinstance(source, bytes | bytearray | memoryview):
            return await upload(BytesSource(source), target, context)
        async with open_file(Path(source), engine.door) as file:
            return await upload(file, target, context)

    async def download(
        self,
        url: S3Url | str,
        path: str | os.PathLike[str],
        *,
        options: ObjectOptions | None = None,
    ) -> TransferResult:
        """One object to one file, which appears when it is whole and its checksum is right.

        Raises:
            UsageError: ``path`` cannot be written.
            TransferError: ``path`` is as it was before.
            ObjectArchived, ClientEncrypted: So too; what to do first is in the error.
            CredentialsError: No usable credentials.
        """
        return await download(_object_url(url), Path(path), self._ready().working(options))

    async def run(
        self,
        manifest: Manifest,
        *,
        options: ObjectOptions | None = None,
        source_options: ObjectOptions | None = None,
        source_engine: Engine | None = None,
        through: bool = False,
        keep_tags: bool = True,
        journal: Journal | str | os.PathLike[str] | None = None,
    ) -> Report:
        """Many objects, as the manifest says. One that fails does not stop the others.

        ``source_options`` and what follows it are about copies from S3 to S3, see ``copy``.

        Args:
            journal: A file, or one that is open: what is done and what is under way is kept there,
                and the same manifest goes on from it after any death. Without one, what a failed
                or cancelled run has left at S3 is taken away.

        Raises:
            UsageError: The manifest cannot be read, or ``options`` are of one object.
            CredentialsError: No credentials are to be had any more.
            JournalError: The journal is in use, damaged, or of another work.
        """
        from engine.batch import run_batch

        context = self._moving(manifest, options, source_options, source_engine, through, keep_tags)
        async with journal_of(journal, manifest, context, self._ready()) as kept:
            return await run_batch(manifest, context, kept)

    def transfer(
        self,
        manifest: Manifest,
        *,
        options: ObjectOptions | None = None,
        source_options: ObjectOptions | None = None,
        source_engine: Engine | None = None,
        through: bool = False,
        keep_tags: bool = True,
        journal: Journal | str | os.PathLike[str] | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """``run``, with what becomes of each entry as it is known, in no order::

            async for outcome in s3.transfer(manifest):
                if isinstance(outcome, Failure): ...

        Who is slow to take one holds the others back. Leaving the loop early cancels the rest:
        what was moved stays, nothing unfinished is visible. With ``contextlib.aclosing`` around
        it all of that is done when the block ends; else soon after.

        Raises:
            UsageError: The manifest cannot be read, or ``options`` are of one object.
            CredentialsError: No credentials are to be had any more.
            JournalError: The journal is in use, damaged, or of another work.
        """
        context = self._moving(manifest, options, source_options, source_engine, through, keep_tags)
        engine = self._ready()
        kept = journal_of(journal, manifest, context, engine)
        return outcomes(manifest, context, engine.begin, kept)

    def open_journal(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        identity: str,
        command: Sequence[str] = (),
        left_out: Sequence[str] = (),
        cwd: str | None = None,
    ) -> Journal:
        """A journal for ``run`` and ``transfer``, as ``Journal.open``: by the clock of this engine,
        and by its run id where it begins a run."""
        from engine.batch.journal import Journal

        engine = self._ready()
        return Journal.open(
            path,
            identity=identity,
            session=self.run_id,
            command=command,
            left_out=left_out,
            cwd=cwd,
            door=engine.door,
            clock=engine.setup.clock,
        )

    async def head(self, url: S3Url | str, *, options: ObjectOptions | None = None) -> ObjectInfo:
        """What S3 says of one object, or of the version of ``options``.

        Raises NotFound, AccessDenied.
        """
        return await head(_object_url(url), self._ready().working(options))

    def list(
        self, prefix: S3Url | str, *, options: ObjectOptions | None = None
    ) -> AsyncIterator[ObjectInfo]:
        """All objects whose keys start with the prefix, in S3's order."""
        return list_objects(S3Url.parse(prefix), self._ready().working(options))

    def list_pages(
        self, prefix: S3Url | str, *, options: ObjectOptions | None = None
    ) -> AsyncIterator[Sequence[ObjectInfo]]:
        """``list`` by pages of up to 1,000 objects, as S3 answers."""
        return list_pages(S3Url.parse(prefix), self._ready().working(options))

    async def delete(
        self, urls: Iterable[S3Url | str], *, options: ObjectOptions | None = None
    ) -> int:
        """Delete objects of one bucket; returns how many were named. Raises S3Error."""
        targets = [_object_url(url) for url in urls]
        if len({target.bucket for target in targets}) > 1:
            raise UsageError("the objects to delete are in more than one bucket")
        from engine.staging import EngineStage

        await EngineStage(self._ready().working(options)).sweep(targets)
        return len(targets)

    @asynccontextmanager
    async def open_read(
        self,
        url: S3Url | str,
        range: ByteRange | None = None,
        *,
        options: ObjectOptions | None = None,
    ) -> AsyncIterator[ObjectReader]:
        """An object as a stream: ``async for piece in reader``. The reader sets the pace.

        Raises:
            ChecksumMismatch: At the end of a whole object whose bytes are not what S3 stores.
        """
        async with open_read(_object_url(url), self._ready().working(options), range) as reader:
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
        from engine.staging import EngineStage

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
            EngineStage(engine.staging()),
            lambda: WireExecutor.connect(target, user=user, password=password, threads=engine.door),
            copy_lease=lease,
            clock=engine.setup.clock,
            threads=engine.door,
            hook=engine.setup.emit,
        )

    # ---- state ------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """The live credentials of this engine, for use beside it."""
        return self.broker.lease

    @property
    def broker(self) -> Broker:
        """The broker of the credentials in use: to share them with other tools."""
        return self._ready().chain.broker

    @property
    def s3_endpoint(self) -> str | None:
        """S3's address; None where it is AWS."""
        return self._setup.endpoints.s3

    @property
    def sources_considered(self) -> tuple[str, ...]:
        """A line for each source that was looked at; the last is the one that is used."""
        return self._ready().plan.why

    def statistics(self) -> EngineStatistics:
        return statistics_of(self._ready())

    def share_bandwidth(self, other: Engine) -> None:
        """Keep to the limit of ``other``, together with it: both are of one loop, and this one is
        not open yet. For an engine that reads what another one writes.

        Raises:
            WrongLoop: This one is open.
        """
        if self._open is not None:
            raise WrongLoop("the engine is open already", fix="Share before it is opened")
        self._setup = structs.replace(self._setup, pace=other._setup.pace)

    def __repr__(self) -> str:
        state = "closed" if self._open is None else repr(self._open.chain.brokers[-1])
        return f"<Engine run {self.run_id}: {state}>"

    def _moving(
        self,
        manifest: Manifest,
        options: ObjectOptions | None,
        source_options: ObjectOptions | None,
        source_engine: Engine | None,
        through: bool,
        keep_tags: bool,
    ) -> TransferContext:
        engine = self._ready()
        rules = copy_rules(
            engine,
            source_options=source_options,
            source_engine=source_engine,
            through=through,
            keep_tags=keep_tags,
        )
        return engine.moving(manifest, options, rules)

    def _ready(self) -> OpenEngine:
        engine = self._open
        if engine is None:
            raise WrongLoop("the engine is not open", fix="Use it as `async with Engine(...)`")
        engine.home.check("engine")
        return engine

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise WrongLoop("the engine is open already", fix="Make a second Engine")
        opened = OpenEngine(self._setup, Home.here())
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
