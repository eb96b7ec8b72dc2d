"""s3fs, and what opens ``s3://`` by fsspec: options of a file system under the live credentials.

s3fs runs its requests in a loop and thread of its own, which a ``SharedLease`` serves.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from engine.credentials.adapters import ADAPTERS, missing
from engine.credentials.shared import SharedLease


def options(shared: SharedLease) -> dict[str, Any]:
    """``s3fs.S3FileSystem(**options)``, or ``storage_options`` of pandas, dask and pyarrow.

    They hold for this process: the session in them cannot be pickled.

    Raises:
        UsageError: s3fs is not installed.
    """
    if find_spec("s3fs") is None:
        raise missing("s3fs")
    return {"anon": False, "session": ADAPTERS.get("aiobotocore")(shared)}
