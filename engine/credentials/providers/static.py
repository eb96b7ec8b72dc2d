"""Static keys of an IAM user, given or from the environment.

Refresh rule: given keys never change; the environment is read again every minute, and at once
when AWS calls the keys expired or unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import final

from engine.credentials.context import SourceContext, check_whole
from engine.errors import SourceMissing, UsageError
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
        check_whole(credentials)
        # A session token means a role, or a GetSessionToken session, which STS caps alike:
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_request.html
        self.is_role = credentials.session_token is not None
        self._credentials = credentials
        self._origin = origin

    async def fetch(self) -> Credentials:
        return self._credentials

    def describe(self) -> str:
        return f"key {mask_key_id(self._credentials.access_key_id)} ({self._origin})"


@final
class EnvironmentProvider(CredentialProvider):
    """Keys in the environment, read again at every fetch: a process may set new ones.

    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN (or its
    old name AWS_SECURITY_TOKEN) and AWS_CREDENTIAL_EXPIRATION.

    Raises:
        SourceMissing: AWS_ACCESS_KEY_ID is not set.
        UsageError: A key without its secret, a temporary key without its token, or an end that
            is no time.
    """

    recheck = 60.0

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._credentials = _from(environ)
        self.is_role = self._credentials.session_token is not None

    async def fetch(self) -> Credentials:
        self._credentials = _from(self._environ)
        return self._credentials

    def describe(self) -> str:
        return f"key {mask_key_id(self._credentials.access_key_id)} (environment)"


def from_environment(context: SourceContext) -> EnvironmentProvider:
    """The factory of ``env``."""
    return EnvironmentProvider(context.environ)


def _from(environ: Mapping[str, str]) -> Credentials:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key:
        raise SourceMissing(
            "no credentials in the environment",
            fix="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use another --source",
        )
    if not secret:
        raise UsageError(
            "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", fix="Set both or neither"
        )
    token = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN") or None
    credentials = Credentials(
        key.strip(), secret.strip(), token, _end(environ.get("AWS_CREDENTIAL_EXPIRATION"))
    )
    check_whole(credentials)
    return credentials


def _end(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"AWS_CREDENTIAL_EXPIRATION is not a time: {text!r}",
            fix="Write it as 2026-01-31T12:00:00Z",
        ) from None
    return end if end.tzinfo else end.replace(tzinfo=UTC)
