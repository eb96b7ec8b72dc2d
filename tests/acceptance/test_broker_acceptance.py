"""What a broker of credentials must do, a named test for each point of the list.

Where hours pass they are the virtual loop's; all else is the engine against the gate. The numbers
of the tests are those of the list of broker acceptance tests, of which 13 (threshold edges) is
about transfers. What must not live here: how it does so (``tests/unit/credentials``).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from engine import (
    Engine,
    EngineError,
    LoadReport,
    MiB,
    RoleSpec,
    S3Url,
    TransferConfig,
    TransferError,
    UsageError,
    WrongLoop,
)
from engine.credentials import Broker
from engine.errors import S3Error, SourceUnavailable
from engine.events import silent
from engine.testing.clock import run_virtual
from engine.testing.redshift import RedshiftDouble
from engine.types import Credentials
from tests.acceptance.secrets import secrets_of
from tests.integration.conftest import Scene
from tests.unit.credentials.scripted import (
    HOUR,
    RepeatingSource,
    ScriptedSts,
    a_broker,
    sign_for,
    sign_without_waiting,
)

SLOW = pytest.mark.slow
WORKERS = 10_000
EXTERNAL_ID = "canary-external-id-42"
ONE_AFTER_THE_OTHER = TransferConfig(
    multipart_threshold=5 * MiB, part_size=5 * MiB, max_parts_in_flight=1
)


@SLOW
@pytest.mark.parametrize("healthy", [True, False], ids=["healthy", "slow-and-failing"])
def test_g01_ten_thousand_workers_eight_hours_43_leases_no_wait(healthy: bool) -> None:
    chance = Random(3)

    def fails(call: int) -> Exception | None:
        tired = not healthy and chance.random() < 0.2
        return SourceUnavailable("STS is tired") if tired else None

    async def main() -> None:
        sts = ScriptedSts(lifetime=900, latency=0 if healthy else 3, fails=fails)
        async with a_broker(sts) as broker:
            signed = await sign_without_waiting(broker, sts, WORKERS, hours=8, every=60)
            statistics = broker.statistics()
            print(
                f"\n{signed} signatures of {WORKERS} workers, {sts.calls} STS calls, {statistics}"
            )
            assert signed == WORKERS * 8 * 60
            assert abs(statistics.issued - 43) <= 1
            assert sts.calls == statistics.issued + statistics.failed
            assert (statistics.failed == 0) is healthy
            assert statistics.waits == WORKERS  # each for the first set
            assert statistics.waits_after_first == 0
            assert statistics.expired == 0

    run_virtual(main)


def test_g02_sts_down_for_20_minutes_is_not_seen_and_no_stampede_follows() -> None:
    """A fleet of 100 whose leases of 1 h end together; STS is back 10 s before that."""
    down_from, down_until = 2_390.0, 3_590.0

    async def main() -> None:
        sts = ScriptedSts(lifetime=HOUR)
        sts.fails = lambda call: (
            SourceUnavailable("down") if down_from <= anyio.current_time() < down_until else None
        )
        brokers = [a_broker(sts, seed) for seed in range(100)]
        async with anyio.create_task_group() as tasks:
            for broker in brokers:
                await tasks.start(broker.run)
            async with anyio.create_task_group() as workers:
                for broker in brokers:
                    workers.start_soon(sign_for, broker, sts, 3, 1.25, 5)
            tasks.cancel_scope.cancel()
        down = [at for at in sts.called_at if down_from <= at < down_until]
        after = [at for at in sts.called_at if down_until <= at < 4_500]
        busiest = max(sum(s <= at < s + 1 for at in after) for s in range(3_590, 4_500))
        print(f"\n{len(down)} calls while it was down, {len(after)} after, {busiest} in one second")
        assert [broker.statistics().waits_after_first for broker in brokers] == [0] * 100
        assert sum(broker.statistics().expired for broker in brokers) == 0
        assert len(after) == 100, "one for each broker"
        assert busiest < 70
        assert len(down) < 100 * 60, "a call every 10 s would be 9,000"

    run_virtual(main)


def test_g03_a_source_that_repeats_its_set_until_5_minutes_before_its_end_is_not_hammered() -> None:
    async def main() -> None:
        imds = RepeatingSource(lifetime=6 * HOUR, margin=300)
        async with a_broker(imds) as broker:
            await broker.lease.ready()
            await anyio.sleep(24 * HOUR)
            statistics = broker.statistics()
            print(f"\n{imds.calls} calls in a day, {statistics}")
            assert statistics.issued == 5
            assert imds.calls < 100
            assert statistics.expired == 0

    run_virtual(main)


async def test_g04_a_chained_hop_of_12_hours_is_cut_to_the_hour_or_refused(scene: Scene) -> None:
    first = scene.role_with("first", allow=[("sts:AssumeRole", "*")], max_duration=43_200)
    scene.role_with(trust=[first], max_duration=43_200)
    role = RoleSpec(scene.role, source=RoleSpec(first, duration=43_200), duration=43_200)
    async with scene.engine(role=role) as s3:
        await s3.upload(b"bytes", scene.url("key"))
    asked = [entry.parameters["DurationSeconds"] for entry in scene.log("AssumeRole")]
    assert asked == ["43200", "3600"], "the first hop is from a user, so it is no chain"
    with pytest.raises(UsageError, match="at most 1 hour") as caught:
        async with scene.engine(role=role, refuse_long_chain=True):
            pass
    assert "renewed while the job runs" in caught.value.fix


async def test_g05_64_workers_with_one_expired_generation_make_one_refresh(scene: Scene) -> None:
    async with scene.engine() as s3:
        await s3.upload(b"first", scene.url("first"))
        first = scene.log("PutObject")[0].access_key_id
        # All are under way before the first is answered.
        faults = scene.aws.gate.faults
        faults.add(kind="delay", action="PutObject", seconds=2, times=64)
        faults.add(kind="expired", action="PutObject", times=64)
        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(s3.upload, b"x" * number, scene.url(f"n/{number}"))
    refused = [entry for entry in scene.log("PutObject") if entry.error_code == "ExpiredToken"]
    assert {entry.access_key_id for entry in refused} == {first}
    assert len(refused) == 64
    assert len(scene.log("AssumeRole")) == 2
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 65


@pytest.mark.filterwarnings("error")
def test_g06_a_cancelled_waiter_does_not_cancel_the_renewal_for_the_others() -> None:
    async def main() -> None:
        sts = ScriptedSts(latency=5)
        async with a_broker(sts) as broker:
            got: list[int] = []

            async def wait() -> None:
                got.append((await broker.lease.ready()).generation)

            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    if number % 2:
                        tasks.start_soon(wait)
                    else:
                        tasks.start_soon(_give_up_after, 1, broker)
            assert got == [1] * 30
            assert sts.calls == 1

    run_virtual(main)
    gc.collect()  # a coroutine that was never awaited would say so now


async def _give_up_after(seconds: float, broker: Broker) -> None:
    with anyio.move_on_after(seconds) as scope:
        await broker.lease.ready()
    assert scope.cancelled_caught


async def test_g07_a_bare_400_on_head_is_expiry_near_the_end_and_looked_behind_far_from_it(
    scene: Scene,
) -> None:
    gate = scene.aws.gate
    gate.put_object(scene.bucket, "key", b"bytes")
    scene.role_with(session_lifetime=20)
    async with scene.engine() as s3:
        assert (await s3.head(scene.url("key"))).size == 5
        gate.expire_sessions(scene.role)
        assert (await s3.head(scene.url("key"))).size == 5
    assert len(scene.log("AssumeRole")) == 2
    assert scene.log("GetObject") == []
    gate.log.clear()

    scene.role_with(session_lifetime=900)
    for action in ("HeadObject", "HeadBucket"):
        gate.faults.add(kind="status", action=action, status=400, code="Unknown", times=None)
    async with scene.engine() as s3:
        with pytest.raises(S3Error) as caught:
            await s3.head(scene.url("key"))
        assert caught.value.status == 400
        assert len(scene.log("AssumeRole")) == 1, "the GET was answered, so nothing has expired"
        gate.faults.clear()
        gate.expire_sessions(scene.role)
        assert (await s3.head(scene.url("key"))).size == 5
    assert [entry.headers["range"] for entry in scene.log("GetObject")] == ["bytes=0-0"] * 2
    assert len(scene.log("AssumeRole")) == 2


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_g08_a_wall_clock_that_jumps_by_an_hour_ends_no_lease_early_or_late(jump: float) -> None:
    """Wrong from the start, right from the second hour on, wrong again, and once in each call."""

    async def main() -> None:
        sts = ScriptedSts(clock_error=jump, latency=2)

        async def jumps() -> None:
            for error in (0.0, jump, -jump, jump, 0.0):
                await anyio.sleep(1.4 * HOUR)
                sts.clock_error = error

        async with a_broker(sts) as broker, anyio.create_task_group() as tasks:
            tasks.start_soon(jumps)
            await sign_for(broker, sts, workers=10, hours=8, every=7)
            statistics = broker.statistics()
            print(f"\n{statistics}")
            assert abs(sts.calls - 43) <= 1
            assert (statistics.waits_after_first, statistics.expired) == (0, 0)

    run_virtual(main)


@SLOW
@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_g08_signatures_are_timed_by_the_clock_that_servers_correct(
    scene: Scene, off: float, tmp_path: Path
) -> None:
    """This machine's clock is an hour off: one refused call, then STS, GET, PUT and HEAD work."""
    scene.role_with(session_lifetime=6)
    scene.aws.gate.clock_offset = off
    async with scene.engine() as s3:
        end, renewed = anyio.current_time() + 6, 0
        while anyio.current_time() < end and renewed < 3:  # and some work after the renewal
            await s3.upload(b"bytes", scene.url("key"))
            await s3.download(scene.url("key"), tmp_path / "key")
            await anyio.sleep(0.1)
            role = s3.statistics().role
            renewed += role is not None and role.issued > 1
        statistics = s3.statistics().role
    assert statistics is not None
    print(f"\n{statistics}")
    assert statistics.issued == 2, "a renewal every 3 s"
    assert sum(entry.failed for entry in scene.log("AssumeRole")) == 1, "the clock is learned once"
    assert (statistics.expired, statistics.waits_after_first) == (0, 0)
    assert [e for e in scene.aws.gate.log.where(service="s3") if e.failed] == []


async def test_g09_an_upload_begun_under_one_lease_is_completed_under_the_third_after_it(
    scene: Scene,
) -> None:
    gate = scene.aws.gate
    for number in (2, 3, 4):
        gate.faults.add(
            kind="call",
            action="UploadPart",
            part_number=number,
            call=lambda: gate.expire_sessions(scene.role),
        )
    gate.faults.add(kind="error_in_200", action="CompleteMultipartUpload", code="InternalError")
    data = os.urandom(26 * MiB)
    async with scene.engine(config=ONE_AFTER_THE_OTHER) as s3:
        result = await s3.upload(data, scene.url("long"))
    assert result.verified
    (created,) = scene.log("CreateMultipartUpload")
    failed, done = scene.log("CompleteMultipartUpload")
    assert (failed.status, failed.error_code, done.status) == (200, "InternalError", 200)
    issued = [entry.issued_key_id for entry in scene.log("AssumeRole")]
    assert issued.index(done.access_key_id) - issued.index(created.access_key_id) == 3
    assert gate.get_object(scene.bucket, "long") == data


async def test_g10_a_complete_whose_answer_was_lost_is_verified_as_done(scene: Scene) -> None:
    gate = scene.aws.gate
    gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
    data = os.urandom(11 * MiB)
    async with scene.engine(config=ONE_AFTER_THE_OTHER) as s3:
        result = await s3.upload(data, scene.url("key"))
        assert result.verified
        lost, again = scene.log("CompleteMultipartUpload")
        assert (lost.status, again.error_code) == (0, "NoSuchUpload")
        assert gate.get_object(scene.bucket, "key") == data

        gate.faults.add(kind="drop", action="CompleteMultipartUpload")
        gate.faults.add(
            kind="call",
            action="CompleteMultipartUpload",
            nth=2,
            call=lambda: _replace_by_a_stranger(scene),
        )
        with pytest.raises(TransferError):  # the object that is there is somebody else's
            await s3.upload(data, scene.url("key"))
    assert gate.get_object(scene.bucket, "key") == b"a stranger's"


def _replace_by_a_stranger(scene: Scene) -> None:
    (upload,) = scene.aws.gate.open_uploads(scene.bucket)
    url = S3Url.parse(scene.url("key"))
    target = f"/{url.bucket}/{url.key}?uploadId={upload.upload_id}"
    assert scene.aws.request("DELETE", target).status == 204
    scene.aws.gate.put_object(scene.bucket, "key", b"a stranger's")


@SLOW
async def test_g11_keys_for_copy_that_would_not_outlive_it_are_minted_anew(
    scene: Scene, sales: RedshiftDouble, tmp_path: Path
) -> None:
    """700 s are left of the keys' session, and the COPY is estimated at 900 s."""
    rows = _rows(tmp_path, "1\n2\n")
    reader = scene.role_with("reader", session_lifetime=700)
    async with scene.engine() as s3:
        for estimate in (60, 900):
            await _load(s3, scene, sales, rows, RoleSpec(reader), estimate_seconds=estimate)
            scene.role_with("reader", session_lifetime=3600)
    minted = [
        entry.issued_key_id
        for entry in scene.log("AssumeRole")
        if entry.parameters["RoleArn"] == reader
    ]
    assert len(minted) == 2
    read = [e.access_key_id for e in scene.log("GetObject") if e.key.endswith(rows.name)]
    assert read == minted, "the second COPY read under keys that outlive it"


@SLOW
async def test_g12_no_secret_in_a_log_a_traceback_a_repr_or_the_history_of_sql(
    scene: Scene, sales: RedshiftDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Moved, expired, loaded by keys, refused, denied; all types and settings: ``tests/house``."""
    caplog.set_level(logging.DEBUG)
    good, bad = _rows(tmp_path, "1\n"), _rows(tmp_path, "x\n")
    role = scene.role_with("partner", external_id=EXTERNAL_ID)
    reader = RoleSpec(scene.role_with("reader"))
    async with scene.engine(role=RoleSpec(role, external_id=EXTERNAL_ID)) as s3:
        await s3.upload(b"bytes", scene.url("key"))
        scene.aws.gate.expire_sessions(role)
        await s3.upload(b"bytes", scene.url("key"))
        said = [repr(await _load(s3, scene, sales, good, reader))]
        said.append(await _traceback_of(_load(s3, scene, sales, bad, reader)))
        scene.aws.gate.expire_sessions(role)
        scene.aws.gate.deny_sts("AccessDenied")
        said.append(await _traceback_of(s3.upload(b"bytes", scene.url("key"))))
        said += map(repr, (s3, s3.broker, s3.lease, s3.statistics(), scene.role))
    assert [copy.auth for copy in sales.copies] == ["keys", "keys"]
    said += map(repr, (*sales.copies, *scene.events))
    said += [f"{record.getMessage()} {record.exc_text}" for record in caplog.records]
    secrets = [*secrets_of(scene.aws), EXTERNAL_ID, sales.password]
    assert len(secrets) > 10
    for text in said:
        assert [secret for secret in secrets if secret in text] == [], text


@SLOW
async def test_g14_two_loops_and_forks_do_not_share_a_lease_without_opening_it_anew(
    scene: Scene,
) -> None:
    async with scene.engine() as s3:
        await s3.upload(b"first", scene.url("first"))

        def in_another_loop() -> None:
            with pytest.raises(WrongLoop, match="another event loop"):
                asyncio.run(s3.upload(b"x", scene.url("thread")))

        await anyio.to_thread.run_sync(in_another_loop)
        if sys.platform != "win32":
            assert _said_by_a_child(scene, s3.lease.ready()) == "before a fork; its own: done"
        await s3.upload(b"last", scene.url("last"))
    assert len(scene.log("AssumeRole")) == 2, "the child's is its own"
    assert scene.aws.gate.list_keys(scene.bucket) == ["child", "first", "last"]


def _said_by_a_child(scene: Scene, waiting: Coroutine[object, object, Credentials]) -> str:
    """What a forked child meets with the parent's lease, and then with an engine of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # vanish without a trace of the test runner
        try:
            os.write(write, _in_the_child(scene, waiting).encode())
        finally:
            os._exit(0)
    waiting.close()
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as said:
        return said.read()


def _in_the_child(scene: Scene, waiting: Coroutine[object, object, Credentials]) -> str:
    try:
        waiting.send(None)
    except WrongLoop as error:
        headline = error.headline

    async def own() -> None:
        async with scene.engine(hook=silent) as s3:
            await s3.upload(b"child", scene.url("child"))

    asyncio.run(own())
    return f"{headline.removeprefix('the broker was opened ')}; its own: done"


@pytest.fixture
def sales(s3engine_redshift: RedshiftDouble) -> RedshiftDouble:
    """A Redshift with an empty table."""
    s3engine_redshift.query("create table sales (id integer)")
    s3engine_redshift.query("grant all on sales to public")
    return s3engine_redshift


def _rows(folder: Path, text: str) -> Path:
    path = folder / f"rows-{len(list(folder.iterdir()))}.csv"
    path.write_text(text)
    return path


async def _load(
    s3: Engine, scene: Scene, table: RedshiftDouble, rows: Path, keys: RoleSpec, **more: Any
) -> LoadReport:
    return await s3.load(
        [rows],
        table="sales",
        staging=scene.url("load/"),
        database=table.jdbc_url,
        user=table.user,
        password=table.password,
        copy_keys_role=keys,
        **more,
    )


async def _traceback_of(failing: Awaitable[object]) -> str:
    with pytest.raises(EngineError) as caught:
        await failing
    return "".join(traceback.format_exception(caught.value))
