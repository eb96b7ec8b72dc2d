"""Job: what a client process is told, as one JSON argument. Values only."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

REGION = "us-east-1"
BUCKET = "bench-bucket"
# The origin checks no signature; these only make the clients sign.
ACCESS_KEY_ID = "AKIDBENCHMARKONLY"
SECRET_ACCESS_KEY = "not-a-secret-of-anybody"


@dataclass(frozen=True, slots=True)
class Job:
    """One direction, one big object or a tree of small ones.

    Attributes:
        path: The file, or the folder of the tree.
        key: The object, or the prefix of the tree with its slash.
    """

    endpoint: str
    upload: bool
    tree: bool
    path: str
    key: str
    names: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls) -> Job:
        """The job of this process."""
        fields = json.loads(sys.argv[1])
        return cls(**{**fields, "names": tuple(fields["names"])})
