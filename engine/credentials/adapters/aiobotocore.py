"""aiobotocore, and aioboto3 above it: a session whose every signature takes the live set."""

from __future__ import annotations

from typing import Any

from engine.credentials.adapters import missing
from engine.credentials.shared import SharedLease


def session(shared: SharedLease) -> Any:
    """An ``aiobotocore.session.AioSession`` under the live credentials, for any event loop.

    For aioboto3: ``aioboto3.Session(botocore_session=...)``.

    Raises:
        UsageError: aiobotocore is not installed.
    """
    try:
        from aiobotocore.session import AioSession
    except ImportError:
        raise missing("aiobotocore") from None
    inner = AioSession()
    inner.register_component("credential_provider", _Resolver(_credentials(shared)))
    return inner


class _Resolver:
    """Stands where aiobotocore looks through its chain."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> Any:
        return self._credentials


def _credentials(shared: SharedLease) -> Any:
    from aiobotocore.credentials import AioCredentials
    from botocore.credentials import ReadOnlyCredentials

    class LiveCredentials(AioCredentials):  # type: ignore[misc]
        """aiobotocore's credentials; each signature takes the then current set."""

        def __init__(self) -> None:  # the base class would keep one set
            self.method = "s3engine"
            self.account_id = None

        async def get_frozen_credentials(self) -> Any:
            return _frozen(await shared.ready())

        access_key = property(lambda self: shared.get().access_key_id)
        secret_key = property(lambda self: shared.get().secret_access_key)
        token = property(lambda self: shared.get().session_token)

        def __repr__(self) -> str:
            return f"<LiveCredentials of {shared!r}>"

    def _frozen(live: Any) -> Any:
        return ReadOnlyCredentials(live.access_key_id, live.secret_access_key, live.session_token)

    return LiveCredentials()
