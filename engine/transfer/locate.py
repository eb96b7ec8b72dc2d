"""Where the damage is, by nothing but two checksums of a whole object. PURE.

S3 keeps no checksum of the parts of an object that has one of its whole, so a checksum that does
not fit says that a bit is wrong and not where. But a CRC is linear: the difference between the
checksum that the bytes have and the one that they should have is that of the damage alone, moved
by as many zero bytes as follow it. If one byte is damaged, as by a flipped bit, there are few
differences that it can have made, and the distance is found by a discrete logarithm: small steps
from one side, large steps from the other, until both meet (Shanks, 1971).

What must not live here: I/O, or trust. The answer is a suspicion; whoever fetches these bytes
again compares the whole checksum again.
"""

from __future__ import annotations

from base64 import b64decode
from math import isqrt

from engine.protocols import ChecksumAlgorithm

# Small steps that are remembered; some 16 MiB for the time of the search.
_MAX_SMALL_STEPS = 1 << 17
# Large steps, 6 us each: an object of 1 TiB takes a minute in a thread, less than to fetch it.
_MAX_LARGE_STEPS = 1 << 23
# Beyond this size only single bits are looked for: a large step over all patterns takes 25 us.
_MAX_SIZE_OF_PATTERNS = 1 << 31
# Suspicions that are worth a fetch each. A CRC of 32 bits has several in a big object.
MAX_SUSPECTS = 4


def damaged_offsets(
    algorithm: ChecksumAlgorithm, got: int, meant: int, size: int
) -> tuple[int, ...]:
    """Offsets of the bytes that, if exactly one byte is damaged, may be that byte.

    Args:
        got: The CRC of the ``size`` bytes at hand.
        meant: The CRC that they should have.

    Returns:
        Usually one offset; none where more is damaged than a byte, where too many would be
        possible, or where the search would take too long.
    """
    width = 8 * len(b64decode(algorithm.encode(0)))
    difference = got ^ meant
    every_pattern = size <= _MAX_SIZE_OF_PATTERNS and 255 * size <= 1 << (width - 4)
    if difference == 0 or size == 0 or (not every_pattern and 8 * size > MAX_SUSPECTS << width):
        return ()
    steps = max(1, min(_MAX_SMALL_STEPS, isqrt(8 * size)))
    if size // steps > _MAX_LARGE_STEPS:
        return ()
    small = _small_steps(algorithm, difference, steps)
    found: set[int] = set()
    # The effect of each bit of a byte, moved by 0, steps, 2 * steps ... zero bytes.
    zero = algorithm.update(b"\0")
    bits = [algorithm.update(bytes((1 << bit,))) ^ zero for bit in range(8)]
    for moved in range(0, size + steps, steps):
        for effect in _all_patterns(bits) if every_pattern else bits:
            back = small.get(effect)
            if back is not None and 0 <= moved - back < size:
                found.add(size - 1 - (moved - back))
        if len(found) > MAX_SUSPECTS:
            return ()
        bits = [algorithm.combine(bit, 0, steps) for bit in bits]
    return tuple(sorted(found))


def _small_steps(algorithm: ChecksumAlgorithm, difference: int, steps: int) -> dict[int, int]:
    """The difference moved by 0, 1, 2 ... zero bytes -> how many."""
    zero = algorithm.update(b"\0")
    found: dict[int, int] = {}
    for count in range(steps):
        found.setdefault(difference, count)
        difference = algorithm.update(b"\0", difference) ^ zero
    return found


def _all_patterns(bits: list[int]) -> list[int]:
    """The effects of all 255 ways to damage a byte, from those of its bits."""
    effects = [0]
    for bit in bits:
        effects += [effect ^ bit for effect in effects]
    return effects[1:]
