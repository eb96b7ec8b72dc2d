"""What a broker lends to others: threads, other loops, other SDKs.

What must not live here: how they get it (``shared.py``, ``adapters/``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine.credentials.adapters import ADAPTERS
from engine.credentials.shared import SharedLease

if TYPE_CHECKING:
    from engine.credentials.broker import Broker


class Lender:
    """The lending side of a broker."""

    def shared(self) -> SharedLease:
        """The live credentials for other threads and event loops of this process."""
        return SharedLease(cast("Broker", self))

    def boto3_session(self, **settings: Any) -> Any:
        """A ``boto3.Session`` under the live credentials, for any thread."""
        return ADAPTERS.get("boto3")(self.shared(), **settings)

    def aiobotocore_session(self) -> Any:
        """An ``AioSession`` under them; aioboto3 takes it as ``botocore_session``."""
        return ADAPTERS.get("aiobotocore")(self.shared())

    def s3fs_options(self) -> Any:
        """``s3fs.S3FileSystem(**options)``, or ``storage_options`` of who opens by fsspec."""
        return ADAPTERS.get("s3fs")(self.shared())

    def obstore_provider(self) -> Any:
        """``obstore.store.S3Store(..., credential_provider=provider)``."""
        return ADAPTERS.get("obstore")(self.shared())
