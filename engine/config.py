"""Settings as frozen values, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct, field

from engine.errors import UsageError
from engine.limits import AWS, StoreLimits
from engine.pace import MIN_BANDWIDTH
from engine.proxies import Proxies
from engine.types import MiB

DEFAULT_THRESHOLD = 10_485_760
# What is under way when a run breaks off is sent again when it goes on.
START_PARTS = 10


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """How objects are cut and how much may be under way. Sizes are bytes.

    Attributes:
        multipart_threshold: Uploads strictly above it go in parts; s3transfer compares with
            ``>=``, so at exactly this size the two differ.
        multipart_download_threshold: Downloads strictly above it are fetched as ranges.
        part_size: Size of a part and of a range; raised in MiB steps where the parts that the
            store allows (10,000) would not hold the object.
        max_parts_in_flight: Parts of one object under way at once, and so what a crash can
            waste. None starts at 10; where the way is long or more moves more it grows, up to
            64 parts and 512 MiB; of what S3 copies itself up to 64 parts.
        max_concurrency: Requests under way at once over all objects; None starts at 64 for
            small objects and 16 for big ones, at more of both where the server is far, and
            climbs while that moves more. While both kinds want them, neither gets less than
            two fifths.
        max_memory: Bytes of buffers over all objects: of requests under way, of small objects that
            wait to be sent or written, of streams (a quarter at most) and of readers (so, too, but
            for one piece of each). Not counted: what a stream gathers for its next part, the
            pieces by which parts are summed before their turn (one a core), and up to 30 MiB of
            empty buffers that are kept.
        max_bandwidth: Bytes a second, of all connections and both directions together, heads and
            what TLS adds included; None for no limit. In no time t do more than t + 0.1 seconds'
            worth move. 65,536 at least. While it is what decides, no more requests are put under
            way, and a part is not called slow.
        checksum: ``crc64nvme``, ``crc32c``, ``crc32``, or ``none`` for stores that refuse the
            headers.
        limits: What the store allows; ``StoreLimits.of("r2")`` and its kin where it is not AWS.
    """

    multipart_threshold: int = DEFAULT_THRESHOLD
    multipart_download_threshold: int = DEFAULT_THRESHOLD
    part_size: int = 8 * MiB
    max_parts_in_flight: int | None = None
    max_concurrency: int | None = None
    max_memory: int = 256 * MiB
    max_bandwidth: int | None = None
    checksum: str = "crc64nvme"
    limits: StoreLimits = AWS

    def __post_init__(self) -> None:
        _at_least("multipart_threshold", self.multipart_threshold, 0)
        _at_least("multipart_download_threshold", self.multipart_download_threshold, 0)
        _at_least("part_size", self.part_size, self.limits.min_part_size)
        _at_least("max_memory", self.max_memory, 16 * MiB)
        if self.max_parts_in_flight is not None:
            _at_least("max_parts_in_flight", self.max_parts_in_flight, 1)
        if self.max_concurrency is not None:
            _at_least("max_concurrency", self.max_concurrency, 1)
        if self.max_bandwidth is not None and self.max_bandwidth < MIN_BANDWIDTH:
            raise UsageError(
                f"max_bandwidth is {self.max_bandwidth} bytes a second, the least is "
                f"{MIN_BANDWIDTH}: below it requests would time out",
                fix="Write bytes a second, as 100MB or 512KiB; leave it out for no limit",
            )
        if self.part_size > self.limits.max_part_size:
            raise UsageError(
                f"part size {self.part_size} is over {self.limits.max_part_size}, "
                f"the limit of {self.limits.name}"
            )
        if self.multipart_threshold > self.limits.max_put_size:
            raise UsageError(
                f"multipart threshold {self.multipart_threshold} is over "
                f"{self.limits.max_put_size}, the largest object that one PUT may write "
                f"({self.limits.name})"
            )

    @property
    def parts_at_first(self) -> int:
        """Parts of one object under way at once, before anything is known of the network."""
        return self.max_parts_in_flight or START_PARTS


class RefreshPolicy(Struct, frozen=True):
    """When a lease is renewed, in seconds, from its true lifetime L (Expiration minus Date).

    advisory = min(3600, max(0.25 L, min(120, 0.5 L))): renewal starts in the background.
    mandatory = min(60, 0.1 L): requests wait for the renewal from here on.
    A 900 s lease is renewed 225 s before its end; an 8 s lease 4 s before.
    """

    jitter: float = 0.05

    def advisory(self, lifetime: float) -> float:
        return min(3600.0, max(0.25 * lifetime, min(120.0, 0.5 * lifetime)))

    def mandatory(self, lifetime: float) -> float:
        return min(60.0, 0.1 * lifetime)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often one request is made again. Seconds; full jitter between tries."""

    max_attempts: int = 8
    base_delay: float = 0.1
    max_delay: float = 10.0
    # One budget for all requests of an engine: a store that is down must not cost
    # max_attempts times every request. Refilled by successes, as in AWS's standard mode.
    budget: int = 500


class Timeouts(Struct, frozen=True):
    """Seconds until a silent peer is given up; for ``expect``, until a body is sent unasked."""

    connect: float = 5.0
    first_byte: float = 15.0
    stall: float = 10.0
    complete: float = 600.0
    expect: float = 1.0


AddressingStyle = Literal["auto", "path", "virtual"]
RegionMismatch = Literal["follow", "error"]


class Endpoints(Struct, frozen=True):
    """Where the services are, and how they are reached. None means AWS's own address.

    Attributes:
        region_from: Who gave the region (``--region``, ``AWS_REGION``, ``profile x``); empty
            where nobody did, and a bucket is asked for its own.
        region_mismatch: What to do where a bucket says that it is in another region.
        redshift: Of the Redshift API; the database has an address of its own.
        sts_region: Of STS's signatures, where it is not ``region``.
        addressing_style: Whether a bucket's name stands in the path or in the host.
        dualstack: AWS's hosts with IPv6 addresses.
        fips: AWS's hosts with FIPS 140 validated TLS.
        expect_continue: Whether a big body may wait for ``100 Continue``; None is yes for AWS's
            own hosts and no for others, some of which never answer.
    """

    region: str = "us-east-1"
    region_from: str = ""
    region_mismatch: RegionMismatch = "follow"
    s3: str | None = None
    sts: str | None = None
    redshift: str | None = None
    sts_region: str | None = None
    imds: str | None = None
    addressing_style: AddressingStyle = "auto"
    dualstack: bool = False
    fips: bool = False
    expect_continue: bool | None = None
    ca_bundle: str | None = None
    proxies: Proxies = field(default_factory=Proxies)
    timeouts: Timeouts = field(default_factory=Timeouts)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name} is {value}, the least is {least}")
