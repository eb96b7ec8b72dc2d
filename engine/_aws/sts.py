"""AssumeRole, and what its errors mean.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine._aws.client import AnswerError, AwsClient, server_date
from engine.config import Endpoints
from engine.errors import (
    AssumeRoleDenied,
    ConnectionFailed,
    CredentialsError,
    ProtocolError,
    RedirectRefused,
    RoleInvalid,
    SourceExpired,
    SourceUnavailable,
)
from engine.redact import mask_external_id, mask_key_id
from engine.types import Credentials

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_BAD_CALLER = frozenset(
    {"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)
_INVALID = frozenset(
    {
        "ValidationError",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "RegionDisabledException",
    }
)
# STS says only in words which rule a ValidationError broke: the second of the package's two
# tables on text. Words of the message -> what to do.
_VALIDATION_FIXES = (
    (
        "1 hour session limit",
        "A role that assumes a role gets at most 1 hour, whatever the role allows. Drop "
        "--session-duration: sessions are renewed while the job runs",
    ),
    (
        "MaxSessionDuration",
        "Drop --session-duration (sessions are renewed while the job runs), or let the role's "
        "owner raise MaxSessionDuration",
    ),
)


class StsClient:
    """STS of one region or endpoint."""

    def __init__(self, endpoints: Endpoints, user_agent: str) -> None:
        self._client = AwsClient("sts", endpoints, endpoints.sts, user_agent)

    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRole call, signed by ``caller``.

        Args:
            parameters: The fields of the API by their API names.

        Raises:
            AssumeRoleDenied: AccessDenied.
            RoleInvalid: STS found a field wrong.
            SourceExpired: The caller's credentials are over.
            SourceUnavailable: STS throttles, fails or does not answer; retryable.
        """
        try:
            answer = await self._client.call("assume_role", caller, **parameters)
        except AnswerError as error:
            raise _translate(error, caller, parameters) from None
        except RedirectRefused as error:
            raise CredentialsError(error.headline, fix=error.fix) from None
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(error.headline, fix="Check --sts-endpoint-url") from None
        issued = answer["Credentials"]
        return Credentials(
            issued["AccessKeyId"],
            issued["SecretAccessKey"],
            issued["SessionToken"],
            expires_at=issued["Expiration"],
            issued_at=server_date(answer["ResponseMetadata"].get("HTTPHeaders", {})),
        )

    async def aclose(self) -> None:
        await self._client.aclose()


def _translate(
    error: AnswerError, caller: Credentials, parameters: Mapping[str, Any]
) -> CredentialsError:
    role = parameters["RoleArn"]
    facts = {
        "caller": mask_key_id(caller.access_key_id),
        "external_id": mask_external_id(parameters.get("ExternalId")),
        "aws": f"{error.error_code} ({error.status})",
        "request_id": error.request_id,
    }
    if error.error_code in _EXPIRED:
        return SourceExpired(
            f"the credentials that assume {role} have expired",
            fix="Renew them, or use a source that renews itself (--source ec2)",
            **facts,
        )
    if error.error_code == "AccessDenied":
        return AssumeRoleDenied(
            f"not allowed to assume {role}",
            fix="STS does not say which condition failed. Likely: the role's trust policy does not "
            "name this caller, it wants another external id (--external-id), or the caller lacks "
            "sts:AssumeRole on the role",
            **facts,
        )
    if error.error_code in _INVALID:
        fix = next((fix for words, fix in _VALIDATION_FIXES if words in error.text), "")
        return RoleInvalid(f"STS refuses to assume {role}: {error.text}", fix=fix, **facts)
    if error.error_code in _BAD_CALLER:
        return CredentialsError(
            f"AWS does not know the key that would assume {role}",
            fix="Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the clock of this machine",
            **facts,
        )
    return SourceUnavailable(f"STS could not assume {role} just now", **facts)
