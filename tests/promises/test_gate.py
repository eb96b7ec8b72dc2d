"""What no other test shows of the 22 promises: through the engine, at the gate or an origin."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from engine import (
    Credentials,
    Engine,
    EngineError,
    Manifest,
    MiB,
    RetryPolicy,
    TransferConfig,
    TransferError,
)
from engine.events import ClockCorrected, Retried
from tests.integration.conftest import Scene
from tests.unit.origin import Exchange, Origin, Script, run_origin

PART = 5 * MiB
PARTS = TransferConfig(multipart_threshold=PART, multipart_download_threshold=PART, part_size=PART)
QUICK = RetryPolicy(max_attempts=4, base_delay=0.01, max_delay=0.05)
KEYS = Credentials("AKIDEXAMPLE", "secret")


@asynccontextmanager
async def at_origin(**settings: Any) -> AsyncIterator[tuple[Origin, Engine]]:
    """A server that says what a test wants, and an engine before it."""
    async with run_origin() as origin:
        endpoint = f"http://127.0.0.1:{origin.port}"
        settings = {"retry": QUICK, "region": "us-east-1", **settings}
        async with Engine(endpoint_url=endpoint, credentials=KEYS, **settings) as s3:
            yield origin, s3


# 3: ranges ---------------------------------------------------------------------------------------

DATA = Random(3).randbytes(2 * PART)
LIES: dict[str, dict[str, Any]] = {
    "status": {"status": 200},
    "Content-Range": {"first": 1},
    "Content-Length": {"cut": 100},
    "total": {"total": 3 * PART},
    "ETag": {"etag": '"another"'},
}


def range_server(lie: dict[str, Any], times: int) -> Script:
    """An object in S3's manner; its second range is a lie so many times."""
    told = 0

    async def script(exchange: Exchange) -> None:
        nonlocal told
        exchange.origin.script.append(script)
        request = exchange.request
        if request.method == "HEAD":
            await exchange.send(
                b'HTTP/1.1 200 X\r\nETag: "e"\r\nAccept-Ranges: bytes\r\n'
                b"Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
                b"Content-Length: %d\r\n\r\n" % len(DATA)
            )
            return
        assert request.headers["if-match"] == '"e"', "every range is pinned"
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        says: dict[str, Any] = {}
        if first and told < times:
            told += 1
            says = lie
        body = DATA[first : last + 1]
        body = body[: len(body) - says.get("cut", 0)]
        named = f"bytes {first + says.get('first', 0)}-{last}/{says.get('total', len(DATA))}"
        await exchange.answer(
            says.get("status", 206), body, etag=says.get("etag", '"e"'), content_range=named
        )

    return script


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "ETag"])
async def test_a_lie_about_a_range_is_fetched_again(tmp_path: Path, lie: str) -> None:
    async with at_origin(config=PARTS) as (origin, s3):
        origin.script.append(range_server(LIES[lie], 1))
        await s3.download("s3://bucket/key", tmp_path / "key")
        gets = [request for request in origin.requests if request.method == "GET"]
    assert (tmp_path / "key").read_bytes() == DATA
    assert len(gets) == 2 + 1


@pytest.mark.parametrize("lie", LIES)
async def test_a_lasting_lie_about_a_range_is_named(tmp_path: Path, lie: str) -> None:
    """Another ETag is final at once: it is another version."""
    async with at_origin(config=PARTS) as (origin, s3):
        origin.script.append(range_server(LIES[lie], 1000))
        with anyio.fail_after(30), pytest.raises(TransferError, match="s3://bucket/key"):
            await s3.download("s3://bucket/key", tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


# 6, 8, 9, 10: sessions and clocks ----------------------------------------------------------------


async def test_revoked_in_the_middle_and_then_refused_leaves_no_upload(scene: Scene) -> None:
    gate = scene.aws.gate
    gate.faults.add(
        kind="call", action="UploadPart", nth=2, call=lambda: gate.revoke_sessions(scene.role)
    )
    gate.faults.add(
        kind="status", action="UploadPart", part_number=5, times=None, status=403,
        code="AccessDenied",
    )  # fmt: skip
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(EngineError, match="AccessDenied"):
            await s3.upload(os.urandom(5 * PART), scene.url("key"))
    assert len(scene.log("CreateMultipartUpload")) == 1
    assert gate.open_uploads(scene.bucket) == []
    assert gate.list_keys(scene.bucket) == []


@pytest.mark.parametrize("how", ["expired", "revoked", "ExpiredToken", "InvalidToken"])
async def test_a_session_that_ends_costs_one_call_and_no_part(scene: Scene, how: str) -> None:
    gate = scene.aws.gate
    if how in ("expired", "revoked"):
        end = gate.expire_sessions if how == "expired" else gate.revoke_sessions
        gate.faults.add(kind="call", action="UploadPart", nth=6, call=lambda: end(scene.role))
    else:
        # None is answered before all three have come: one that came later would have the new
        # session, and end that one, too.
        for nth in (6, 7, 8):
            gate.faults.add(kind="delay", action="UploadPart", nth=nth, seconds=1.0)
            gate.faults.add(kind="status", action="UploadPart", nth=nth, status=400, code=how)
    data = os.urandom(12 * PART)
    async with scene.engine(config=PARTS) as s3:
        result = await s3.upload(data, scene.url("key"))
    assert result.parts == 12 and gate.get_object(scene.bucket, "key") == data
    assert len(scene.log("AssumeRole")) == 2
    stored = [entry.part_number for entry in scene.log("UploadPart") if not entry.failed]
    assert sorted(stored, key=lambda number: number or 0) == list(range(1, 13)), "each once"


@pytest.mark.prove
async def test_a_job_of_16_seconds_under_sessions_of_8(scene: Scene) -> None:
    scene.role_with(session_lifetime=8)
    async with scene.engine() as s3:
        end, number = anyio.current_time() + 16, 0
        while anyio.current_time() < end:
            number += 1
            await s3.upload(b"bytes", scene.url(str(number)))
            await anyio.sleep(0.05)
    assert len(gate_keys(scene)) == number
    assert len(scene.log("AssumeRole")) <= 5
    assert [entry for entry in scene.aws.gate.log.where(service="s3") if entry.failed] == []


def gate_keys(scene: Scene) -> list[str]:
    return scene.aws.gate.list_keys(scene.bucket)


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_a_wrong_clock_costs_one_request(scene: Scene, off: float) -> None:
    """Keys of a user, so that no call to STS has set the clock right before."""
    user = scene.aws.gate.add_user("111122223333", "writer", allow=[("s3:*", "*")])
    keys = Credentials(user.access_key_id, user.secret_access_key)
    scene.aws.gate.clock_offset = off
    async with scene.engine(role=None, credentials=keys) as s3:
        for number in range(3):
            await s3.upload(b"bytes", scene.url(str(number)))
    codes = [entry.error_code for entry in scene.log("PutObject")]
    assert codes == ["RequestTimeTooSkewed", "", "", ""]
    told = [event.error for event in scene.events if isinstance(event, Retried)]
    assert told == ["RequestTimeTooSkewed"]
    (corrected,) = (event for event in scene.events if isinstance(event, ClockCorrected))
    assert abs(corrected.seconds - off) < 10


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
async def test_a_wrong_clock_is_told_where_sts_meets_it_first(
    scene: Scene, off: float, caplog: pytest.LogCaptureFixture
) -> None:
    scene.aws.gate.clock_offset = off
    async with scene.engine() as s3:
        for number in range(3):
            await s3.upload(b"bytes", scene.url(str(number)))
    assert len(scene.log("AssumeRole")) == 2
    assert [entry.error_code for entry in scene.log("PutObject")] == ["", "", ""]
    (corrected,) = (event for event in scene.events if isinstance(event, ClockCorrected))
    assert abs(corrected.seconds - off) < 10
    (record,) = (one for one in caplog.records if "the clock of this machine" in one.message)
    assert ("behind" if off > 0 else "ahead of") in record.message


# 11, 12: waiting ---------------------------------------------------------------------------------


@pytest.mark.prove
@pytest.mark.parametrize("action", ["GetObject", "UploadPart", "PutObject"])
async def test_a_silent_request_costs_20_seconds_at_most(
    scene: Scene, tmp_path: Path, action: str
) -> None:
    scene.aws.gate.faults.add(kind="delay", action=action, seconds=60)
    data = os.urandom(3 * PART if action != "PutObject" else 1000)
    async with scene.engine(config=PARTS) as s3:
        with anyio.fail_after(20):
            if action == "GetObject":
                scene.aws.gate.put_object(scene.bucket, "key", data)
                await s3.download(scene.url("key"), tmp_path / "key")
                assert (tmp_path / "key").read_bytes() == data
            else:
                await s3.upload(data, scene.url("key"))
    assert scene.aws.gate.get_object(scene.bucket, "key") == data


async def test_a_fifth_of_503_costs_less_than_a_third_more(scene: Scene, tmp_path: Path) -> None:
    random, objects = Random(12), 100
    for nth in range(1, 2 * objects):
        if random.random() < 0.2:
            scene.aws.gate.faults.add(
                kind="status", action="PutObject", nth=nth, status=503, code="SlowDown"
            )
    for number in range(objects):
        (tmp_path / str(number)).write_bytes(b"bytes")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.upload(tmp_path, scene.url("t/")))
    assert (report.objects, report.failed) == (objects, [])
    assert objects < len(scene.log("PutObject")) <= 1.3 * objects


@pytest.mark.prove
async def test_retry_after_is_waited_for(scene: Scene) -> None:
    """By all requests of the prefix: those that are made later too."""
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", status=503, code="SlowDown", retry_after=4
    )
    async with scene.engine() as s3, anyio.create_task_group() as tasks:
        tasks.start_soon(s3.upload, b"bytes", scene.url("p/key"))
        while not any(isinstance(event, Retried) for event in scene.events):
            await anyio.sleep(0.01)
        for number in range(8):
            tasks.start_soon(s3.upload, b"bytes", scene.url(f"p/{number}"))
    first, *others = scene.log("PutObject")
    assert len(others) == 9
    assert min((entry.at - first.at).total_seconds() for entry in others) >= 4


@pytest.mark.prove
async def test_for_ever_503_ends_within_a_minute(scene: Scene) -> None:
    """With the default policy; the error names the code and how often it was tried."""
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", times=None, status=503, code="SlowDown"
    )
    async with scene.engine(retry=RetryPolicy()) as s3:
        with anyio.fail_after(60), pytest.raises(EngineError, match="SlowDown") as caught:
            await s3.upload(b"x", scene.url("key"))
    assert f"attempts: {len(scene.log('PutObject'))}" in str(caught.value)


# 17, 21: listings and answers ---------------------------------------------------------------------


def listing(*inner: str, name: str = "bucket", count: int = 0, start: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{start}<ListBucketResult><Name>{name}</Name><Prefix></Prefix>'
        f"<KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>{''.join(inner)}</ListBucketResult>"
    ).encode()


WHOLE = "<IsTruncated>false</IsTruncated>"
MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
NO_LISTINGS = {
    "html": b"<html><body>Sign in to the network</body></html>",
    "nothing": b"",
    "json": b'{"objects": []}',
    "another root": b"<ListAllMyBucketsResult></ListAllMyBucketsResult>",
    "another bucket": listing(WHOLE, name="other"),
    "another count": listing(WHOLE, count=3),
    "not whether it is whole": listing(),
    "cut": listing(WHOLE)[:-20],
    "entities": listing(WHOLE, start='<!DOCTYPE x [<!ENTITY a "b">]>'),
    "in circles": listing(MORE),
}


@pytest.mark.parametrize("what", NO_LISTINGS)
async def test_a_listing_that_is_none_is_an_error(tmp_path: Path, what: str) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.origin.script.append(script)
        await exchange.answer(200, NO_LISTINGS[what], content_type="application/xml")

    async with at_origin(retry=RetryPolicy(max_attempts=4)) as (origin, s3):
        origin.script.append(script)
        with anyio.fail_after(5), pytest.raises(EngineError, match="bucket"):
            await s3.run(Manifest.download("s3://bucket/", tmp_path / "t"))


@pytest.mark.parametrize("times", [1, 1000])
async def test_an_answer_without_its_etag_is_healed_or_named(times: int) -> None:
    told = 0

    async def script(exchange: Exchange) -> None:
        nonlocal told
        exchange.origin.script.append(script)
        await exchange.read_body()
        told += 1
        await (exchange.answer(200) if told <= times else exchange.answer(200, etag='"e"'))

    async with at_origin() as (origin, s3):
        origin.script.append(script)
        with anyio.fail_after(30):
            if times == 1:
                await s3.upload(b"bytes", "s3://bucket/key")
                assert told == 2
                return
            with pytest.raises(TransferError, match="ETag"):
                await s3.upload(b"bytes", "s3://bucket/key")
        assert told == QUICK.max_attempts
