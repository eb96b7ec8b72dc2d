"""boto3: a session whose every signature is made with the live set.

botocore's own ``RefreshableCredentials`` renew in the request path from 15 minutes before the
end on (``credentials.py``, ``_DEFAULT_ADVISORY_REFRESH_TIMEOUT``), so a session of 15 minutes is
renewed at every request. The class here has no window: it asks the broker, which reads a field.
"""

from __future__ import annotations

from typing import Any

from engine.credentials.adapters import missing
from engine.credentials.shared import SharedLease


def session(shared: SharedLease, **settings: Any) -> Any:
    """A ``boto3.Session`` under the live credentials, for any thread.

    Args:
        settings: Of ``boto3.Session``, as ``region_name``.

    Raises:
        UsageError: boto3 is not installed.
    """
    try:
        import boto3
        from botocore.session import Session
    except ImportError:
        raise missing("boto3") from None
    inner = Session()
    inner.register_component("credential_provider", _Resolver(_credentials(shared)))
    return boto3.Session(botocore_session=inner, **settings)


class _Resolver:
    """Stands where botocore looks through its chain."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _credentials(shared: SharedLease) -> Any:
    from botocore.credentials import Credentials, ReadOnlyCredentials

    class LiveCredentials(Credentials):  # type: ignore[misc]
        """botocore's credentials; each signature takes the then current set."""

        def __init__(self) -> None:  # the base class would keep one set
            self.method = "s3engine"
            self.account_id = None

        def get_frozen_credentials(self) -> Any:
            live = shared.get()
            return ReadOnlyCredentials(
                live.access_key_id, live.secret_access_key, live.session_token
            )

        access_key = property(lambda self: self.get_frozen_credentials().access_key)
        secret_key = property(lambda self: self.get_frozen_credentials().secret_key)
        token = property(lambda self: self.get_frozen_credentials().token)

        def __repr__(self) -> str:
            return f"<LiveCredentials of {shared!r}>"

    return LiveCredentials()
