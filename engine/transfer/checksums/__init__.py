"""Checksums, one file each: digest of a span of bytes, and of two spans put together.

They cover every byte in both directions, so they are the hot path: awscrt computes them without
the interpreter lock, at tens of GB/s.
"""

from functools import cache

from engine.protocols import ChecksumAlgorithm
from engine.registry import Registry

CHECKSUMS: Registry[type[ChecksumAlgorithm]] = Registry(
    "checksum",
    {
        "crc64nvme": "engine.transfer.checksums.crc64nvme:Crc64Nvme",
        "crc32c": "engine.transfer.checksums.crc32c:Crc32C",
        "crc32": "engine.transfer.checksums.crc32:Crc32",
    },
)

NONE = "none"
"""In a configuration: no checksum is computed, sent or compared."""

__all__ = ["CHECKSUMS", "NONE", "chosen"]


@cache  # they have no state
def chosen(name: str) -> ChecksumAlgorithm | None:
    """The algorithm of that name; None for ``none``. Raises UsageError for an unknown one."""
    return None if name == NONE else CHECKSUMS.get(name)()
