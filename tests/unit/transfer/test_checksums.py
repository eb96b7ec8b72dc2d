"""Every checksum in the table: parts combined are the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.transfer.checksums import CHECKSUMS

# Check values of "123456789": the CRC catalogue's CRC-64/NVME, CRC-32/ISCSI, CRC-32/ISO-HDLC.
KNOWN = {"crc64nvme": "AE8B14860A799888", "crc32c": "E3069283", "crc32": "CBF43926"}


@pytest.mark.parametrize("name", CHECKSUMS.names())
def test_the_check_value_is_the_catalogues(name: str) -> None:
    import base64

    algorithm = CHECKSUMS.get(name)()
    value = base64.b64decode(algorithm.encode(algorithm.update(b"123456789")))
    assert value.hex().upper() == KNOWN[name]
    assert algorithm.header == f"x-amz-checksum-{name}"


@pytest.mark.parametrize("name", CHECKSUMS.names())
@given(pieces=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_combined_parts_are_the_whole(name: str, pieces: list[bytes]) -> None:
    algorithm = CHECKSUMS.get(name)()
    combined = running = 0
    for piece in pieces:
        combined = algorithm.combine(combined, algorithm.update(piece), len(piece))
        running = algorithm.update(memoryview(piece), running)
    assert combined == running == algorithm.update(b"".join(pieces))
