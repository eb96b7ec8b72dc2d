"""What a test of this suite works with: one server, and both planes of one name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, final

from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.planes import open_planes
from engine.protocols import ControlPlane, DataPlane, Lease
from engine.testing.aws import AwsDouble
from engine.threads import ThreadDoor
from engine.transfer.checksums.crc64nvme import Crc64Nvme
from engine.transfer.sources import BytesSource
from engine.types import Checksum, Credentials, PartReceipt, S3Url, UploadId
from tests.conformance.servers import Server

CRC = Crc64Nvme()
PLANES = ("wire", "aws")
# Keys that clients and stores get wrong: encoding, dots, slashes, what XML cannot hold.
ODD_KEYS = ("a b", "ü/日本", "%2F", "+", "a&b<c>\"'", "..", "x//y", "tab\tend", "\x01")


@final
class WatchedLease(Lease):
    """One set of keys; remembers what was said of them."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.left = float("inf")
        self.said: list[str] = []

    async def ready(self) -> Credentials:
        return self.credentials

    async def at_least(self, seconds: float) -> Credentials:
        return self.credentials

    def remaining(self, credentials: Credentials) -> float:
        return self.left

    def age(self, credentials: Credentials) -> float:
        return float("inf")

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        self.said.append("worked")

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        self.said.append("unknown key" if unknown_key else "denied")
        return False

    def report_expired(self, credentials: Credentials) -> None:
        self.said.append("expired")


class Store:
    """A bucket of a server, and the planes under test."""

    def __init__(
        self,
        server: Server,
        lease: WatchedLease,
        data: DataPlane,
        control: ControlPlane,
        aws: AwsDouble | None = None,
    ) -> None:
        self.server, self.lease, self.data, self.control = server, lease, data, control
        self.bucket = server.bucket
        self._aws = aws

    @property
    def aws(self) -> AwsDouble:
        """The gate, for tests that only it can run."""
        assert self._aws is not None
        return self._aws

    def url(self, key: str) -> S3Url:
        return S3Url(self.bucket, key)

    def sum_of(self, data: bytes) -> Checksum | None:
        """What the server says of ``data``; None where it keeps no sums."""
        return checksum(data) if self.server.keeps_sums else None

    async def put(self, key: str, data: bytes) -> S3Url:
        url = self.url(key)
        await self.data.put_object(url, BytesSource(data), CRC)
        return url

    async def parts(self, url: S3Url, upload_id: UploadId, *bodies: bytes) -> list[PartReceipt]:
        whole, offset, receipts = BytesSource(b"".join(bodies)), 0, []
        for number, body in enumerate(bodies, 1):
            receipts.append(
                await self.data.upload_part(url, upload_id, number, whole, offset, len(body), CRC)
            )
            offset += len(body)
        return receipts


def checksum(data: bytes) -> Checksum:
    return Checksum("crc64nvme", CRC.encode(CRC.update(data)))


@asynccontextmanager
async def open_store(
    plane: str, server: Server, aws: AwsDouble | None = None, timeouts: Timeouts | None = None
) -> AsyncIterator[Store]:
    endpoints = Endpoints(
        region=server.region,
        s3=server.endpoint,
        ca_bundle=server.ca_bundle,
        timeouts=timeouts or Timeouts(),
    )
    door, lease = ThreadDoor(), WatchedLease(server.credentials)
    common: dict[str, Any] = {"clock": LoopClock(), "threads": door, "user_agent": "s3engine/test"}
    data, control = open_planes(plane, endpoints, lease, **common)
    try:
        yield Store(server, lease, data, control, aws)
    finally:
        await control.aclose()
        await data.aclose()
        door.close()
