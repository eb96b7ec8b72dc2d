"""The ways to get a session from STS: as a user or a role, by a web identity, by SAML.

What lives here: who gets a session of which role, for how long and with what, and STS's XML for
it. What must not: HTTP, signatures, faults (gate_sts), or the syntax of parameters
(gate_sts_request).

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from xml.sax.saxutils import escape

from engine.testing.gate_errors import AwsError
from engine.testing.gate_federation import (
    SAML_AUDIENCE,
    SAML_USABLE,
    Federation,
    SamlAssertion,
    WebToken,
    oidc_provider_arn,
)
from engine.testing.gate_iam import (
    Accounts,
    Grant,
    KeyRecord,
    Role,
    SessionTraits,
    account_of,
    may_assume,
)
from engine.testing.gate_sts_request import (
    MAX_CHAINED_DURATION,
    RoleRequest,
    duration,
    federated_request,
    mfa_pair,
    role_request,
    token_text,
)
from engine.types import Credentials

MAX_WEB_TOKEN = 20_000
MAX_SAML = 100_000
MAX_USER_SESSION, DEFAULT_USER_SESSION = 129_600, 43_200
MAX_ROOT_SESSION = 3600  # a longer one is cut to this, not refused


@dataclass(frozen=True, slots=True)
class Issued:
    """A session that STS has just given out, and the inside of its answer."""

    access_key_id: str
    document: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Decides on sessions."""

    accounts: Accounts
    federation: Federation

    def assume_role(self, caller: KeyRecord, form: Mapping[str, str], now: datetime) -> Issued:
        """AssumeRole.

        Raises:
            AwsError: It is refused.
        """
        request = role_request(form)
        limit = self._limit(request)
        principal = caller.principal
        if principal.root:
            raise AwsError("AccessDenied", "Roles may not be assumed by root accounts.")
        mfa = self._mfa(request.serial_number, request.token_code) or principal.traits.mfa
        role = self.accounts.role(request.role_arn)
        refused = role is None or not may_assume(principal, role)
        if role is None or refused or role.external_id not in (None, request.external_id):
            # One answer for all reasons: AWS does not tell whether a role exists.
            raise _denied(principal.arn, "AssumeRole", request.role_arn)
        if role.require_mfa and not mfa:
            raise _denied(principal.arn, "AssumeRole", request.role_arn)
        traits = _traits(request, principal.traits, role, principal.arn, mfa=mfa)
        if caller.temporary and request.duration > MAX_CHAINED_DURATION:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed "
                "by role chaining.",
            )
        _check_maximum(request, role)
        issued = self.accounts.new_session(
            role, request.session_name, request.duration, now, limit, traits
        )
        return self._issued(issued, request, "")

    def with_web_identity(self, form: Mapping[str, str], now: datetime) -> Issued:
        """AssumeRoleWithWebIdentity. No signature is needed, and the session is not chained.

        Raises:
            AwsError: It is refused.
        """
        request = federated_request(form)
        text = token_text(form, "WebIdentityToken", MAX_WEB_TOKEN)
        limit = self._limit(request)
        token = self.federation.web_token(text)
        if token is None:
            raise AwsError("InvalidIdentityToken", "Couldn't retrieve verification key")
        if self.federation.rejected(text):
            raise AwsError("IDPRejectedClaim")
        if now >= token.expires_at:
            raise AwsError(
                "ExpiredTokenException",
                f"Token expired: current date/time {int(now.timestamp())} must be before the "
                f"expiration date/time {int(token.expires_at.timestamp())}",
            )
        role = self._role_for_token(request, token)
        _check_maximum(request, role)
        issued = self.accounts.new_session(role, request.session_name, request.duration, now, limit)
        provider = oidc_provider_arn(account_of(role.arn), token.issuer)
        more = (
            f"<SubjectFromWebIdentityToken>{escape(token.subject)}</SubjectFromWebIdentityToken>"
            f"<Audience>{escape(token.audience)}</Audience><Provider>{escape(provider)}</Provider>"
        )
        return self._issued(issued, request, more)

    def with_saml(self, form: Mapping[str, str], now: datetime) -> Issued:
        """AssumeRoleWithSAML. No signature is needed, and the session is not chained.

        Raises:
            AwsError: It is refused.
        """
        text = token_text(form, "SAMLAssertion", MAX_SAML)
        assertion = self.federation.saml_assertion(text)
        request = federated_request(
            form, session_name="-" if assertion is None else assertion.session_name
        )
        limit = self._limit(request)
        if assertion is None:
            raise AwsError("InvalidIdentityToken", "Response signature invalid")
        if self.federation.rejected(text):
            raise AwsError("IDPRejectedClaim")
        if now >= assertion.issued_at + SAML_USABLE:
            raise AwsError(
                "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"
            )
        role = self._role_for_assertion(request, form.get("PrincipalArn", ""), assertion)
        _check_maximum(request, role)
        ends_at = assertion.session_not_on_or_after
        if ends_at is not None and ends_at < now + timedelta(seconds=1):
            raise AwsError("ExpiredTokenException", "SessionNotOnOrAfter has passed")
        issued = self.accounts.new_session(
            role, request.session_name, request.duration, now, limit, ends_at=ends_at
        )
        more = (
            f"<Subject>{escape(assertion.subject)}</Subject><SubjectType>persistent</SubjectType>"
            f"<Issuer>https://idp.example/</Issuer><Audience>{SAML_AUDIENCE}</Audience>"
        )
        return self._issued(issued, request, more)

    def session_token(self, caller: KeyRecord, form: Mapping[str, str], now: datetime) -> Issued:
        """GetSessionToken: the same user, for a while.

        Raises:
            AwsError: It is refused.
        """
        principal = caller.principal
        default = MAX_ROOT_SESSION if principal.root else DEFAULT_USER_SESSION
        seconds = duration(form, default, MAX_USER_SESSION)
        serial_number, code = mfa_pair(form)
        if caller.temporary:
            raise AwsError("AccessDenied", "Cannot call GetSessionToken with session credentials")
        if principal.root:
            seconds = min(seconds, MAX_ROOT_SESSION)
        mfa = self._mfa(serial_number, code)
        issued = self.accounts.new_user_session(principal, seconds, now, mfa=mfa)
        return Issued(issued.access_key_id, _credentials(issued))

    def _limit(self, request: RoleRequest) -> tuple[Grant, ...] | None:
        """What inline and managed session policies grant together; None without any."""
        if request.policy is None and not request.policy_arns:
            return None
        grants = list(request.policy or ())
        for arn in request.policy_arns:
            if account_of(arn) not in ("aws", account_of(request.role_arn)):
                raise AwsError("ValidationError", f"{arn} is not of the role's account")
            managed = self.accounts.policy(arn)
            if managed is None:
                raise AwsError("ValidationError", f"The policy {arn} does not exist")
            grants += managed
        return tuple(grants)

    def _mfa(self, serial_number: str | None, code: str | None) -> bool:
        """Whether a good one-time code came with the request; it is used up by this."""
        if serial_number is None and code is None:
            return False
        if serial_number is None or code is None:
            raise AwsError(
                "AccessDenied",
                "MultiFactorAuthentication failed, must provide both MFA serial number and one "
                "time pass code.",
            )
        if not self.accounts.use_mfa_code(serial_number, code):
            raise AwsError(
                "AccessDenied",
                "MultiFactorAuthentication failed with invalid MFA one time pass code.",
            )
        return True

    def _role_for_token(self, request: RoleRequest, token: WebToken) -> Role:
        account = account_of(request.role_arn)
        provider = oidc_provider_arn(account, token.issuer)
        role = self.accounts.role(request.role_arn)
        if role is not None and not self.accounts.has_provider(provider):
            raise AwsError(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for {token.issuer}",
            )
        trusts = [] if role is None else [t for t in role.federated if t.provider_arn == provider]
        if trusts and all(t.audience not in ("*", token.audience) for t in trusts):
            raise AwsError("InvalidIdentityToken", "Incorrect token audience")
        if role is None or not any(fnmatchcase(token.subject, t.subject) for t in trusts):
            raise AwsError(
                "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"
            )
        return role

    def _role_for_assertion(
        self, request: RoleRequest, provider_arn: str, assertion: SamlAssertion
    ) -> Role:
        if not 20 <= len(provider_arn) <= 2048:
            raise AwsError("ValidationError", "Value at 'principalArn' is invalid")
        if not self.accounts.has_provider(provider_arn):
            raise AwsError("InvalidIdentityToken", "Specified provider doesn't exist")
        role = self.accounts.role(request.role_arn)
        trusted = role is not None and any(t.provider_arn == provider_arn for t in role.federated)
        named = (assertion.role_arn, assertion.provider_arn) == (request.role_arn, provider_arn)
        if role is None or not trusted or not named:
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML")
        return role

    def _issued(self, issued: Credentials, request: RoleRequest, more: str) -> Issued:
        record = self.accounts.key(issued.access_key_id)
        assert record is not None
        principal = record.principal
        user = (
            f"<AssumedRoleUser><AssumedRoleId>{escape(principal.user_id)}</AssumedRoleId>"
            f"<Arn>{escape(principal.arn)}</Arn></AssumedRoleUser>"
        )
        percent, source = request.packed_percent, principal.traits.source_identity
        if percent is not None:
            more += f"<PackedPolicySize>{percent}</PackedPolicySize>"
        if source is not None:
            more += f"<SourceIdentity>{escape(source)}</SourceIdentity>"
        return Issued(issued.access_key_id, _credentials(issued) + user + more)


def identity(record: KeyRecord) -> str:
    """What GetCallerIdentity says."""
    principal = record.principal
    return (
        f"<Arn>{escape(principal.arn)}</Arn><UserId>{escape(principal.user_id)}</UserId>"
        f"<Account>{principal.account}</Account>"
    )


def _credentials(issued: Credentials) -> str:
    assert issued.expires_at is not None
    return (
        "<Credentials>"
        f"<AccessKeyId>{issued.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{escape(issued.secret_access_key)}</SecretAccessKey>"
        f"<SessionToken>{escape(issued.session_token or '')}</SessionToken>"
        f"<Expiration>{issued.expires_at.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
        "</Credentials>"
    )


def _traits(
    request: RoleRequest, parent: SessionTraits, role: Role, caller: str, *, mfa: bool
) -> SessionTraits:
    """What the new session carries: the request's, and what the caller's session hands on."""
    inherited = {key.lower(): (key, value) for key, value in parent.transitive}
    wanted = {key.lower(): (key, value) for key, value in request.tags}
    marked = {key.lower() for key in request.transitive_keys}
    if not inherited.keys().isdisjoint(wanted.keys() | marked):
        raise AwsError(
            "InvalidParameterValue",
            "One of the specified transitive tag keys can't be set because it conflicts with a "
            "transitive tag key from the calling session.",
        )
    if not marked <= wanted.keys():
        raise AwsError(
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        )
    if (wanted or inherited) and not role.tag_session:
        raise _denied(caller, "TagSession", role.arn)
    source = request.source_identity or parent.source_identity
    if parent.source_identity not in (None, source):
        raise _denied(caller, "SetSourceIdentity", role.arn)
    if source is not None and not role.set_source_identity:
        raise _denied(caller, "SetSourceIdentity", role.arn)
    kept = [pair for key, pair in wanted.items() if key in marked]
    return SessionTraits(
        tags=(*inherited.values(), *wanted.values()),
        transitive=(*inherited.values(), *kept),
        source_identity=source,
        mfa=mfa,
    )


def _check_maximum(request: RoleRequest, role: Role) -> None:
    if request.duration > role.max_duration:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def _denied(caller: str, action: str, role_arn: str) -> AwsError:
    return AwsError(
        "AccessDenied",
        f"User: {caller} is not authorized to perform: sts:{action} on resource: {role_arn}",
    )
