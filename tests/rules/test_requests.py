"""Rules 1 to 7: what is sent."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import ConnectionFailed, ProtocolError, S3Error, UsageError
from engine.options import ObjectOptions
from engine.retry import Verdict, classify
from engine.testing import sigv4
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, MiB, S3Url, UploadId
from tests.rules.conftest import HASTY, Open
from tests.unit.origin import (
    Exchange,
    Request,
    answers,
    error_xml,
    hang_up,
    serve_s3,
)
from tests.unit.planes.test_wire import CRC, PATH, SECRET, URL, data_of

BIG = data_of(3 * MiB)


def check_signature(request: Request, secret: str = SECRET) -> sigv4.Authorization:
    """What came in is what was signed, by a signer that shares no code with ours."""
    found = sigv4.parse_authorization(request.headers["authorization"])
    expected = sigv4.expected_signature(
        found,
        request.method,
        request.target,
        request.headers.items(),
        request.headers["x-amz-content-sha256"],
        secret,
        request.headers["x-amz-date"],
    )
    assert sigv4.same_signature(expected, found.signature)
    return found


async def test_rule_01_one_framing_header(wire: Open) -> None:
    async with wire() as s3:
        for data in (b"", b"x", BIG):
            await s3.put(data)
        page = (
            b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        )
        s3.origin.script.append(answers(200, page))
        await s3.control.create_multipart_upload(URL, CRC)
        await s3.plane.upload_part(URL, UploadId("u"), 1, BytesSource(BIG), 1, 2 * MiB, CRC)
        lengths = []
        for request in s3.origin.requests:
            head = request.head.lower()
            lengths += re.findall(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
            assert b"transfer-encoding" not in head and b"aws-chunked" not in head
            assert b"x-amz-trailer" not in head
        assert lengths == [b"0", b"1", b"%d" % len(BIG), b"0", b"%d" % (2 * MiB)]


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\r\nx-evil: 1", "a\0b"])
async def test_rule_02_nothing_ends_its_line(wire: Open, bad: str) -> None:
    async with wire() as s3:
        with pytest.raises(UsageError):
            await s3.plane.put_object(S3Url("bucket", bad), BytesSource(b"x"), CRC)
        with pytest.raises(UsageError):
            options = ObjectOptions(metadata={"name": bad})
            await s3.plane.put_object(URL, BytesSource(b"x"), CRC, options=options)
        s3.lease.credentials = Credentials("AKIDEXAMPLE", SECRET, bad)
        with pytest.raises(UsageError) as caught:
            await s3.put()
        assert SECRET not in str(caught.value)
        assert s3.origin.requests == []


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("//a/../b/./c//", "/bucket///a/../b/./c//"),
        ("a+b %41 ü~", "/bucket/a%2Bb%20%2541%20%C3%BC~"),
        ("?a=b#c&d;e", "/bucket/%3Fa%3Db%23c%26d%3Be"),
        (".", "/bucket/."),
    ],
)
async def test_rule_02_a_key_is_sent_as_it_is_signed(wire: Open, key: str, path: str) -> None:
    async with wire() as s3:
        await s3.plane.put_object(S3Url("bucket", key), BytesSource(b"x"), CRC)
        assert s3.origin.requests[0].target == path
        check_signature(s3.origin.requests[0])


async def test_rule_03_the_host_sent_is_the_host_signed(wire: Open) -> None:
    async with wire() as s3:
        await s3.put()
        request = s3.origin.requests[0]
        assert request.headers["host"] == f"127.0.0.1:{s3.origin.port}"
        assert "host" in check_signature(request).signed_headers


async def test_rule_03_http_1_1_is_all_that_is_offered(wire: Open) -> None:
    spoken: list[object] = []

    async def note(exchange: Exchange) -> None:
        tls = exchange.writer.get_extra_info("ssl_object")
        spoken.append(tls.selected_alpn_protocol() if tls else "http/1.1")
        await serve_s3(exchange)

    async with wire() as s3:
        s3.origin.script.append(note)
        await s3.put()
    assert spoken == ["http/1.1"], "the server would have liked h2 better"


async def test_rule_04_each_attempt_is_signed_when_it_is_sent(wire: Open) -> None:
    async with wire() as s3:
        await s3.put()
        second = Credentials("AKIDSECOND", "OTHERSECRET", "OTHERTOKEN")

        async def renewed_meanwhile(exchange: Exchange) -> None:
            s3.lease.credentials = second
            await hang_up(exchange)

        s3.origin.script.append(renewed_meanwhile)
        await s3.put()
        first, lost, again = s3.origin.requests
        assert check_signature(first).access_key_id == "AKIDEXAMPLE"
        assert check_signature(lost).access_key_id == "AKIDEXAMPLE"
        assert check_signature(again, "OTHERSECRET").access_key_id == "AKIDSECOND"
        assert again.headers["x-amz-security-token"] == "OTHERTOKEN"


async def test_rule_04_a_learned_clock_holds_from_the_next_request(wire: Open) -> None:
    """By which another day begins, with another key to sign by."""
    there = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, hours=3)
    async with wire() as s3:
        date = f"{there:%a, %d %b %Y %H:%M:%S} GMT"
        s3.origin.script.append(answers(403, error_xml("RequestTimeTooSkewed"), date=date))
        with pytest.raises(S3Error, match="RequestTimeTooSkewed"):
            await s3.put()
        await s3.put()
        before, after = s3.origin.requests
        assert check_signature(before).day != check_signature(after).day == f"{there:%Y%m%d}"


async def test_rule_05_a_range_is_pinned_and_outside_the_signature(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.objects[PATH] = BIG
        for start in (0, MiB, 2 * MiB):
            span = ByteRange(start, start + MiB)
            assert await s3.get(MiB, span=span, etag='"e1"') == BIG[start : start + MiB]
        for request in s3.origin.requests:
            signed = check_signature(request).signed_headers
            assert request.headers["if-match"] == '"e1"'
            assert not {"range", "if-match"} & set(signed)
            needed = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
            assert needed <= set(signed)


async def test_rule_06_consent_is_asked_where_it_pays(wire: Open) -> None:
    async with wire(expect=True) as s3:
        await s3.put(b"small")  # too small
        await s3.put(BIG)  # the connection is known
        s3.origin.script.append(answers(503, error_xml("SlowDown")))
        with pytest.raises(S3Error, match="SlowDown"):
            await s3.put(BIG)
        await s3.put(BIG)  # refused a moment ago
        await s3.put(BIG)  # well again
        expected = [request.headers.get("expect") for request in s3.origin.requests]
        assert expected == [None, None, None, "100-continue", None]
        assert s3.origin.connections == 1
        for request in s3.origin.requests:
            assert "expect" not in check_signature(request).signed_headers
    async with wire(expect=True) as s3:
        await s3.put(BIG)  # a new connection
        assert s3.origin.requests[0].headers["expect"] == "100-continue"
        assert s3.origin.objects[PATH] == BIG


@pytest.mark.parametrize("expect", [False, None])
async def test_rule_06_it_can_be_switched_off_and_is_for_addresses_of_users(
    wire: Open, expect: bool | None
) -> None:
    async with wire(expect=expect) as s3:
        await s3.put(BIG)
        assert "expect" not in s3.origin.requests[0].headers


async def test_rule_06_without_an_answer_the_body_goes_after_a_second(wire: Open) -> None:
    """F:no100. And the host is not asked again."""

    async def never_says_100(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        del exchange.request.headers["expect"]
        await serve_s3(exchange)

    async with wire(expect=True, timeouts=HASTY) as s3:
        s3.origin.script.append(never_says_100)
        await s3.put(BIG)
        assert s3.origin.objects[PATH] == BIG
        s3.origin.script.append(answers(503, error_xml("SlowDown")))
        with pytest.raises(S3Error):
            await s3.put(BIG)
        await s3.put(BIG)
        assert all("expect" not in request.headers for request in s3.origin.requests[1:])


async def test_rule_06_a_final_answer_saves_the_body(wire: Open) -> None:
    """F:early."""
    left: list[bytes] = []

    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(403, error_xml("AccessDenied"))
        left.append(await exchange.reader.read())

    async with wire(expect=True) as s3:
        s3.origin.script.append(refuse)
        with pytest.raises(S3Error, match="AccessDenied"):
            await s3.put(BIG)
        assert s3.idle() == 0, "the connection is closed: who knows what was to come"
        await s3.put(b"x")
        assert left == [b""], "not a byte of the body"


async def test_rule_06_417_means_once_more_without(wire: Open) -> None:
    """F:417."""

    async def unknown(exchange: Exchange) -> None:
        await exchange.answer(417)
        exchange.close = True

    async with wire(expect=True) as s3:
        s3.origin.script.append(unknown)
        with pytest.raises(S3Error) as caught:
            await s3.put(BIG)
        assert classify(caught.value) is Verdict.REFRESH, "again at once, and free"
        await s3.put(BIG)
        assert "expect" not in s3.origin.requests[1].headers
        assert s3.origin.objects[PATH] == BIG


@pytest.mark.parametrize(
    "answered", [b"", b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 0\r\n\r\n"]
)
async def test_rule_06_a_success_or_an_end_instead_is_an_error(wire: Open, answered: bytes) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.send(answered)
        exchange.close = True

    async with wire(expect=True) as s3:
        s3.origin.script.append(odd)
        with pytest.raises(ProtocolError if answered else ConnectionFailed):
            await s3.put(BIG)


async def test_rule_07_a_connection_has_one_request_at_a_time(wire: Open) -> None:
    early: list[bytes] = []

    async def slow(exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(0.03):
                early.append(await exchange.reader.read(1))
        except TimeoutError:
            await serve_s3(exchange)

    async with wire(max_connections=3) as s3:
        s3.origin.objects[PATH] = b"abc"
        s3.origin.script.extend([slow] * 9)
        assert await asyncio.gather(*(s3.get(3) for _ in range(9))) == [b"abc"] * 9
        assert early == [], "a second request came before the first was answered"
        assert s3.origin.connections == 3
        sink = MemorySink(3)
        await s3.plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=None)
