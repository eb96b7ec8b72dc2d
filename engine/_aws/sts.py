"""The calls of STS, and what their errors mean.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and its siblings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
from engine.types import CallerIdentity, Credentials

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
# A web identity token or SAML assertion that is not valid (any more).
_BAD_TOKEN = frozenset({"InvalidIdentityToken"})
_DENIED = frozenset({"AccessDenied", "IDPRejectedClaim"})
# The key was deleted or rotated, or never was: its source may have another by now.
_UNKNOWN_CALLER = frozenset({"InvalidClientTokenId", "UnrecognizedClientException"})
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "RequestTimeTooSkewed"})
_INVALID = frozenset({"ValidationError", "MalformedPolicyDocument", "PackedPolicyTooLarge"})
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


class _Asked(NamedTuple):
    """What was asked of STS, for its errors."""

    what: str
    caller: str
    external_id: str
    region: str


class StsClient:
    """STS of one region or endpoint. Satisfies the room of credentials' ``Sts``."""

    def __init__(self, endpoints: Endpoints, user_agent: str) -> None:
        self._region = endpoints.sts_region or endpoints.region
        self._client = AwsClient("sts", endpoints, endpoints.sts, user_agent, region=self._region)

    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRole call, signed by ``caller``.

        Args:
            parameters: The fields of the API by their API names.

        Raises:
            AssumeRoleDenied: AccessDenied.
            RoleInvalid: STS found a field wrong.
            SourceExpired: The caller's credentials are over, or unknown to AWS.
            SourceUnavailable: STS throttles, fails or does not answer; retryable.
        """
        asked = self._asked(parameters, caller)
        return _issued(await self._call("assume_role", caller, parameters, asked))

    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRoleWithWebIdentity call, not signed.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

        Raises:
            CredentialsError: By class, as ``assume_role``; SourceExpired where the token is over.
        """
        asked = self._asked(parameters, None)
        return _issued(await self._call("assume_role_with_web_identity", None, parameters, asked))

    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRoleWithSAML call, not signed.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithSAML.html

        Raises:
            CredentialsError: As with a web identity.
        """
        asked = self._asked(parameters, None)
        return _issued(await self._call("assume_role_with_saml", None, parameters, asked))

    async def get_caller_identity(self, caller: Credentials) -> CallerIdentity:
        """Who ``caller`` is.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

        Raises:
            CredentialsError: By class, as ``assume_role``.
        """
        asked = _Asked("say who the caller is", mask_key_id(caller.access_key_id), "", self._region)
        answer = await self._call("get_caller_identity", caller, {}, asked)
        return CallerIdentity(answer["Account"], answer["Arn"], answer.get("UserId", ""))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _asked(self, parameters: Mapping[str, Any], caller: Credentials | None) -> _Asked:
        return _Asked(
            f"assume {parameters['RoleArn']}",
            mask_key_id(caller.access_key_id) if caller else "",
            mask_external_id(parameters.get("ExternalId")) if caller else "",
            self._region,
        )

    async def _call(
        self,
        operation: str,
        caller: Credentials | None,
        parameters: Mapping[str, Any],
        asked: _Asked,
    ) -> Any:
        try:
            return await self._client.call(operation, caller, **parameters)
        except AnswerError as error:
            raise _translate(error, asked) from None
        except RedirectRefused as error:
            raise CredentialsError(error.headline, fix=error.fix) from None
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(error.headline, fix="Check --sts-endpoint-url") from None


def _issued(answer: Any) -> Credentials:
    issued = answer["Credentials"]
    return Credentials(
        issued["AccessKeyId"],
        issued["SecretAccessKey"],
        issued["SessionToken"],
        expires_at=issued["Expiration"],
        issued_at=server_date(answer["ResponseMetadata"].get("HTTPHeaders", {})),
    )


def _translate(error: AnswerError, asked: _Asked) -> CredentialsError:
    what = asked.what
    facts = {
        "caller": asked.caller,
        "external_id": asked.external_id,
        "aws": f"{error.error_code} ({error.status})",
        "request_id": error.request_id,
    }
    code = error.error_code
    if code in _EXPIRED:
        return SourceExpired(
            f"the credentials that {what} have expired",
            fix="Renew them, or use a source that renews itself (--source ec2)",
            **facts,
        )
    if code in _UNKNOWN_CALLER:
        return SourceExpired(
            f"AWS does not know the key that would {what}",
            fix="It was deleted or rotated, or is of another partition, or its session token is "
            "missing: check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN",
            **facts,
        )
    if code in _BAD_TOKEN:
        return SourceExpired(
            f"STS does not take the token that would {what}: {error.text}",
            fix="It is over, or of an identity provider that the role's account does not know",
            **facts,
        )
    if code in _DENIED:
        return AssumeRoleDenied(
            f"not allowed to {what}",
            fix="STS does not say which condition failed. Likely: the role's trust policy does not "
            "name this caller, it wants another external id (--external-id), or the caller lacks "
            "sts:AssumeRole on the role. s3engine doctor tells them apart",
            **facts,
        )
    if code in _INVALID:
        fix = next((fix for words, fix in _VALIDATION_FIXES if words in error.text), "")
        return RoleInvalid(f"STS refuses to {what}: {error.text}", fix=fix, **facts)
    if code == "RegionDisabledException":
        return RoleInvalid(
            f"STS of {asked.region} is switched off in the account of the role",
            fix=f"Let its owner activate STS in {asked.region} (IAM, account settings), or use "
            "another region's STS (--sts-endpoint-url)",
            **facts,
        )
    if code in _BAD_SIGNATURE:
        return CredentialsError(
            f"STS does not take the signature of the call that would {what}",
            fix="Check AWS_SECRET_ACCESS_KEY, the clock of this machine, and that --region is the "
            f"region of the STS endpoint ({asked.region} was signed for)",
            **facts,
        )
    return SourceUnavailable(f"STS could not {what} just now", **facts)
