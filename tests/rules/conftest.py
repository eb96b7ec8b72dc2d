"""An origin that misbehaves, over http and over TLS, and both planes before it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.planes.wire import WirePlane
from engine.planes.wire_control import WireControlPlane
from engine.threads import ThreadDoor
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, PutReceipt
from tests.unit.origin import Origin, run_origin
from tests.unit.planes.test_wire import CRC, URL, StaticLease

PATIENT = Timeouts()
# Long enough for a busy machine, short enough for a test that waits for it.
HASTY = Timeouts(connect=1.0, first_byte=0.4, stall=0.4, complete=0.4, expect=0.1)


@dataclass
class Wire:
    """What a rule is tested with."""

    scheme: str
    origin: Origin
    plane: WirePlane
    control: WireControlPlane
    lease: StaticLease

    async def put(self, data: bytes = b"x") -> PutReceipt:
        return await self.plane.put_object(URL, BytesSource(data), CRC)

    async def get(
        self, size: int, *, span: ByteRange | None = None, etag: str | None = None
    ) -> bytes:
        sink = MemorySink(size)
        receipt = await self.plane.get_range(URL, sink, 0, range=span, etag=etag, algorithm=CRC)
        assert receipt.crc == CRC.update(bytes(sink.data[: receipt.size]))
        return bytes(sink.data)

    def idle(self) -> int:
        """Connections that wait to be used again."""
        return self.plane.statistics().pool.idle


Open = Callable[..., AbstractAsyncContextManager[Wire]]


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=pytest.mark.prove),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both loops by ``make rules``; the default suite is content with one."""
    return request.param


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context, which offers HTTP/2 first, and the file of its authority."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    ca.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path_factory.mktemp("rules") / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))
    return context, bundle


@pytest.fixture(params=["http", "https"])
def wire(request: pytest.FixtureRequest, authority: tuple[ssl.SSLContext, Path]) -> Open:
    """Opens a ``Wire``: ``async with wire(timeouts=..., expect=...) as s3``."""
    scheme = str(request.param)
    context, bundle = authority

    @asynccontextmanager
    async def opened(
        *, timeouts: Timeouts = PATIENT, expect: bool | None = None, max_connections: int = 64
    ) -> AsyncIterator[Wire]:
        async with run_origin(context if scheme == "https" else None) as origin:
            endpoints = Endpoints(
                s3=f"{scheme}://127.0.0.1:{origin.port}",
                ca_bundle=str(bundle),
                timeouts=timeouts,
                expect_continue=expect,
            )
            lease, clock, threads = StaticLease(), LoopClock(), ThreadDoor()
            plane = WirePlane(
                endpoints,
                lease,
                clock=clock,
                threads=threads,
                max_connections=max_connections,
                user_agent="s3engine/test",
            )
            control = WireControlPlane(
                endpoints,
                lease,
                clock=clock,
                threads=threads,
                user_agent="s3engine/test",
                beside=plane,
            )
            try:
                yield Wire(scheme, origin, plane, control, lease)
            finally:
                await plane.aclose()
                threads.close()

    return opened
