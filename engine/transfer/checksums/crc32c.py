"""CRC32C, for stores and readers that do not know CRC64NVME."""

from __future__ import annotations

import base64
from typing import final

from engine.protocols import ChecksumAlgorithm


@final
class Crc32C(ChecksumAlgorithm):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html"""

    name = "crc32c"
    header = "x-amz-checksum-crc32c"

    def __init__(self) -> None:
        from awscrt import checksums

        self._crc = checksums.crc32c
        self._combine = checksums.combine_crc32c

    def update(self, data: memoryview | bytes, crc: int = 0) -> int:
        return int(self._crc(data, crc))

    def combine(self, first: int, second: int, second_length: int) -> int:
        return int(self._combine(first, second, second_length))

    def encode(self, crc: int) -> str:
        return base64.b64encode(crc.to_bytes(4, "big")).decode()
