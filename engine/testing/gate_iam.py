"""Accounts as the gate keeps them: users, roles, access keys, sessions, who may do what.

What lives here: state and decisions, behind one lock, because tests change it from their thread
while the gate serves. What must not: HTTP, XML, or how a signature is computed.
"""

from __future__ import annotations

import base64
import secrets
import string
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from engine.errors import UsageError
from engine.types import Credentials

Grant = tuple[str, str]
"""An action glob (``s3:GetObject``, ``PutObject``, ``sts:AssumeRole``) and a resource glob: a
bucket, ``bucket/key``, or the ARN of a role."""

MIN_SESSION_LIFETIME = 5.0  # Expiration has steps of 1 s, so shorter ones would be noise
_ID_ALPHABET = string.ascii_uppercase + "234567"
_TOKEN_BYTES = 300  # real tokens have several hundred characters and no documented limit


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
class Role:
    """A role and its trust policy.

    Attributes:
        trust: ARNs of users, roles and account roots, account ids, service names, or ``*``.
        external_id: What sts:ExternalId must equal, or None for no condition.
        max_duration: MaxSessionDuration in seconds.
        session_lifetime: Seconds that sessions really live, or None for as long as asked.
    """

    arn: str
    trust: tuple[str, ...]
    allow: tuple[Grant, ...]
    external_id: str | None
    max_duration: int
    session_lifetime: float | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed a request.

    Attributes:
        arn: The user's, or the assumed-role session's.
        role_arn: The role of a session, or None for a user.
        limit: Grants of the session policy, which only take away; None without one.
    """

    account: str
    arn: str
    user_id: str
    allow: tuple[Grant, ...]
    role_arn: str | None = None
    limit: tuple[Grant, ...] | None = None

    def may(self, action: str, *resources: str) -> bool:
        """Whether a grant covers ``action`` on one of ``resources``, the most exact one last."""
        if not _covers(self.allow, action, resources):
            return False
        # A grant of ours on a bucket covers its objects; a session policy is AWS's own, where
        # the bucket and its objects are different resources.
        return self.limit is None or _covers(self.limit, action, resources[-1:])


@dataclass(slots=True)
class KeyRecord:
    """An access key with what is needed to judge its requests."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal: Principal
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    revoked: bool = False


class Accounts:
    """All users, roles, keys and bucket owners. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, KeyRecord] = {}
        self._roles: dict[str, Role] = {}
        self._owners: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Accounts({len(self._roles)} roles, {len(self._keys)} keys)"

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._keys.clear()
            self._roles.clear()
            self._owners.clear()

    def add_user(self, account: str, name: str, allow: Iterable[Grant]) -> AccessKey:
        """A user with one access key."""
        _check_account(account)
        arn = f"arn:aws:iam::{account}:user/{name}"
        principal = Principal(account, arn, _new_id("AIDA"), tuple(allow))
        record = KeyRecord(_new_id("AKIA"), _new_secret(), principal)
        with self._lock:
            self._keys[record.access_key_id] = record
        return AccessKey(arn, record.access_key_id, record.secret_access_key)

    def add_role(self, role: Role) -> None:
        """Add or replace a role. Sessions that exist keep the grants they began with."""
        _check_account(account_of(role.arn))
        if role.session_lifetime is not None and role.session_lifetime < MIN_SESSION_LIFETIME:
            raise UsageError(
                f"a session of {role.session_lifetime} s is too short",
                fix=f"Expiration has steps of 1 s; use at least {MIN_SESSION_LIFETIME:.0f} s",
            )
        with self._lock:
            self._roles[role.arn] = role

    def role(self, arn: str) -> Role | None:
        """The role of that ARN, or None."""
        return self._roles.get(arn)

    def key(self, access_key_id: str) -> KeyRecord | None:
        """The record of an access key, or None."""
        return self._keys.get(access_key_id)

    def remove_key(self, access_key_id: str) -> None:
        """Delete a user's key, as a rotation does."""
        with self._lock:
            self._keys.pop(access_key_id, None)

    def new_session(
        self,
        role: Role,
        name: str,
        seconds: float,
        now: datetime,
        limit: tuple[Grant, ...] | None = None,
    ) -> Credentials:
        """Issue a session of ``role``.

        Args:
            role: Whose grants it gets.
            name: The session name in its ARN.
            seconds: Lifetime asked for; the role's ``session_lifetime`` overrides it.
            now: The gate's clock. Cut to whole seconds, as AWS writes times.
            limit: Grants of the session policy, or None.
        """
        account, role_name = account_of(role.arn), role.arn.rpartition("/")[2]
        lifetime = seconds if role.session_lifetime is None else role.session_lifetime
        issued_at = now.replace(microsecond=0)
        principal = Principal(
            account=account,
            arn=f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
            user_id=f"{_new_id('AROA')}:{name}",
            allow=role.allow,
            role_arn=role.arn,
            limit=limit,
        )
        record = KeyRecord(
            access_key_id=_new_id("ASIA"),
            secret_access_key=_new_secret(),
            principal=principal,
            # The slash, plus and equals sign of real tokens have broken signers before.
            session_token=f"IQoJ/{secrets.token_urlsafe(_TOKEN_BYTES)}+==",
            expires_at=issued_at + timedelta(seconds=int(lifetime)),
        )
        with self._lock:
            self._keys[record.access_key_id] = record
        return Credentials(
            access_key_id=record.access_key_id,
            secret_access_key=record.secret_access_key,
            session_token=record.session_token,
            expires_at=record.expires_at,
            issued_at=issued_at,
        )

    def service_session(
        self, role_arn: str, service: str, name: str, seconds: float, now: datetime
    ) -> Credentials:
        """A session that an AWS service gets for itself (EC2's instance role, Redshift's role).

        Raises:
            UsageError: No such role, or it does not trust the service.
        """
        role = self._roles.get(role_arn)
        if role is None:
            raise UsageError(f"no such role: {role_arn}", fix="Make it with gate.add_role")
        if service not in role.trust:
            raise UsageError(
                f"{role_arn} does not trust {service}", fix=f"Put {service!r} into its trust"
            )
        return self.new_session(role, name, seconds, now)

    def revoke(self, role_arn: str) -> int:
        """Deny every session of a role that exists now; new ones work. Returns how many."""
        with self._lock:
            hit = [r for r in self._keys.values() if r.principal.role_arn == role_arn]
            for record in hit:
                record.revoked = True
            return len(hit)

    def expire(self, role_arn: str, now: datetime) -> int:
        """End every session of a role at ``now``. Returns how many."""
        with self._lock:
            hit = [r for r in self._keys.values() if r.principal.role_arn == role_arn]
            for record in hit:
                record.expires_at = now
            return len(hit)

    def set_owner(self, bucket: str, account: str) -> None:
        """Note which account owns a bucket."""
        _check_account(account)
        with self._lock:
            self._owners[bucket] = account

    def owner(self, bucket: str) -> str | None:
        """The account that owns a bucket, or None for a bucket that the gate does not know."""
        return self._owners.get(bucket)


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


def _check_account(account: str) -> None:
    if len(account) != 12 or not account.isdigit():
        raise UsageError(
            f"not an account id: {account!r}", fix="Twelve digits, such as 111122223333"
        )


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))


def _new_secret() -> str:
    """40 characters of the alphabet that AWS uses; others are refused by some clients."""
    return base64.b64encode(secrets.token_bytes(30)).decode()
