"""Parts of finished objects: GET and HEAD with a part number, and the checksums of parts.

What lives here: which bytes a part is, and what its answer says beyond them. What must not: open
uploads (gate_multipart), the checksum of a whole object (gate_s3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.testing import gate_checksum as checksum
from engine.testing.gate_answer import Answer
from engine.testing.gate_errors import AwsError
from engine.testing.gate_exchange import Exchange

PartSums = Literal["composite", "always", "never"]
"""Which objects' parts have checksums of their own: those with a composite checksum, as at S3, all
multipart objects, or none."""

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class AskedPart:
    """The part that a request is about: bytes ``start`` up to ``stop``.

    Attributes:
        by_number: Asked for by its number, not by a range that happens to be its bytes.
        encoded: Its checksum; empty where the store does not tell it.
        count: How many parts the object has; 0 for one that was not sent in parts.
    """

    start: int
    stop: int
    by_number: bool
    encoded: str
    count: int

    def forwarded(self, exchange: Exchange) -> tuple[str, Mapping[str, str]]:
        """Target and headers for moto, which takes a part for an object of its own."""
        request = exchange.request
        headers = dict(request.headers)
        if not self.by_number:
            return request.raw_path, headers
        if request.method == "GET":
            headers["Range"] = f"bytes={self.start}-{self.stop - 1}"
        path, _, query = request.raw_path.partition("?")
        kept = [pair for pair in query.split("&") if not pair.startswith("partNumber=")]
        return f"{path}?{'&'.join(kept)}" if kept else path, headers

    def describe(self, answer: Answer, stored: checksum.StoredChecksum, sums: bool) -> None:
        """Add what S3 says of a part to the answer that moto gave for its bytes."""
        size = sum(size for size, _ in stored.parts)
        if self.by_number:
            answer.status = 206
            answer.length = self.stop - self.start
            answer.headers["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{size}"
            if self.count:
                answer.headers["x-amz-mp-parts-count"] = str(self.count)
        if self.encoded and sums:
            answer.headers[checksum.HEADER + stored.algorithm] = self.encoded
            answer.headers["x-amz-checksum-type"] = stored.kind


def asked_part(
    exchange: Exchange, stored: checksum.StoredChecksum, sums: PartSums
) -> AskedPart | None:
    """The part that a GET or HEAD asks for, by number or by exactly its range; None for others.

    Raises:
        AwsError: InvalidPartNumber.
    """
    number = exchange.part_number
    asked = _RANGE.fullmatch(exchange.request.headers.get("Range", ""))
    if not stored.parts or (number is None and asked is None):
        return None
    if number is not None and not 1 <= number <= len(stored.parts):
        raise AwsError("InvalidPartNumber")
    told = sums == "always" or (
        sums == "composite" and (stored.kind == checksum.COMPOSITE or len(stored.parts) == 1)
    )
    start = 0
    for index, (size, encoded) in enumerate(stored.parts, start=1):
        stop = start + size
        same = asked is not None and (int(asked[1]), int(asked[2]) + 1) == (start, stop)
        if index == number or (number is None and same):
            count = len(stored.parts) if stored.in_parts else 0
            return AskedPart(start, stop, number is not None, encoded if told else "", count)
        start = stop
    return None
