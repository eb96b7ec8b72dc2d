"""CRC64NVME: S3's default, always over the full object."""

from __future__ import annotations

import base64
from typing import final

from engine.protocols import ChecksumAlgorithm


@final
class Crc64Nvme(ChecksumAlgorithm):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html"""

    name = "crc64nvme"
    header = "x-amz-checksum-crc64nvme"

    def __init__(self) -> None:
        from awscrt import checksums

        self._crc = checksums.crc64nvme
        self._combine = checksums.combine_crc64nvme

    def update(self, data: memoryview | bytes, crc: int = 0) -> int:
        return int(self._crc(data, crc))

    def combine(self, first: int, second: int, second_length: int) -> int:
        return int(self._combine(first, second, second_length))

    def encode(self, crc: int) -> str:
        return base64.b64encode(crc.to_bytes(8, "big")).decode()
