"""Job: what a measured process is told, as one JSON argument. Keys stand in the environment.

What lives here: plain values and the exit code for "this tool cannot". What must not: imports that
cost start-up; it runs inside every measured process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# The runner ends with it where its tool has no way to do the job; no failure.
CANNOT = 64
REGION = "us-east-1"
BUCKET = "bench-bucket"


class Job:
    """One direction, one big object or a tree of small ones, or a listing.

    Attributes:
        verb: ``up``, ``down`` or ``list``.
        path: The file, or the folder of the tree.
        key: The object, or the prefix of the tree with its slash.
        count: Objects of the tree or of the listing.
        checksums: ``default``: as the tool comes; ``on``: all it offers; ``off``: none.
        role: ARN that the tool is to assume by itself; empty where the keys are those to use.
        ca: PEM file of the authority to trust; empty over http.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.verb: str = fields["verb"]
        self.tree: bool = fields["tree"]
        self.endpoint: str = fields["endpoint"]
        self.path: str = fields["path"]
        self.key: str = fields["key"]
        self.size: int = fields["size"]
        self.count: int = fields["count"]
        self.checksums: str = fields["checksums"]
        self.role: str = fields["role"]
        self.ca: str = fields["ca"]

    @classmethod
    def from_argument(cls) -> Job:
        """The job of this process."""
        return cls(json.loads(sys.argv[1]))

    def local_names(self) -> list[str]:
        """Names of the tree's files, with a slash between folders."""
        return [
            os.path.relpath(os.path.join(folder, name), self.path)
            for folder, _, names in os.walk(self.path)
            for name in names
        ]

    def check_listed(self, count: int) -> None:
        """A listing that lost keys is no result."""
        if count != self.count:
            sys.exit(f"listed {count} keys instead of {self.count}")


def keys() -> tuple[str, str, str | None]:
    """Access key, secret key, session token."""
    environ = os.environ
    token = environ.get("AWS_SESSION_TOKEN")
    return environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], token
