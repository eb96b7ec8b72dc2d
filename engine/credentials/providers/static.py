"""Static keys of an IAM user, given or from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from engine.config import Endpoints
from engine.errors import SourceUnavailable, UsageError
from engine.protocols import CredentialProvider
from engine.redact import mask_key_id
from engine.types import Credentials


@final
class StaticProvider(CredentialProvider):
    """Keys that do not change.

    Raises:
        UsageError: A temporary key (``ASIA...``) without its session token. AWS would answer
            InvalidClientTokenId, which says nothing.
    """

    renews = False

    def __init__(self, credentials: Credentials, origin: str = "given keys") -> None:
        if credentials.access_key_id.startswith("ASIA") and not credentials.session_token:
            raise UsageError(
                f"temporary key {mask_key_id(credentials.access_key_id)} without session token",
                fix="Set AWS_SESSION_TOKEN too",
            )
        self._credentials = credentials
        self._origin = origin

    async def fetch(self) -> Credentials:
        return self._credentials

    def describe(self) -> str:
        return f"key {mask_key_id(self._credentials.access_key_id)} ({self._origin})"


def from_environment(environ: Mapping[str, str], endpoints: Endpoints) -> StaticProvider:
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN.

    Raises:
        SourceUnavailable: They are not set.
    """
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise SourceUnavailable(
            "no credentials in the environment",
            fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or use --source ec2 on an EC2 instance",
        )
    token = environ.get("AWS_SESSION_TOKEN") or None
    return StaticProvider(Credentials(key.strip(), secret.strip(), token), "environment")
