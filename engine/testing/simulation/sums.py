"""Checksums as the simulated store computes them. The engine's own are what is being judged.

What lives here: the sum of bytes, and that of parts' sums. What must not: when one is asked for.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence

from awscrt import checksums as crt

from engine.types import Checksum

DEFAULT = "crc64nvme"  # what S3 computes where the client names nothing

_SUMS: dict[str, tuple[Callable[[bytes, int], int], int]] = {
    "crc64nvme": (crt.crc64nvme, 8),
    "crc32c": (crt.crc32c, 4),
    "crc32": (zlib.crc32, 4),
}


def checksum_of(algorithm: str, data: bytes) -> Checksum:
    """The checksum of all bytes."""
    function, width = _SUMS[algorithm]
    return Checksum(algorithm, base64.b64encode(function(data, 0).to_bytes(width, "big")).decode())


def composite_of(algorithm: str, parts: Sequence[bytes]) -> Checksum:
    """The checksum of the parts' checksums, as S3 writes it."""
    digests = b"".join(base64.b64decode(checksum_of(algorithm, part).value) for part in parts)
    value = f"{checksum_of(algorithm, digests).value}-{len(parts)}"
    return Checksum(algorithm, value, full_object=False)


def flipped(data: bytes, bit: int) -> bytes:
    """``data`` with one bit of it the other way round."""
    bit %= 8 * len(data)
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)
