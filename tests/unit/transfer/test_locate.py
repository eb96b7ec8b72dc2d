"""The place of one damaged byte, from the difference of two checksums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.transfer.checksums import CHECKSUMS
from engine.transfer.locate import MAX_SUSPECTS, damaged_offsets
from engine.types import GiB, KiB

NAMES = CHECKSUMS.names()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(min_size=1, max_size=5 * KiB), place=st.data())
def test_one_damaged_byte_is_found(name: str, data: bytes, place: st.DataObject) -> None:
    algorithm = CHECKSUMS.get(name)()
    offset = place.draw(st.integers(0, len(data) - 1))
    pattern = place.draw(st.integers(1, 255))
    damaged = bytearray(data)
    damaged[offset] ^= pattern
    found = damaged_offsets(
        algorithm, algorithm.update(bytes(damaged)), algorithm.update(data), len(data)
    )
    assert found == (offset,)


@pytest.mark.parametrize(
    ("name", "size"), [("crc64nvme", 2 * GiB), ("crc64nvme", 8 * GiB), ("crc32c", GiB // 2)]
)
@pytest.mark.parametrize("share", [0.0, 0.37, 1.0])
def test_one_flipped_bit_of_a_big_object_is_among_the_suspects(
    name: str, size: int, share: float
) -> None:
    algorithm = CHECKSUMS.get(name)()
    offset = int((size - 1) * share)
    # The bytes do not matter, so these are zeros but for one.
    flipped = algorithm.combine(algorithm.update(b"\x10"), 0, size - 1 - offset)
    clean = algorithm.combine(algorithm.update(b"\0"), 0, size - 1 - offset)
    found = damaged_offsets(algorithm, 1234 ^ flipped ^ clean, 1234, size)
    assert offset in found
    assert len(found) == 1 if name == "crc64nvme" else len(found) <= MAX_SUSPECTS


def test_what_cannot_be_told_is_not_guessed() -> None:
    crc64, crc32 = CHECKSUMS.get("crc64nvme")(), CHECKSUMS.get("crc32")()
    assert damaged_offsets(crc64, 7, 7, 100) == ()
    assert damaged_offsets(crc64, 7, 8, 0) == ()
    # More than one byte, far from each other.
    two = crc64.update(b"\1" + bytes(1_000) + b"\1")
    assert damaged_offsets(crc64, two, crc64.update(bytes(1_002)), 1_002) == ()
    # 32 bits say too little of so many places.
    assert damaged_offsets(crc32, 1, 2, 8 * GiB) == ()
