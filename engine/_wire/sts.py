"""The calls of STS over our own HTTP client, and what their errors mean.

Rules: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and its siblings.
What must not live here: when a call is made, or made again (``engine.credentials``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, final
from urllib.parse import urlencode

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.documents import read_document
from engine._wire.endpoint import Origin, parse_endpoint
from engine._wire.http11 import build_request
from engine._wire.partitions import service_host
from engine._wire.pool import ConnectionPool
from engine._wire.sigv4 import Signer
from engine._wire.xml import ErrorDocument, parse_error
from engine.clock import http_date
from engine.config import Endpoints
from engine.errors import (
    AssumeRoleDenied,
    ConnectionFailed,
    CredentialsError,
    ProtocolError,
    RoleInvalid,
    SourceExpired,
    SourceUnavailable,
)
from engine.protocols import Clock
from engine.redact import mask_external_id, mask_key_id
from engine.threads import ThreadDoor
from engine.types import CallerIdentity, Credentials

_VERSION = "2011-06-15"
# AWS makes no promise about the size of a session token; the rest is below 4 KiB.
_MAX_ANSWER = 256 * 1024
# One call a renewal and hop: more at once are extra leases, or a doctor.
_MAX_CONNECTIONS = 8
# A clock that is further off is corrected by the server's and the call made again, once.
# STS allows 5 minutes. Seconds.
_TOLERATED_SKEW = 60.0

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
# A web identity token or SAML assertion that is not valid (any more).
_BAD_TOKEN = frozenset({"InvalidIdentityToken"})
_DENIED = frozenset({"AccessDenied", "IDPRejectedClaim"})
# The key was deleted or rotated, or never was: its source may have another by now.
_UNKNOWN_CALLER = frozenset({"InvalidClientTokenId", "UnrecognizedClientException"})
_BAD_SIGNATURE = frozenset({"SignatureDoesNotMatch", "RequestTimeTooSkewed"})
# The last two are Ceph's words: no such role, and longer than the role allows.
_INVALID = frozenset(
    {
        "ValidationError",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "NoSuchEntity",
        "InvalidArgument",
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


class _Refusal(NamedTuple):
    """An answer that is an error."""

    status: int
    error_code: str
    text: str
    request_id: str
    date: datetime | None


class _Asked(NamedTuple):
    """What was asked of STS, for its errors."""

    what: str
    caller: str
    external_id: str
    region: str


@final
class StsClient:
    """STS of one region or endpoint. Satisfies the room of credentials' ``Sts``.

    Args:
        clock: For signatures; learns the server's time where ours is far off.
        user_agent: Sent with every call, so that CloudTrail can be read.
    """

    def __init__(
        self, endpoints: Endpoints, user_agent: str, *, clock: Clock, threads: ThreadDoor
    ) -> None:
        self._region = endpoints.sts_region or endpoints.region
        self._url = endpoints.sts or "https://" + service_host(
            "sts", self._region, dualstack=endpoints.dualstack, fips=endpoints.fips
        )
        self._user_agent = user_agent
        self._clock = clock
        self._signer = Signer(self._region, "sts")
        connector = Connector(endpoints.timeouts, threads, endpoints.ca_bundle, endpoints.proxies)
        self._pool = ConnectionPool(connector, clock, max_connections=_MAX_CONNECTIONS)

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
        return await self._issue("AssumeRole", caller, parameters, asked)

    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRoleWithWebIdentity call, not signed.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

        Raises:
            CredentialsError: By class, as ``assume_role``; SourceExpired where the token is over.
        """
        asked = self._asked(parameters, None)
        return await self._issue("AssumeRoleWithWebIdentity", None, parameters, asked)

    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        """One AssumeRoleWithSAML call, not signed.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithSAML.html

        Raises:
            CredentialsError: As with a web identity.
        """
        asked = self._asked(parameters, None)
        return await self._issue("AssumeRoleWithSAML", None, parameters, asked)

    async def get_caller_identity(self, caller: Credentials) -> CallerIdentity:
        """Who ``caller`` is.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

        Raises:
            CredentialsError: By class, as ``assume_role``.
        """
        asked = _Asked("say who the caller is", mask_key_id(caller.access_key_id), "", self._region)
        body, _ = await self._call("GetCallerIdentity", caller, {}, asked)
        try:
            values = read_document(body, below="GetCallerIdentityResult").values
            return CallerIdentity(values["Account"], values["Arn"], values.get("UserId", ""))
        except (ProtocolError, KeyError):
            raise SourceUnavailable(
                "STS gave no identity", fix="Check --sts-endpoint-url"
            ) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    def _asked(self, parameters: Mapping[str, Any], caller: Credentials | None) -> _Asked:
        return _Asked(
            f"assume {parameters['RoleArn']}",
            mask_key_id(caller.access_key_id) if caller else "",
            mask_external_id(parameters.get("ExternalId")) if caller else "",
            self._region,
        )

    async def _issue(
        self,
        action: str,
        caller: Credentials | None,
        parameters: Mapping[str, Any],
        asked: _Asked,
    ) -> Credentials:
        body, date = await self._call(action, caller, parameters, asked)
        return read_issued(action, body, date)

    async def _call(
        self,
        action: str,
        caller: Credentials | None,
        parameters: Mapping[str, Any],
        asked: _Asked,
    ) -> tuple[bytes, datetime | None]:
        """The answer's body and its Date."""
        fields = [("Action", action), ("Version", _VERSION), *_flattened("", parameters)]
        body = urlencode(fields).encode()
        try:
            answer = await self._send(caller, body)
            if isinstance(answer, _Refusal) and self._clock_was_off(answer):
                answer = await self._send(caller, body)
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(
                f"STS gave no answer to {action}: {error.headline}",
                fix=error.fix or "Check --sts-endpoint-url",
                **error.facts,
            ) from None
        if isinstance(answer, _Refusal):
            raise _translate(answer, asked)
        return answer

    async def _send(
        self, caller: Credentials | None, body: bytes
    ) -> tuple[bytes, datetime | None] | _Refusal:
        origin, _ = parse_endpoint(self._url)

        async def send(connection: Connection) -> None:
            connection.begin_send(memoryview(body), self._head(origin, caller, body))
            await connection.sent()

        async with self._pool.request(origin, "POST", send, repeatable=True) as response:
            data = await response.read_small(_MAX_ANSWER)
            status, headers = response.head.status, response.head.headers
        date = http_date(headers.get("date"), unzoned=UTC)
        if status == 200:
            if date is not None:
                self._clock.heard(date)
            return data, date
        try:
            said = parse_error(data)
        except ProtocolError:
            said = ErrorDocument()  # HTML of a proxy, or nothing at all
        request_id = headers.get("x-amzn-requestid", said.request_id)
        return _Refusal(status, said.code or str(status), said.message, request_id, date)

    def _head(self, origin: Origin, caller: Credentials | None, body: bytes) -> bytes:
        headers = {
            "host": origin.host_header,
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        }
        if caller is not None:
            digest = sha256(body).hexdigest()
            headers = self._signer.sign_head(
                caller, "POST", "/", headers, now=self._clock.now(), payload_hash=digest
            )
        headers |= {"content-length": str(len(body)), "user-agent": self._user_agent}
        return build_request("POST", "/", headers)

    def _clock_was_off(self, refused: _Refusal) -> bool:
        """Whether the signature failed for our clock, which then has learned the server's."""
        if refused.error_code not in _BAD_SIGNATURE or refused.date is None:
            return False
        if abs((refused.date - self._clock.now()).total_seconds()) < _TOLERATED_SKEW:
            return False
        self._clock.learn(refused.date)
        return True


def read_issued(action: str, body: bytes, date: datetime | None) -> Credentials:
    """The session in an answer of ``action``.

    Args:
        date: Of the answer.

    Raises:
        SourceUnavailable: There is none, or not all of it.
    """
    try:
        issued = read_document(body, "Credentials", below=f"{action}Result").rows[0]
        ends = datetime.fromisoformat(issued["Expiration"])
        fields = issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"]
        if not all(fields):
            raise ValueError
    except (ProtocolError, IndexError, KeyError, ValueError):
        raise SourceUnavailable("STS gave no credentials", fix="Check --sts-endpoint-url") from None
    # A time without a zone is in UTC, as all of AWS's are.
    ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return Credentials(*fields, expires_at=ends, issued_at=date)


def _flattened(prefix: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields as the query protocol writes them: ``Tags.member.1.Key``."""
    for name, value in fields.items():
        if isinstance(value, list):
            for index, item in enumerate(value, 1):
                place = f"{prefix}{name}.member.{index}"
                if isinstance(item, Mapping):
                    yield from _flattened(f"{place}.", item)
                else:
                    yield place, str(item)
        else:
            yield f"{prefix}{name}", str(value)


def _translate(error: _Refusal, asked: _Asked) -> CredentialsError:
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
            "name this caller, it wants another external id (--external-id), the caller lacks "
            "sts:AssumeRole on the role, or another condition (MFA, source address, tags, "
            "organisation). s3engine doctor looks closer",
            **facts,
        )
    if code in _INVALID:
        fix = next((fix for words, fix in _VALIDATION_FIXES if words in error.text), "")
        return RoleInvalid(f"STS refuses to {what}: {error.text or code}", fix=fix, **facts)
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
    if 300 <= error.status < 400:
        return CredentialsError(
            f"STS answered with a redirect ({error.status}) when asked to {what}",
            fix="Redirects are never followed: they would take the signature along. "
            "Check --sts-endpoint-url",
            **facts,
        )
    return SourceUnavailable(f"STS could not {what} just now", **facts)
