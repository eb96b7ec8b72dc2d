"""What S3 works at for minutes: ten of them in all tries, then it is found out. Virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import md5

import pytest

from engine import Credentials, Engine, EngineError, MiB, StoreLimits, TransferConfig
from engine.errors import AnswerTooSlow
from engine.testing.clock import run_virtual
from engine.types import TransferResult
from tests.unit.origin import Exchange, Origin, Script, run_origin

PART = 5 * MiB
DATA = b"abc" * 2 * MiB
CONFIG = TransferConfig(
    multipart_threshold=PART,
    part_size=PART,
    checksum="none",
    limits=StoreLimits("small copies", max_copy_size=100 * MiB),
)
OLD, NEW = "Tue, 24 Nov 2020 12:00:00 GMT", "Tue, 24 Nov 2099 12:00:00 GMT"
OK = b"HTTP/1.1 200 OK\r\n"
# Seconds from the first try on, and the little that settles it.
IN_ALL = 600.0, 625.0


def of_parts(data: bytes) -> str:
    parts = [md5(data[at : at + PART]).digest() for at in range(0, len(data), PART)]
    return f'"{md5(b"".join(parts)).hexdigest()}-{len(parts)}"'


async def works(exchange: Exchange, seconds: float) -> None:
    """Blanks, as S3 sends them, and then no more."""
    await exchange.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(int(seconds / 5)):
        await exchange.send(b"1\r\n \r\n")
        await asyncio.sleep(5)
    exchange.reset()


def store(made: bool, modified: str = NEW, etag: str = of_parts(DATA)) -> Script:
    """A store that works for 400 s at each try of Complete and Copy, and then hangs up."""

    async def serve(exchange: Exchange) -> None:
        request = exchange.request
        verb, target = request.method, request.target
        body = await exchange.read_body()
        if verb == "HEAD" and "/there" not in target:
            await exchange.answer(200, b"x" * len(DATA), ETag=etag)
        elif verb == "HEAD":
            size = len(DATA) if made else 3
            await exchange.answer(200, b"x" * size, ETag=etag, Last_Modified=modified)
        elif verb == "POST" and "uploads" in target:
            document = b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            await exchange.answer(200, document + b"</InitiateMultipartUploadResult>")
        elif verb == "PUT" and "x-amz-copy-source" not in request.headers:
            await exchange.answer(200, ETag=f'"{md5(body).hexdigest()}"')
        elif verb == "DELETE":
            await exchange.answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        else:
            await works(exchange, 400)

    return serve


def taken(
    script: Script,
    verb: Callable[[Engine], Awaitable[TransferResult]],
    config: TransferConfig = CONFIG,
) -> tuple[TransferResult | EngineError, float, list[str]]:
    """What came of it, in how many virtual seconds, by which long requests."""
    came: list[TransferResult | EngineError] = []
    seconds, long = [0.0], list[str]()

    async def main() -> None:
        async with run_origin() as origin:
            origin.script.extend([script] * 500)
            keys = Credentials("AKIDEXAMPLE", "secret")
            endpoint = f"http://127.0.0.1:{origin.port}"
            async with Engine(
                endpoint_url=endpoint, region="us-east-1", credentials=keys, config=config
            ) as s3:
                began = asyncio.get_running_loop().time()
                try:
                    came.append(await verb(s3))
                except EngineError as error:
                    came.append(error)
                seconds[0] = asyncio.get_running_loop().time() - began
            long.extend(_long(origin))

    run_virtual(main)
    return came[0], seconds[0], long


def _long(origin: Origin) -> list[str]:
    return [
        one.method
        for one in origin.requests
        if (one.method == "POST" and "uploadId" in one.target) or "x-amz-copy-source" in one.headers
    ]


@pytest.mark.parametrize("made", [True, False])
def test_complete_takes_ten_minutes_in_all_and_is_looked_for(made: bool) -> None:
    came, seconds, tries = taken(store(made), lambda s3: s3.upload(DATA, "s3://bucket/there"))
    assert IN_ALL[0] <= seconds < IN_ALL[1]
    assert tries == ["POST", "POST"]
    if made:
        assert isinstance(came, TransferResult)
        assert came.etag == of_parts(DATA)
    else:
        assert isinstance(came, AnswerTooSlow)
        assert "complete multipart upload of s3://bucket/there" in str(came)
        assert "600 s in all" in str(came)


@pytest.mark.parametrize(
    ("made", "modified"), [(True, NEW), (True, OLD), (False, NEW)], ids=["made", "old", "another"]
)
def test_a_copy_takes_ten_minutes_in_all_and_is_looked_for(made: bool, modified: str) -> None:
    """An object of the same bytes that is older than the copy is none that it made."""
    came, seconds, tries = taken(
        store(made, modified), lambda s3: s3.copy("s3://bucket/from", "s3://bucket/there")
    )
    assert IN_ALL[0] <= seconds < IN_ALL[1]
    assert tries == ["PUT", "PUT"]
    if made and modified == NEW:
        assert isinstance(came, TransferResult)
    else:
        assert isinstance(came, AnswerTooSlow)
        assert came.__notes__ == ["another object than the copy is at s3://bucket/there"]


@pytest.mark.parametrize("off", [-600, 600])
@pytest.mark.parametrize("age", [0, 240], ids=["made", "old"])
def test_how_old_a_copy_is_goes_by_the_stores_clock(off: int, age: int) -> None:
    """This machine's clock is ten minutes off, which S3 does not mind. What is there was made with
    the first try, or four minutes before it."""
    wall, begun = datetime.now(UTC) + timedelta(seconds=off), list[float]()
    copies = store(True)

    def date(at: float) -> str:
        return format_datetime(wall + timedelta(seconds=at), usegmt=True)

    async def serve(exchange: Exchange) -> None:
        now = asyncio.get_running_loop().time()
        if exchange.request.method == "PUT":
            begun.append(now)
        if exchange.request.method != "HEAD":
            await copies(exchange)
            return
        modified = date(begun[0] - age if begun else now - 3600)
        told = {"date": date(now), "Last_Modified": modified, "ETag": of_parts(DATA)}
        await exchange.answer(200, b"x" * len(DATA), **told)

    came, _, _ = taken(serve, lambda s3: s3.copy("s3://bucket/from", "s3://bucket/there"))
    assert isinstance(came, AnswerTooSlow if age else TransferResult)


@pytest.mark.parametrize(("fixed", "grows"), [(None, True), (4, False)])
def test_more_parts_are_copied_at_once_while_that_copies_more(
    fixed: int | None, grows: bool
) -> None:
    """S3 copies each part in a second, however many it is asked for."""
    count = 200
    limits = StoreLimits("small", max_copy_size=PART, max_part_size=PART, max_object_size=1 << 35)
    under_way, most = [0], [0]

    async def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            size = str(count * PART)
            await exchange.answer(200, ETag=f'"{"0" * 32}-7"', content_length=size)
        elif request.method == "PUT":
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            await asyncio.sleep(1)
            under_way[0] -= 1
            etag = f"<ETag>&quot;{'0' * 32}&quot;</ETag>"
            await exchange.answer(200, f"<CopyPartResult>{etag}</CopyPartResult>".encode())
        elif "uploads" in request.target:
            document = b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            await exchange.answer(200, document + b"</InitiateMultipartUploadResult>")
        else:
            await exchange.read_body()
            etag = f"<ETag>&quot;{'0' * 32}-{count}&quot;</ETag>"
            root = "CompleteMultipartUploadResult"
            await exchange.answer(200, f"<{root}>{etag}</{root}>".encode())

    config = dataclasses.replace(CONFIG, limits=limits, max_parts_in_flight=fixed)
    came, _, _ = taken(
        serve,
        lambda s3: s3.copy("s3://bucket/from", "s3://bucket/there", keep_tags=False),
        config,
    )
    assert isinstance(came, TransferResult) and came.parts == count
    assert most[0] > 20 if grows else most[0] == fixed
