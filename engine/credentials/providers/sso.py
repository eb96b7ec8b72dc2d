"""Keys of a permission set of IAM Identity Center (AWS SSO), with the token of ``aws sso login``.

Refresh rule: at every renewal the cached token is read again from ~/.aws/sso/cache, so that a new
login is found. A token of an ``sso-session`` is refreshed in its last 15 minutes, where it may be,
and written back as the AWS CLI does: the next tool would be left with a refresh token that is
used up. A token of the older kind (``sso_start_url`` in the profile) cannot be refreshed.

Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, final

from engine._aws.sso import SsoClient
from engine.clock import LoopClock
from engine.credentials.context import SourceContext
from engine.credentials.documents import parse_time
from engine.errors import CredentialsError, SourceExpired, SourceMissing, UsageError
from engine.profiles import Profile, Profiles, home_directory
from engine.protocols import Clock, CredentialProvider
from engine.settings import SharedSettings
from engine.threads import ThreadDoor
from engine.types import Credentials

# Seconds before its end from which on a token is refreshed, as in botocore.
REFRESH_WINDOW = 900.0
# A token file has about 4 KiB.
_MAX_TOKEN_BYTES = 256 * 1024
_NEEDED = ("sso_account_id", "sso_role_name", "sso_start_url", "sso_region")
_OF_SESSION = ("sso_start_url", "sso_region")


@dataclass(frozen=True, slots=True)
class SsoSettings:
    """What a profile says of Identity Center. ``session`` is None for the older kind."""

    profile: str
    account_id: str
    role_name: str
    start_url: str
    region: str
    session: str | None = None

    @property
    def cache_name(self) -> str:
        """The token's file, as ``aws sso login`` names it."""
        name = self.session or self.start_url
        return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest() + ".json"

    @property
    def login(self) -> str:
        return f"Run aws sso login --profile {self.profile}"


@final
class SsoProvider(CredentialProvider):
    """Keys of ``settings``' role.

    Args:
        cache: The folder of the tokens.
    """

    def __init__(
        self,
        settings: SsoSettings,
        client: SsoClient,
        cache: Path,
        door: ThreadDoor,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._path = cache / settings.cache_name
        self._door = door
        self._clock = clock or LoopClock()
        self._kept: _Token | None = None

    async def fetch(self) -> Credentials:
        token = await self._token()
        settings = self._settings
        try:
            return await self._client.get_role_credentials(
                settings.account_id, settings.role_name, token.access_token
            )
        except SourceExpired as error:
            raise SourceExpired(error.headline, fix=settings.login, **error.facts) from None

    async def _token(self) -> _Token:
        """A token that lives; refreshed first where it ends soon and may be."""
        token = await self._read()
        if token.left(self._clock.now()) < REFRESH_WINDOW and token.may_be_refreshed(
            self._settings, self._clock.now()
        ):
            token = await self._refreshed(token)
        if token.left(self._clock.now()) <= 0:
            raise SourceExpired(
                f"the SSO session of profile {self._settings.profile} is over",
                fix=self._settings.login,
            )
        return token

    async def _read(self) -> _Token:
        """The token in the cache, or ours where the cache could not be written."""
        data = await self._door.run(_contents, self._path)
        found = _Token.of(data) if data is not None else None
        if found is None and self._kept is None:
            raise SourceExpired(
                f"there is no SSO token of profile {self._settings.profile} in {self._path}",
                fix=self._settings.login,
            )
        if found is None or (self._kept is not None and self._kept.expires_at > found.expires_at):
            assert self._kept is not None
            return self._kept
        return found

    async def _refreshed(self, token: _Token) -> _Token:
        """A newer token; the old one where none can be had."""
        document = token.document
        try:
            answer = await self._client.create_token(
                document["clientId"], document["clientSecret"], document["refreshToken"]
            )
        except CredentialsError:
            # Another process may have used the refresh token meanwhile, and written what it got.
            return await self._read()
        expires_at = self._clock.now() + timedelta(seconds=answer.seconds)
        newer = {
            **document,
            "startUrl": self._settings.start_url,
            "region": self._settings.region,
            "accessToken": answer.access_token,
            "expiresAt": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        newer.pop("refreshToken")
        if answer.refresh_token:
            newer["refreshToken"] = answer.refresh_token
        self._kept = _Token(answer.access_token, expires_at, newer)
        with contextlib.suppress(OSError):  # a home that cannot be written: we keep it ourselves
            await self._door.run(_replace, self._path, json.dumps(newer))
        return self._kept

    def describe(self) -> str:
        settings = self._settings
        return (
            f"SSO role {settings.role_name} in {settings.account_id} (profile {settings.profile})"
        )


@final
class _Token:
    """A token and the document that it is from."""

    def __init__(
        self, access_token: str, expires_at: datetime, document: Mapping[str, Any]
    ) -> None:
        self.access_token = access_token
        self.expires_at = expires_at
        self.document = document

    @classmethod
    def of(cls, data: bytes) -> _Token | None:
        """None for what is no token: half a file, or one of another tool."""
        try:
            document = json.loads(data)
            access_token, end = document["accessToken"], parse_time(document["expiresAt"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not isinstance(access_token, str) or not access_token or end is None:
            return None
        return cls(access_token, end, document)

    def left(self, now: datetime) -> float:
        return (self.expires_at - now).total_seconds()

    def may_be_refreshed(self, settings: SsoSettings, now: datetime) -> bool:
        """Whether it is of an ``sso-session``, and the registration of the tool still lives."""
        document = self.document
        names = ("clientId", "clientSecret", "refreshToken", "registrationExpiresAt")
        if settings.session is None or any(
            not isinstance(document.get(name), str) for name in names
        ):
            return False
        end = parse_time(document["registrationExpiresAt"])
        return end is not None and end > now

    def __repr__(self) -> str:
        return f"<SSO token until {self.expires_at}>"


def settings_of(profile: Profile, profiles: Profiles) -> SsoSettings | None:
    """What the profile says of Identity Center; None where it names neither account nor role.

    Raises:
        UsageError: A setting is missing, or its ``sso_session`` is, or contradicts it.
    """
    if profile.text("sso_account_id") is None and profile.text("sso_role_name") is None:
        return None
    found = {name: profile.text(name) for name in _NEEDED}
    session = profile.text("sso_session")
    if session is not None:
        section = profiles.sso_sessions.get(session)
        if section is None:
            raise UsageError(
                f"profile {profile.name} names the sso-session {session!r}, which is not in "
                f"{profiles.config_path}",
                fix="Run aws configure sso",
            )
        for name in _OF_SESSION:
            own, shared = found[name], section.text(name)
            if own is not None and shared is not None and own != shared:
                raise UsageError(
                    f"{name} of profile {profile.name} and of its sso-session {session!r} differ",
                    fix="Take it out of the profile",
                )
            found[name] = shared or own
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise UsageError(
            f"profile {profile.name} uses SSO but lacks {', '.join(missing)}",
            fix="Run aws configure sso",
        )
    values = {name.removeprefix("sso_"): value or "" for name, value in found.items()}
    return SsoSettings(profile=profile.name, session=session, **values)


def from_profile(
    context: SourceContext, profile: Profile, shared: SharedSettings
) -> SsoProvider | None:
    """The permission set of a profile, or None where it names none.

    Raises:
        UsageError: Its settings are not whole.
    """
    settings = settings_of(profile, shared.profiles)
    if settings is None:
        return None
    client = SsoClient(
        context.endpoints,
        settings.region,
        context.user_agent,
        portal_url=shared.endpoint_url("sso"),
        oidc_url=shared.endpoint_url("sso_oidc"),
    )
    cache = Path(home_directory(context.environ), ".aws", "sso", "cache")
    return SsoProvider(settings, client, cache, context.door)


def from_environment(context: SourceContext) -> SsoProvider:
    """The factory of ``sso``. Raises SourceMissing where the profile does not use it."""
    shared = SharedSettings.read(context.environ, context.profile)
    provider = from_profile(context, shared.profile, shared)
    if provider is None:
        raise SourceMissing(
            f"profile {shared.profile.name} has no sso_account_id and sso_role_name",
            fix="Run aws configure sso, or use another --source",
        )
    return provider


def _contents(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_BYTES)
    except OSError:
        return None


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, and for its owner only: other tools read it meanwhile."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
