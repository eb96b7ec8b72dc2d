"""A role assumed with a token of an identity provider: EKS service accounts (IRSA), CI systems.

Refresh rule: the token file is read again at every renewal, because the platform rotates it; and
once more where STS does not take the token, which may have been rotated that very moment.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

from typing import final

from engine.credentials.context import SourceContext
from engine.credentials.role import DEFAULT_DURATION, RoleSpec
from engine.credentials.sts import Sts
from engine.credentials.token_file import read_token_file
from engine.errors import (
    AssumeRoleDenied,
    CredentialsError,
    SourceExpired,
    SourceMissing,
    UsageError,
)
from engine.profiles import Profile
from engine.protocols import CredentialProvider
from engine.settings import SharedSettings
from engine.threads import ThreadDoor
from engine.types import Credentials

# What STS takes for a token.
MIN_TOKEN, MAX_TOKEN = 4, 20_000
_VARIABLES = {
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "role_arn": "AWS_ROLE_ARN",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
}


@final
class WebIdentityProvider(CredentialProvider):
    """Assumes ``role_arn`` with the token in ``token_file``. The call is not signed.

    Args:
        duration: Seconds of one session, 900 to 43,200. It is the first hop, so that the rule of
            one hour does not hold for it.

    Raises:
        UsageError: A value that STS would refuse.
    """

    def __init__(
        self,
        role_arn: str,
        token_file: str,
        sts: Sts,
        door: ThreadDoor,
        *,
        session_name: str,
        duration: int = DEFAULT_DURATION,
    ) -> None:
        self._role = RoleSpec(role_arn, session_name=session_name, duration=duration)
        self._parameters = self._role.parameters(session_name, duration)
        self._token_file = token_file
        self._sts = sts
        self._door = door

    async def fetch(self) -> Credentials:
        token = await self._token()
        try:
            return await self._assume(token)
        except (SourceExpired, AssumeRoleDenied) as error:
            # AWS's page: "get a new identity token from the identity provider and then retry".
            newer = await self._token()
            if newer == token:
                error.add_note(f"the token is from {self._token_file}: renew it there")
                raise
            return await self._assume(newer)

    async def _assume(self, token: str) -> Credentials:
        return await self._sts.assume_role_with_web_identity(
            {**self._parameters, "WebIdentityToken": token}
        )

    async def _token(self) -> str:
        try:
            token = (await self._door.run(_read_token, self._token_file)).strip()
        except (OSError, ValueError) as error:
            raise CredentialsError(
                f"the web identity token cannot be read from {self._token_file}",
                fix="Check AWS_WEB_IDENTITY_TOKEN_FILE, or web_identity_token_file of the profile",
                reason=getattr(error, "strerror", None) or "not a text file",
            ) from None
        if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
            raise CredentialsError(
                f"{self._token_file} holds no web identity token ({len(token)} characters)",
                fix=f"STS takes {MIN_TOKEN} to {MAX_TOKEN}",
            )
        return token

    def describe(self) -> str:
        role = self._role.role
        return f"role {role.name} in {role.account} by web identity ({self._token_file})"


def from_profile(
    context: SourceContext, profile: Profile, *, use_environ: bool
) -> WebIdentityProvider | None:
    """By the environment (``use_environ``) and the profile; None where neither names a token.

    Each of the three settings is looked for by itself, as in botocore.

    Raises:
        UsageError: A token without a role, or a value that STS would refuse.
    """

    def text(name: str) -> str | None:
        value = context.environ.get(_VARIABLES[name]) if use_environ else None
        return value or profile.text(name)

    token_file, role_arn = text("web_identity_token_file"), text("role_arn")
    if token_file is None:
        return None
    if role_arn is None:
        raise UsageError(
            f"a web identity token ({token_file}), but no role to assume with it",
            fix="Set AWS_ROLE_ARN, or role_arn in the profile",
        )
    return WebIdentityProvider(
        role_arn,
        token_file,
        context.sts,
        context.door,
        session_name=text("role_session_name") or context.session_name,
    )


def from_environment(context: SourceContext) -> WebIdentityProvider:
    """The factory of ``web-identity``. A profile that was asked for comes without the
    environment. Raises SourceMissing where no token is named."""
    profile = SharedSettings.read(context.environ, context.profile).profile
    provider = from_profile(context, profile, use_environ=context.profile is None)
    if provider is None:
        raise SourceMissing(
            "AWS_WEB_IDENTITY_TOKEN_FILE is not set, and profile "
            f"{profile.name} has no web_identity_token_file",
            fix="Set it and AWS_ROLE_ARN, or use another --source",
        )
    return provider


def _read_token(path: str) -> str:
    return read_token_file(path, limit=4 * MAX_TOKEN, encoding="utf-8-sig")
