"""Accounts as the gate keeps them: users, roles, access keys, sessions, who may do what.

What lives here: the state, behind one lock, because tests change it from their thread while
the gate serves. What must not: HTTP, XML, how a signature is computed, or whom a role trusts
(gate_principals).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from engine.errors import UsageError
from engine.testing.gate_principals import (
    NO_TRAITS,
    AccessKey,
    FederatedTrust,
    Grant,
    KeyRecord,
    Principal,
    Role,
    SessionTraits,
    account_of,
    may_assume,
)
from engine.types import Credentials

__all__ = [
    "AccessKey",
    "Accounts",
    "FederatedTrust",
    "Grant",
    "KeyRecord",
    "Principal",
    "Role",
    "SessionTraits",
    "account_of",
    "may_assume",
]

MIN_SESSION_LIFETIME = 5.0  # Expiration has steps of 1 s, so shorter ones would be noise
_ID_ALPHABET = string.ascii_uppercase + "234567"
_TOKEN_BYTES = 300  # real tokens have several hundred characters and no documented limit
# Of AWS's own managed policies those that a transfer may be limited by.
_AWS_POLICIES: dict[str, tuple[Grant, ...]] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": (("*", "*"),),
    "arn:aws:iam::aws:policy/AmazonS3FullAccess": (("s3:*", "*"),),
    "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess": (("s3:Get*", "*"), ("s3:List*", "*")),
}


class Accounts:
    """All users, roles, keys and bucket owners. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, KeyRecord] = {}
        self._roles: dict[str, Role] = {}
        self._owners: dict[str, str] = {}
        self._policies: dict[str, tuple[Grant, ...]] = dict(_AWS_POLICIES)
        self._mfa_codes: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Accounts({len(self._roles)} roles, {len(self._keys)} keys)"

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._keys.clear()
            self._roles.clear()
            self._owners.clear()
            self._policies = dict(_AWS_POLICIES)
            self._mfa_codes.clear()

    def add_user(
        self,
        account: str,
        name: str,
        allow: Iterable[Grant],
        session_lifetime: float | None = None,
    ) -> AccessKey:
        """A user with one access key."""
        _check_account(account)
        _check_lifetime(session_lifetime)
        arn = f"arn:aws:iam::{account}:user/{name}"
        return self._add_key(
            Principal(
                account, arn, _new_id("AIDA"), tuple(allow), session_lifetime=session_lifetime
            )
        )

    def add_root_key(self, account: str) -> AccessKey:
        """An access key of the account's root user, which may do everything but assume a role."""
        _check_account(account)
        arn = f"arn:aws:iam::{account}:root"
        return self._add_key(Principal(account, arn, account, (("*", "*"),), root=True))

    def _add_key(self, principal: Principal) -> AccessKey:
        record = KeyRecord(_new_id("AKIA"), _new_secret(), principal)
        with self._lock:
            self._keys[record.access_key_id] = record
        return AccessKey(principal.arn, record.access_key_id, record.secret_access_key)

    def add_policy(self, account: str, name: str, allow: Iterable[Grant]) -> str:
        """A managed policy that a session may be limited by; its ARN."""
        _check_account(account)
        arn = f"arn:aws:iam::{account}:policy/{name}"
        with self._lock:
            self._policies[arn] = tuple(allow)
        return arn

    def policy(self, arn: str) -> tuple[Grant, ...] | None:
        """The grants of a managed policy, or None where there is none of that ARN."""
        return self._policies.get(arn)

    def new_mfa_code(self, serial_number: str) -> str:
        """Six digits that a device shows now; they are good for one call."""
        code = f"{secrets.randbelow(1_000_000):06d}"
        with self._lock:
            self._mfa_codes.add((serial_number, code))
        return code

    def use_mfa_code(self, serial_number: str, code: str) -> bool:
        """Whether the code is good; it is not, afterwards."""
        with self._lock:
            good = (serial_number, code) in self._mfa_codes
            self._mfa_codes.discard((serial_number, code))
            return good

    def add_role(self, role: Role) -> None:
        """Add or replace a role. Sessions that exist keep the grants they began with."""
        _check_account(account_of(role.arn))
        _check_lifetime(role.session_lifetime)
        with self._lock:
            self._roles[role.arn] = role

    def trust_federated(self, role_arn: str, trust: FederatedTrust) -> None:
        """Let a role trust one more identity provider.

        Raises:
            UsageError: No such role.
        """
        with self._lock:
            role = self._role_or_refuse(role_arn)
            self._roles[role_arn] = replace(role, federated=(*role.federated, trust))

    def has_provider(self, provider_arn: str) -> bool:
        """Whether any role has made this identity provider known to its account."""
        return any(
            trust.provider_arn == provider_arn
            for role in tuple(self._roles.values())
            for trust in role.federated
        )

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
        traits: SessionTraits = NO_TRAITS,
        ends_at: datetime | None = None,
    ) -> Credentials:
        """Issue a session of ``role``.

        Args:
            role: Whose grants it gets.
            name: The session name in its ARN.
            seconds: Lifetime asked for; the role's ``session_lifetime`` overrides it.
            now: The gate's clock. Cut to whole seconds, as AWS writes times.
            limit: Grants of the session policy, or None.
            traits: What else the session carries.
            ends_at: The session ends no later than this, or None.
        """
        account, role_name = account_of(role.arn), role.arn.rpartition("/")[2]
        lifetime = seconds if role.session_lifetime is None else role.session_lifetime
        if ends_at is not None:
            lifetime = min(lifetime, (ends_at - now.replace(microsecond=0)).total_seconds())
        principal = Principal(
            account=account,
            arn=f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
            user_id=f"{_role_id(role.arn)}:{name}",
            allow=role.allow,
            role_arn=role.arn,
            limit=limit,
            traits=traits,
        )
        return self._issue(principal, lifetime, now)

    def new_user_session(
        self, principal: Principal, seconds: float, now: datetime, *, mfa: bool
    ) -> Credentials:
        """Issue what GetSessionToken gives: the same user, for a while."""
        traits = replace(principal.traits, mfa=mfa)
        lifetime = seconds if principal.session_lifetime is None else principal.session_lifetime
        return self._issue(replace(principal, traits=traits), lifetime, now)

    def _issue(self, principal: Principal, lifetime: float, now: datetime) -> Credentials:
        issued_at = now.replace(microsecond=0)
        expires_at = issued_at + timedelta(seconds=int(lifetime))
        record = KeyRecord(
            access_key_id=_new_id("ASIA"),
            secret_access_key=_new_secret(),
            principal=principal,
            # The slash, plus and equals sign of real tokens have broken signers before.
            session_token=f"IQoJ/{secrets.token_urlsafe(_TOKEN_BYTES)}+==",
            expires_at=expires_at,
            told_until=expires_at,
        )
        with self._lock:
            self._keys[record.access_key_id] = record
        return Credentials(
            access_key_id=record.access_key_id,
            secret_access_key=record.secret_access_key,
            session_token=record.session_token,
            expires_at=expires_at,
            issued_at=issued_at,
        )

    def service_session(
        self,
        role_arn: str,
        service: str,
        name: str,
        seconds: float,
        now: datetime,
        traits: SessionTraits = NO_TRAITS,
    ) -> Credentials:
        """A session that an AWS service gets for itself (EC2's instance role, Redshift's role).

        Raises:
            UsageError: No such role, or it does not trust the service.
        """
        role = self._role_or_refuse(role_arn)
        if service not in role.trust:
            raise UsageError(
                f"{role_arn} does not trust {service}", fix=f"Put {service!r} into its trust"
            )
        return self.new_session(role, name, seconds, now, traits=traits)

    def _role_or_refuse(self, role_arn: str) -> Role:
        role = self._roles.get(role_arn)
        if role is None:
            raise UsageError(f"no such role: {role_arn}", fix="Make it with gate.add_role")
        return role

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


def _check_account(account: str) -> None:
    if len(account) != 12 or not account.isdigit():
        raise UsageError(
            f"not an account id: {account!r}", fix="Twelve digits, such as 111122223333"
        )


def _check_lifetime(seconds: float | None) -> None:
    if seconds is not None and seconds < MIN_SESSION_LIFETIME:
        raise UsageError(
            f"a session of {seconds} s is too short",
            fix=f"Expiration has steps of 1 s; use at least {MIN_SESSION_LIFETIME:.0f} s",
        )


def _role_id(arn: str) -> str:
    """The unique id of a role: the same for all of its sessions."""
    return "AROA" + base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()[:16]


def _new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16))


def _new_secret() -> str:
    """40 characters of the alphabet that AWS uses; others are refused by some clients."""
    return base64.b64encode(secrets.token_bytes(30)).decode()
