"""Values of options that several benchmarks take."""

from __future__ import annotations

import argparse
import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size_of(text: str) -> int:
    """``2GiB``, ``85MB``, ``4096`` as bytes."""
    match = re.fullmatch(r"([0-9]+)(?:([KMG]i?)?B?)", text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (such as 64KiB, 2GiB, 85MB)")
    return int(match[1]) * _UNITS[match[2] or ""]
