"""The checksums of S3, as the server computes them.

What lives here: one incremental digest per algorithm, and the combination of part checksums to
that of the whole object. What must not: HTTP. The engine's own checksums are not used: they are
what is being judged.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from awscrt import checksums as crt

HEADER = "x-amz-checksum-"
DEFAULT = "crc64nvme"  # what S3 computes by itself where the client names nothing
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"


class Digest(Protocol):
    """Takes bytes and gives the digest."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


_NEW: dict[str, Callable[[], Digest]] = {
    "crc64nvme": lambda: _Crc(crt.crc64nvme, 8),
    "crc32c": lambda: _Crc(crt.crc32c, 4),
    "crc32": lambda: _Crc(crt.crc32, 4),
    "sha256": hashlib.sha256,
    "sha1": hashlib.sha1,
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "crc64nvme": crt.combine_crc64nvme,
    "crc32c": crt.combine_crc32c,
    "crc32": crt.combine_crc32,
}
ALGORITHMS = tuple(_NEW)


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """What the store keeps of an object's checksum.

    Attributes:
        etag: Tells which version of the object it belongs to.
        parts: Size and checksum of each part; of an object that was put whole, its own.
        in_parts: Whether it was sent in parts.
    """

    algorithm: str
    value: str
    kind: str
    etag: str
    parts: tuple[tuple[int, str], ...] = ()
    in_parts: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """As response headers."""
        return {HEADER + self.algorithm: self.value, "x-amz-checksum-type": self.kind}


def new_digest(algorithm: str) -> Digest:
    """An empty digest of one of ``ALGORITHMS``."""
    return _NEW[algorithm]()


def encode(digest: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(digest).decode()


def default_kind(algorithm: str) -> str:
    """The checksum type of a multipart upload that names only the algorithm."""
    return FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE


def may_be(algorithm: str, kind: str) -> bool:
    """Whether S3 allows this type: SHA has no combination, CRC64NVME is nothing else."""
    if kind == FULL_OBJECT:
        return algorithm in _COMBINE
    return kind == COMPOSITE and algorithm != "crc64nvme"


def whole_object(algorithm: str, kind: str, parts: Sequence[tuple[bytes, int]]) -> str:
    """The checksum of an object made of ``parts`` (digest and size of each), as S3 writes it."""
    if kind == COMPOSITE:
        digest = new_digest(algorithm)
        for value, _ in parts:
            digest.update(value)
        return f"{encode(digest.digest())}-{len(parts)}"
    width = len(parts[0][0])
    crc = int.from_bytes(parts[0][0], "big")
    for value, size in parts[1:]:
        crc = _COMBINE[algorithm](crc, int.from_bytes(value, "big"), size)
    return encode(crc.to_bytes(width, "big"))
