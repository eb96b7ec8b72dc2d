"""The two calls of IAM Identity Center that credentials need, and what their errors mean.

Neither is signed: the access token, or the refresh token, is the authority.
https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine._aws.client import AnswerError, AwsClient
from engine.clock import http_date
from engine.config import Endpoints
from engine.errors import (
    AssumeRoleDenied,
    ConnectionFailed,
    CredentialsError,
    ProtocolError,
    RedirectRefused,
    SourceExpired,
    SourceUnavailable,
)
from engine.types import Credentials

# The token, or what it was got with, is not taken (any more).
_ENDED = frozenset(
    {
        "UnauthorizedException",
        "ExpiredTokenException",
        "InvalidGrantException",
        "InvalidClientException",
        "UnauthorizedClientException",
        "AccessDeniedException",
    }
)
_DENIED = frozenset({"ForbiddenException", "ResourceNotFoundException", "InvalidRequestException"})


@dataclass(frozen=True, slots=True)
class RefreshedToken:
    """What CreateToken gave. ``seconds`` is its lifetime."""

    access_token: str = field(repr=False)
    seconds: int
    refresh_token: str | None = field(default=None, repr=False)


class SsoClient:
    """Identity Center of one region. Its calls are hours apart, so each opens a client.

    Args:
        portal_url: Of the portal where it is not AWS's own; ``oidc_url`` likewise.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        user_agent: str,
        *,
        portal_url: str | None = None,
        oidc_url: str | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._region = region
        self._user_agent = user_agent
        self._portal_url = portal_url
        self._oidc_url = oidc_url

    async def get_role_credentials(
        self, account_id: str, role_name: str, access_token: str
    ) -> Credentials:
        """Keys of a permission set.

        Raises:
            SourceExpired: The token is over.
            AssumeRoleDenied: Its user may not use this role of this account.
            SourceUnavailable: No answer, too many requests, or a failure; retryable.
        """
        answer = await self._call(
            "sso",
            self._portal_url,
            "get_role_credentials",
            roleName=role_name,
            accountId=account_id,
            accessToken=access_token,
        )
        keys = answer["roleCredentials"]
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return Credentials(
            keys["accessKeyId"],
            keys["secretAccessKey"],
            keys["sessionToken"],
            expires_at=datetime.fromtimestamp(keys["expiration"] / 1000, UTC),
            issued_at=http_date(headers.get("date"), unzoned=UTC),
        )

    async def create_token(
        self, client_id: str, client_secret: str, refresh_token: str
    ) -> RefreshedToken:
        """A new access token. Raises as ``get_role_credentials``."""
        answer = await self._call(
            "sso-oidc",
            self._oidc_url,
            "create_token",
            clientId=client_id,
            clientSecret=client_secret,
            grantType="refresh_token",
            refreshToken=refresh_token,
        )
        return RefreshedToken(
            answer["accessToken"], int(answer["expiresIn"]), answer.get("refreshToken")
        )

    async def _call(self, service: str, url: str | None, operation: str, **fields: str) -> Any:
        client = AwsClient(service, self._endpoints, url, self._user_agent, region=self._region)
        try:
            return await client.call(operation, None, **fields)
        except AnswerError as error:
            raise _translate(error) from None
        except RedirectRefused as error:
            raise CredentialsError(error.headline, fix=error.fix) from None
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(error.headline, fix="Check sso_region") from None
        finally:
            await client.aclose()


def _translate(error: AnswerError) -> CredentialsError:
    facts = {"aws": f"{error.error_code} ({error.status})", "request_id": error.request_id}
    if error.error_code in _ENDED:
        return SourceExpired("IAM Identity Center does not take the token any more", **facts)
    if error.error_code in _DENIED:
        return AssumeRoleDenied(
            "IAM Identity Center does not give the keys of this role",
            fix="Check sso_account_id and sso_role_name, and that the user has that permission set",
            **facts,
        )
    return SourceUnavailable("IAM Identity Center gives no keys just now", **facts)
