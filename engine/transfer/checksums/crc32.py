"""CRC32: what many clients write by default, so what many objects can be verified by."""

from __future__ import annotations

import base64
import zlib
from typing import final

from engine.protocols import ChecksumAlgorithm


@final
class Crc32(ChecksumAlgorithm):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html"""

    name = "crc32"
    header = "x-amz-checksum-crc32"

    def __init__(self) -> None:
        from awscrt import checksums

        self._combine = checksums.combine_crc32

    def update(self, data: memoryview | bytes, crc: int = 0) -> int:
        return zlib.crc32(data, crc)  # faster than awscrt's, and without the interpreter lock too

    def combine(self, first: int, second: int, second_length: int) -> int:
        return int(self._combine(first, second, second_length))

    def encode(self, crc: int) -> str:
        return base64.b64encode(crc.to_bytes(4, "big")).decode()
