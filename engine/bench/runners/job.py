"""Job: what a measured process is told, as a JSON file. Keys stand in its environment.

What lives here: plain values. What must not: imports that cost start-up.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

BLOCK = 1024 * 1024


class Job:
    """One job of one tool.

    Attributes:
        verb: ``upload``, ``download`` or ``list``.
        folder: Where the files are, or are written to.
        key: The prefix of all objects, with its slash.
        items: Name and size of each object.
        endpoint, ca: Empty where they are the usual ones.
        checksum: As S3 writes it (``CRC32C``), or empty.
        options: Further flags of s3engine.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.verb: str = fields["verb"]
        self.folder: str = fields["folder"]
        self.bucket: str = fields["bucket"]
        self.key: str = fields["key"]
        self.items: list[tuple[str, int]] = [(name, size) for name, size in fields["items"]]
        self.in_memory: bool = fields["in_memory"]
        self.endpoint: str = fields["endpoint"]
        self.region: str = fields["region"]
        self.ca: str = fields["ca"]
        self.checksum: str = fields["checksum"]
        self.options: dict[str, Any] = fields["options"]

    @classmethod
    def from_argument(cls) -> Job:
        """The job of this process."""
        with open(sys.argv[1]) as file:
            return cls(json.load(file))

    def path(self, name: str) -> str:
        """Of an object's file."""
        return os.path.join(self.folder, name)

    def make_folders(self) -> None:
        """Those that the files of a download need."""
        for folder in {os.path.dirname(self.path(name)) for name, _ in self.items}:
            os.makedirs(folder, exist_ok=True)

    def check_listed(self, count: int) -> None:
        """A listing that lost keys is no result."""
        if count != len(self.items):
            sys.exit(f"listed {count} keys instead of {len(self.items)}")

    def memory(self) -> memoryview:
        """Bytes for the biggest object of an upload from memory; smaller ones take the start."""
        most = max(size for _, size in self.items)
        block = os.urandom(min(most, BLOCK))
        data = bytearray(most)
        for at in _starts(most):
            data[at : at + BLOCK] = block[: most - at]
        return memoryview(data)


def _starts(size: int) -> Iterator[int]:
    return iter(range(0, size, BLOCK))


class Nowhere:
    """A file that forgets what is written and counts it."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self.size += len(data)
        return len(data)

    def check(self, size: int) -> None:
        """A download that lost bytes is no result."""
        if self.size != size:
            sys.exit(f"got {self.size} bytes instead of {size}")


def keys() -> tuple[str, str, str | None]:
    """Access key, secret key, session token."""
    environ = os.environ
    token = environ.get("AWS_SESSION_TOKEN")
    return environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], token
