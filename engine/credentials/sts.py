"""The calls of STS that credentials are made with, as a seam: providers know nothing of a client.

What must not live here: how a call is sent (``_wire/sts.py``), or when (``broker.py``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from engine.types import CallerIdentity, Credentials


class Sts(Protocol):
    """STS of one region or endpoint. One request a call, never repeated here.

    Parameters are the fields of the API by their API names, absent ones left out.
    """

    @abstractmethod
    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        """AssumeRole, signed by ``caller``.

        Raises:
            AssumeRoleDenied: AccessDenied.
            RoleInvalid: A field is wrong.
            SourceExpired: The caller's credentials are over, or unknown to AWS.
            SourceUnavailable: STS throttles, fails or does not answer; retryable.
        """

    @abstractmethod
    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        """AssumeRoleWithWebIdentity, which is not signed.

        Raises:
            AssumeRoleDenied: The role does not trust the token.
            RoleInvalid: A field is wrong.
            SourceExpired: The token is over or not valid (any more): read it again.
            SourceUnavailable: STS or the identity provider does not answer; retryable.
        """

    @abstractmethod
    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        """AssumeRoleWithSAML, which is not signed. Raises as with a web identity."""

    @abstractmethod
    async def get_caller_identity(self, caller: Credentials) -> CallerIdentity:
        """Who ``caller`` is; needs no permission. Raises CredentialsError."""
