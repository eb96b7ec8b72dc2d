"""obstore: a credential provider for its ``S3Store``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from engine.credentials.adapters import missing
from engine.credentials.shared import SharedLease

# obstore keeps a set until 300 s before the end that it is told (``TokenCache`` of
# pyo3-object_store), and for 100 ms one that ends sooner. With less than 300 s it asks at every
# request, so that no set is kept past its end by a wrong wall clock, nor past a rotation.
_TOLD_LIFE = timedelta(seconds=60)
# It calls from threads of its own that no cancellation reaches, so their wait has an end.
_MAX_WAIT = 90.0


def provider(shared: SharedLease) -> Callable[[], dict[str, Any]]:
    """``S3Store(..., credential_provider=provider)``.

    Not async, so that it serves obstore's blocking and its async calls alike. Blocking calls
    belong into a thread: in the broker's own loop they keep the renewal from running.

    Raises:
        UsageError: obstore is not installed.
    """
    if find_spec("obstore") is None:
        raise missing("obstore")

    def current() -> dict[str, Any]:
        live = shared.get(_MAX_WAIT)
        return {
            "access_key_id": live.access_key_id,
            "secret_access_key": live.secret_access_key,
            "token": live.session_token,
            "expires_at": datetime.now(UTC) + _TOLD_LIFE,
        }

    return current
