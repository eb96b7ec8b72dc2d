"""The wire plane behind a proxy: over TLS a tunnel, else requests in absolute form."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine._wire.ask import asking
from engine._wire.endpoint import parse_endpoint
from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.errors import NotConnected, ProtocolError, ProxyRefused, SourceUnavailable
from engine.pace import Pace
from engine.planes.wire import WirePlane
from engine.proxies import Proxies
from engine.threads import ThreadDoor
from engine.transfer.sources import BytesSource, FileSource
from engine.types import Credentials, MiB
from tests.unit.origin import Origin, answers, run_origin
from tests.unit.planes.test_wire import CRC, PATH, URL, StaticLease, data_of, get
from tests.unit.proxy import HttpProxy, run_proxy

HOST = "bucket-store.example"
BASIC = "Basic dXNlcjpwYTpzcw=="  # user, pa:ss


@asynccontextmanager
async def behind(
    tmp_path: Path,
    scheme: str,
    *,
    proxy_scheme: str = "http",
    userinfo: str = "",
    no_proxy: str = "",
    certificate: str = HOST,
    timeouts: Timeouts | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[tuple[HttpProxy, Origin, WirePlane]]:
    """A plane whose S3 can only be reached by the proxy: its name is in no DNS."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))

    def server(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    port = 443 if scheme == "https" else 80
    tls = server(certificate) if scheme == "https" else None
    proxy_tls = server("127.0.0.1") if proxy_scheme == "https" else None
    async with run_origin(tls) as origin, run_proxy(proxy_tls) as proxy:
        proxy.hosts[f"{HOST}:{port}"] = proxy.hosts[HOST] = origin.port
        address = f"{proxy_scheme}://{userinfo}127.0.0.1:{proxy.port}"
        plane = WirePlane(
            Endpoints(
                s3=f"{scheme}://{HOST}",
                ca_bundle=str(bundle),
                proxies=Proxies.read({"no_proxy": no_proxy}, address),
                timeouts=timeouts or Timeouts(),
            ),
            StaticLease(),
            clock=LoopClock(),
            threads=ThreadDoor(),
            user_agent="s3engine/test",
            pace=pace,
        )
        try:
            yield proxy, origin, plane
        finally:
            await plane.aclose()


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_objects_go_both_ways(tmp_path: Path, scheme: str, proxy_scheme: str) -> None:
    data = data_of(3 * MiB + 7)
    path = tmp_path / "file"
    path.write_bytes(data)
    async with behind(tmp_path, scheme, proxy_scheme=proxy_scheme, userinfo="user:pa%3Ass@") as (
        proxy,
        origin,
        plane,
    ):
        proxy.authorization = BASIC
        await plane.put_object(URL, BytesSource(data), CRC)
        with FileSource(path) as source:
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == data
        assert await get(plane, len(data)) == data
        assert len(proxy.asked) == 1, "one connection for all of them"
        first = proxy.heads[0].split("\r\n")[0]
        if scheme == "https":
            assert first == f"CONNECT {HOST}:443 HTTP/1.1"
        else:
            assert first == f"PUT http://{HOST}{PATH} HTTP/1.1"
        for request in origin.requests:
            assert request.target == PATH, "the origin sees what was signed"
            assert request.headers["host"] == HOST
            assert "proxy-authorization" not in request.headers
        if scheme == "http":
            assert len(proxy.heads) == len(origin.requests) == 3
            assert all(f"proxy-authorization: {BASIC}" in head for head in proxy.heads)


async def test_credentials_of_the_proxy_are_nowhere_to_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with behind(tmp_path, "https", userinfo="user:SECRETSECRET@") as (proxy, _, plane):
        proxy.authorization = BASIC
        with pytest.raises(ProxyRefused, match="did not take the user and password") as caught:
            await get(plane, 1)
        told = str(caught.value) + repr(caught.value) + repr(plane) + caplog.text
        told += repr(plane.exchanges.endpoints) + repr(plane.exchanges.pool)
        for secret in ("SECRETSECRET", "U0VDUkVU", "user:"):
            assert secret not in told.replace("http://user:password@host", "")
        assert not caught.value.retryable


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_a_user_says_so(tmp_path: Path, scheme: str) -> None:
    async with behind(tmp_path, scheme) as (proxy, origin, plane):
        proxy.authorization = BASIC
        with pytest.raises(ProxyRefused, match="wants a user"):
            await get(plane, 1)
        assert origin.requests == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", ProxyRefused, "refused the way to"),
        (b"HTTP/1.1 302 X\r\nLocation: http://a\r\n\r\n", ProxyRefused, "refused the way to"),
        (b"HTTP/1.1 502 X\r\n\r\n", NotConnected, "could not reach"),
        (b"SSH-2.0\r\n\r\n", ProtocolError, "not an HTTP status line"),
        (b"HTTP/1.1 200 X\r\n\r\nhello", ProtocolError, "bytes behind"),
        (b"HTTP/1.1 2", NotConnected, "closed the connection instead"),
        (b"HTTP/1.1 200 X\r\n\r\n", NotConnected, "could not connect"),
    ],
)
async def test_another_answer_to_connect(
    tmp_path: Path, answer: bytes, kind: type[Exception], words: str
) -> None:
    async with behind(tmp_path, "https") as (proxy, origin, plane):
        proxy.answer = answer
        with pytest.raises(kind, match=words) as caught:
            await get(plane, 1)
        assert type(caught.value) is kind
        assert str(URL) in str(caught.value)
        assert origin.connections == 0


async def test_a_silent_proxy_is_given_up(tmp_path: Path) -> None:
    async with behind(tmp_path, "https", timeouts=Timeouts(connect=0.2)) as (proxy, _, plane):
        proxy.answer = b"HTTP/1.1 100 X\r\n\r\n" * 3 + b"HTTP"

        async def hold(reader: Any, writer: Any) -> None:
            await reader.read()

        proxy._serve = hold  # type: ignore[method-assign]
        with pytest.raises(NotConnected, match="timed out after 0.2 s: connecting to .*proxy"):
            await get(plane, 1)


async def test_the_certificate_is_that_of_the_host_behind(tmp_path: Path) -> None:
    async with behind(tmp_path, "https", certificate="127.0.0.1") as (_, origin, plane):
        with pytest.raises(NotConnected, match="certificate") as caught:
            await get(plane, 1)
        assert not caught.value.retryable
        assert origin.requests == []


async def test_a_host_of_no_proxy_is_asked_directly(tmp_path: Path) -> None:
    async with behind(tmp_path, "http", no_proxy="example,127.0.0.1") as (proxy, _, plane):
        with pytest.raises(NotConnected, match="could not connect to http://bucket-store"):
            await get(plane, 1)
        assert proxy.asked == []


async def test_sts_goes_through_the_proxy_and_local_services_never() -> None:
    async with run_origin() as origin, run_proxy() as proxy:
        place = f"127.0.0.1:{origin.port}"
        proxy.hosts[place] = origin.port
        proxies = Proxies.read({}, f"http://127.0.0.1:{proxy.port}")
        endpoints = Endpoints(sts=f"http://{place}", proxies=proxies)
        client = StsClient(endpoints, "ua", clock=LoopClock(), threads=ThreadDoor())
        origin.script.append(answers(500))
        with pytest.raises(SourceUnavailable):
            await client.get_caller_identity(Credentials("AKIDEXAMPLE", "SECRETSECRET"))
        await client.aclose()
        assert proxy.asked == [place]
        address, _ = parse_endpoint(f"http://{place}")
        async with asking(address, Timeouts(), ThreadDoor()) as ask:
            assert (await ask("GET", "/latest", {})).status == 404
        assert proxy.asked == [place]
