"""NUMERIC in Redshift's binary form, which is not PostgreSQL's.

What lives here: the rewriting of one value. Redshift sends an integer of 8 or 16 bytes, scaled by
the column's scale; a client that reads PostgreSQL's form gets a wrong number without an error,
and a test must be able to fall into that trap. What must not: anything else.
"""

from __future__ import annotations

import struct

_OFFSET = 4
_NEGATIVE = 0x4000
_SPECIAL = 0xC000
# Up to 18 digits fit into 8 bytes; Redshift decides by the declared precision.
_SMALL_PRECISION = 18


def to_redshift(value: bytes, modifier: int) -> bytes:
    """PostgreSQL's binary numeric as Redshift would send it.

    Args:
        value: The field of a DataRow in binary format.
        modifier: The column's atttypmod, -1 where the type has no precision.
    """
    count, weight, sign, shown_scale = struct.unpack_from("!hhHH", value)
    if sign >= _SPECIAL:
        return value  # NaN and infinities: Redshift has none
    digits = struct.unpack_from(f"!{count}h", value, 8)
    if modifier >= _OFFSET:
        precision, scale = (modifier - _OFFSET) >> 16, (modifier - _OFFSET) & 0x7FF
    else:
        precision, scale = 2 * _SMALL_PRECISION, shown_scale
    scaled = 0
    for index, digit in enumerate(digits):
        # Digits are in base 10,000; the first is worth 10000**weight.
        exponent = 4 * (weight - index) + scale
        scaled += digit * 10**exponent if exponent >= 0 else digit // 10**-exponent
    if sign == _NEGATIVE:
        scaled = -scaled
    return scaled.to_bytes(8 if precision <= _SMALL_PRECISION else 16, "big", signed=True)
