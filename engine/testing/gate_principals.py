"""Users, roles and sessions as values, and the two decisions about them.

What lives here: what is known of a principal, what it may do, and whom a role trusts. What must
not: the state of all accounts (gate_iam), or where a request came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from engine.types import Credentials

Grant = tuple[str, str]
"""An action glob (``s3:GetObject``, ``PutObject``, ``sts:AssumeRole``) and a resource glob: a
bucket, ``bucket/key``, or the ARN of a role."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A user's long-term key."""

    arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def credentials(self) -> Credentials:
        """The key as the engine's value."""
        return Credentials(self.access_key_id, self.secret_access_key)


@dataclass(frozen=True, slots=True)
class FederatedTrust:
    """One identity provider that a role trusts.

    Attributes:
        provider_arn: Of an oidc-provider or a saml-provider of the role's account.
        subject: Glob over the subjects that it may vouch for.
        audience: The audience that a token must be for, or ``*``.
    """

    provider_arn: str
    subject: str = "*"
    audience: str = "*"


@dataclass(frozen=True, slots=True)
class SessionTraits:
    """What a session carries besides its grants, and hands on when it assumes a further role.

    Attributes:
        tags: All session tags, key and value.
        transitive: Those of them that pass to the next session.
        source_identity: Set once, then the same along the whole chain.
        mfa: Whether the session began with a one-time code.
    """

    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[tuple[str, str], ...] = ()
    source_identity: str | None = None
    mfa: bool = False


NO_TRAITS = SessionTraits()


@dataclass(frozen=True, slots=True)
class Role:
    """A role and its trust policy.

    Attributes:
        trust: ARNs of users, roles and account roots, account ids, service names, or ``*``.
        external_id: What sts:ExternalId must equal, or None for no condition.
        max_duration: MaxSessionDuration in seconds.
        session_lifetime: Seconds that sessions really live, or None for as long as asked.
        federated: Identity providers that it trusts.
        require_mfa: The aws:MultiFactorAuthPresent condition.
        tag_session: Whether the trust policy allows sts:TagSession.
        set_source_identity: Whether it allows sts:SetSourceIdentity.
    """

    arn: str
    trust: tuple[str, ...]
    allow: tuple[Grant, ...]
    external_id: str | None
    max_duration: int
    session_lifetime: float | None
    federated: tuple[FederatedTrust, ...] = ()
    require_mfa: bool = False
    tag_session: bool = True
    set_source_identity: bool = True


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed a request.

    Attributes:
        arn: The user's, or the assumed-role session's.
        role_arn: The role of a session, or None for a user.
        limit: Grants of the session policy, which only take away; None without one.
        traits: What a session carries besides its grants.
        root: Whether it is the account's root user.
        session_lifetime: Seconds that a user's own sessions really live, or None.
    """

    account: str
    arn: str
    user_id: str
    allow: tuple[Grant, ...]
    role_arn: str | None = None
    limit: tuple[Grant, ...] | None = None
    traits: SessionTraits = NO_TRAITS
    root: bool = False
    session_lifetime: float | None = None

    def may(self, action: str, *resources: str) -> bool:
        """Whether a grant covers ``action`` on one of ``resources``, the most exact one last."""
        if not _covers(self.allow, action, resources):
            return False
        # A grant of ours on a bucket covers its objects; a session policy is AWS's own, where
        # the bucket and its objects are different resources.
        return self.limit is None or _covers(self.limit, action, resources[-1:])


@dataclass(slots=True)
class KeyRecord:
    """An access key with what is needed to judge its requests.

    Attributes:
        expires_at: When it ends; a test may end it early.
        told_until: The Expiration that its holder was told.
        revoked: Everything that needs a permission is denied.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal: Principal
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    revoked: bool = False
    told_until: datetime | None = None

    @property
    def temporary(self) -> bool:
        """Whether it is a session's; a role assumed with it is chained."""
        return self.session_token is not None


def may_assume(caller: Principal, role: Role) -> bool:
    """Whether trust policy and identity policy together let ``caller`` assume ``role``.

    A caller named by ARN in the trust policy of a role of its own account needs nothing more;
    every other caller also needs sts:AssumeRole in its own policy.
    """
    names = {caller.arn, caller.role_arn or caller.arn}
    root = {caller.account, f"arn:aws:iam::{caller.account}:root", "*"}
    named = not names.isdisjoint(role.trust)
    if not named and root.isdisjoint(role.trust):
        return False
    if named and account_of(role.arn) == caller.account:
        return True
    return caller.may("sts:AssumeRole", role.arn)


def _covers(grants: tuple[Grant, ...], action: str, resources: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(action, name if ":" in name or name == "*" else f"s3:{name}")
        and any(fnmatchcase(resource, glob) for resource in resources)
        for name, glob in grants
    )


def account_of(arn: str) -> str:
    """The account id in an ARN."""
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else ""
