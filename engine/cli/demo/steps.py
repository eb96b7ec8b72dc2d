"""The demo's steps: create tables, load them, compare everything, sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import Engine
from engine.batch import Manifest
from engine.cli.demo.data import TABLES, Table, count_rows
from engine.cli.demo.scene import BUCKET, KEYS_SESSION_SECONDS, Scene
from engine.config import TransferConfig
from engine.credentials import RoleSpec
from engine.errors import ChecksumMismatch, CountMismatch, TransferError
from engine.protocols import Executor
from engine.redshift import CopyOptions, CsvFormat, JdbcUrl, LoadReport
from engine.threads import ThreadDoor
from engine.types import Credentials, MiB, S3Url

if TYPE_CHECKING:
    from engine.events import Emit

PREFIX = f"s3://{BUCKET}/load/"
# Two requests at a time on a slow link: each part then takes seconds, so that one upload is
# signed by several sessions. With all parts at once, all would be signed at the start.
CONFIG = TransferConfig(
    part_size=5 * MiB, multipart_threshold=5 * MiB, max_concurrency=2, max_parts_in_flight=2
)
ORIGIN_SQL = "select origin, cast(count(*) as varchar) from flights group by origin order by origin"

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What the demo found."""

    loads: list[LoadReport] = field(default_factory=list)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    origins: Sequence[tuple[str | None, ...]] = ()
    bytes_up: int = 0
    bytes_down: int = 0
    objects_compared: int = 0
    seconds_up: float = 0.0
    seconds_down: float = 0.0


async def run_steps(
    scene: Scene, files: dict[str, Path], back: Path, sabotage: str, hook: Emit, say: Say
) -> Outcome:
    """All of it. Raises the error of whatever does not hold."""
    outcome = Outcome()
    engine = Engine(
        RoleSpec(scene.staging_role),
        endpoint_url=scene.aws.endpoint,
        sts_endpoint_url=scene.aws.endpoint,
        region=scene.aws.region,
        credentials=Credentials(scene.access_key_id, scene.secret_access_key),
        config=CONFIG,
        hook=hook,
    )
    async with engine:
        await _create_tables(scene)
        for table in TABLES:
            _sabotage_before(scene, table, sabotage)
            await _load(engine, scene, table, files[table.name], outcome, say)
        if sabotage == "flip-byte":
            scene.aws.gate.faults.add(kind="flip", action="GetObject", at=4242, times=None)
        await _fetch_and_compare(engine, files, back, outcome, say)
        await _compare_rows(scene, files, outcome)
        await _sweep(engine, outcome, say)
    return outcome


def _sabotage_before(scene: Scene, table: Table, sabotage: str) -> None:
    if table.name != "flights":
        return
    if sabotage == "drop-row":
        scene.redshift.faults.add("drop-rows", rows=1)
    elif sabotage == "expire":
        scene.aws.gate.expire_sessions(scene.staging_role)
        scene.aws.gate.deny_sts("AccessDenied")


async def _create_tables(scene: Scene) -> None:
    executor = await _connect(scene)
    try:
        for table in TABLES:
            await executor.execute(table.ddl)
    finally:
        await executor.aclose()


async def _connect(scene: Scene) -> Executor:
    from engine.redshift.executors.wire import WireExecutor

    redshift = scene.redshift
    return await WireExecutor.connect(
        JdbcUrl.parse(redshift.jdbc_url), user=redshift.user, password=redshift.password
    )


async def _load(
    engine: Engine, scene: Scene, table: Table, file: Path, outcome: Outcome, say: Say
) -> None:
    started = time.monotonic()
    keys = RoleSpec(scene.keys_role, duration=KEYS_SESSION_SECONDS) if table.with_keys else None
    report = await engine.load(
        [file],
        table=f"public.{table.name}",
        staging=PREFIX,
        database=scene.redshift.jdbc_url,
        user=scene.redshift.user,
        password=scene.redshift.password,
        copy_role=None if keys else scene.copy_role,
        copy_keys_role=keys,
        format=CsvFormat(header=True, null_as="NA"),
        options=CopyOptions(timeformat="auto"),
        keep_staged=True,
    )
    outcome.loads.append(report)
    outcome.bytes_up += report.bytes_staged
    outcome.seconds_up += time.monotonic() - started
    authority = f"keys of a {KEYS_SESSION_SECONDS} s session" if keys else "IAM_ROLE"
    say(f"loaded {table.name}: {report.rows_loaded:,} rows by {authority}")


async def _fetch_and_compare(
    engine: Engine, files: dict[str, Path], back: Path, outcome: Outcome, say: Say
) -> None:
    started = time.monotonic()
    report = await engine.run(Manifest.download(PREFIX, back))
    outcome.seconds_down = time.monotonic() - started
    outcome.bytes_down = report.bytes
    if report.failed:
        raise report.failed[0].error
    for load, table in zip(outcome.loads, TABLES, strict=True):
        for url in load.staged_urls:
            fetched = back / url.key.removeprefix(S3Url.parse(PREFIX).key)
            if not await ThreadDoor().run(_same_bytes, fetched, files[table.name]):
                raise ChecksumMismatch(f"{url} came back with other bytes than went up")
            outcome.objects_compared += 1
    say(f"fetched the stage again: {outcome.objects_compared} files byte-identical")


def _same_bytes(one: Path, other: Path) -> bool:
    block = MiB
    with one.open("rb") as a, other.open("rb") as b:
        while piece := a.read(block):
            if piece != b.read(block):
                return False
        return not b.read(1)


async def _compare_rows(scene: Scene, files: dict[str, Path], outcome: Outcome) -> None:
    executor = await _connect(scene)
    try:
        for table in TABLES:
            source = await ThreadDoor().run(count_rows, files[table.name])
            rows = await executor.fetch_strings(
                f"select cast(count(*) as varchar) from {table.name}"
            )
            target = int(rows[0][0] or 0)
            outcome.rows[table.name] = (source, target)
            if source != target:
                raise CountMismatch(f"{table.name} has {target} rows, its file {source}")
        outcome.origins = await executor.fetch_strings(ORIGIN_SQL)
    finally:
        await executor.aclose()


async def _sweep(engine: Engine, outcome: Outcome, say: Say) -> None:
    urls = [url for load in outcome.loads for url in (*load.staged_urls, load.manifest_url)]
    await engine.delete(urls)
    left = [info.url async for info in engine.list(PREFIX)]
    if left:
        raise TransferError(f"{len(left)} staged objects are still there: {left[0]}")
    say(f"swept the stage: {len(urls)} objects")
