"""The calls by which a test sets the gate's scene and looks at what happened.

What lives here: users, roles, identity providers, STS's knobs, what is stored, and counts from
the log. What must not: the server (gate), or a rule of AWS.

All calls may come from any thread while the gate serves.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.testing import gate_checksum as checksum
from engine.testing.gate_direct import MotoClient, OpenUpload
from engine.testing.gate_federation import (
    AUDIENCE,
    SamlAssertion,
    oidc_provider_arn,
    saml_provider_arn,
)
from engine.testing.gate_iam import (
    AccessKey,
    Accounts,
    FederatedTrust,
    Grant,
    Role,
    SessionTraits,
    account_of,
)
from engine.testing.gate_link import Link
from engine.testing.gate_log import LoggedRequest, RequestLog
from engine.testing.gate_multipart import SumHabit
from engine.testing.gate_parts import PartSums
from engine.testing.gate_s3 import Store
from engine.testing.gate_sts import Sts
from engine.types import Credentials


@dataclass(frozen=True, slots=True)
class StsCount:
    """How the STS calls of one caller to one action ended.

    Attributes:
        calls: All of them.
        issued: Those that gave out a session, whether or not the answer arrived.
        failed: Those whose answer was no 2xx, or did not come.
    """

    calls: int = 0
    issued: int = 0
    failed: int = 0


class Scene:
    """What a test may do to a gate. ``Gate`` is one.

    Attributes:
        log: What came in.
        accounts: Users, roles, keys.
        clock_offset: Seconds by which the gate's clock is ahead of this machine's. Signatures,
            lifetimes and the Date of answers are all by the gate's clock.
    """

    log: RequestLog
    accounts: Accounts
    clock_offset: float
    _sts: Sts
    _store: Store
    _moto: MotoClient
    _link: Link

    def now(self) -> datetime:
        """The gate's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_offset)

    # -- users and roles -----------------------------------------------------------------------

    def add_user(
        self,
        account: str,
        name: str,
        *,
        allow: Iterable[Grant] = (),
        session_lifetime: float | None = None,
    ) -> AccessKey:
        """A user with a key.

        Args:
            account: Twelve digits.
            name: The user's name.
            allow: Pairs of action glob and resource glob.
            session_lifetime: Seconds that GetSessionToken's sessions really live, at least 5.
        """
        return self.accounts.add_user(account, name, allow, session_lifetime)

    def add_root_key(self, account: str) -> AccessKey:
        """A key of the account's root user: may do everything but assume a role."""
        return self.accounts.add_root_key(account)

    def add_policy(self, account: str, name: str, *, allow: Iterable[Grant]) -> str:
        """A managed policy, for PolicyArns; its ARN."""
        return self.accounts.add_policy(account, name, allow)

    def add_role(
        self,
        account: str,
        name: str,
        *,
        trust: Iterable[str] = (),
        external_id: str | None = None,
        max_duration: int = 3600,
        session_lifetime: float | None = None,
        allow: Iterable[Grant] = (),
        require_mfa: bool = False,
        tag_session: bool = True,
        set_source_identity: bool = True,
    ) -> str:
        """Add or replace a role; its ARN.

        Args:
            account: Twelve digits.
            name: The role's name, with a path if it has one.
            trust: ARNs of users, roles, sessions or account roots, account ids, services, ``*``.
            external_id: The value of the sts:ExternalId condition, or None for no condition.
            max_duration: MaxSessionDuration in seconds.
            session_lifetime: Seconds that sessions really live, at least 5, whatever is asked.
            allow: Pairs of action glob and resource glob.
            require_mfa: Whether the caller must have shown a code of ``new_mfa_code``.
            tag_session: Whether the trust policy allows sts:TagSession.
            set_source_identity: Whether the trust policy allows sts:SetSourceIdentity.
        """
        role = Role(
            arn=f"arn:aws:iam::{account}:role/{name}",
            trust=tuple(trust),
            allow=tuple(allow),
            external_id=external_id,
            max_duration=max_duration,
            session_lifetime=session_lifetime,
            require_mfa=require_mfa,
            tag_session=tag_session,
            set_source_identity=set_source_identity,
        )
        self.accounts.add_role(role)
        return role.arn

    def new_mfa_code(self, serial_number: str) -> str:
        """The six digits that a device shows now; good for one call, as TokenCode is."""
        return self.accounts.new_mfa_code(serial_number)

    # -- identity providers --------------------------------------------------------------------

    def trust_web_identity(
        self, role_arn: str, *, issuer: str, subject: str = "*", audience: str = AUDIENCE
    ) -> str:
        """Let a role trust an OpenID Connect issuer; the ARN of the provider in its account.

        Args:
            role_arn: A role of ``add_role``; replacing that role ends the trust.
            issuer: Such as ``https://oidc.eks.eu-west-1.amazonaws.com/id/1``.
            subject: Glob of the ``sub`` condition.
            audience: The client id of the provider.

        Raises:
            UsageError: No such role.
        """
        arn = oidc_provider_arn(account_of(role_arn), issuer)
        self.accounts.trust_federated(role_arn, FederatedTrust(arn, subject, audience))
        return arn

    def new_web_token(
        self, subject: str, issuer: str, lifetime: float = 3600.0, *, audience: str = AUDIENCE
    ) -> str:
        """A web identity token, in the form of a JWT.

        Args:
            subject: Who it is about.
            issuer: Who issues it.
            lifetime: Seconds by the gate's clock; zero or less for one that has ended.
            audience: Whom it is for.
        """
        return self._sts.federation.new_web_token(subject, issuer, audience, lifetime, self.now())

    def trust_saml(self, role_arn: str, *, provider: str = "idp") -> str:
        """Let a role trust a SAML identity provider; its ARN, which is the PrincipalArn.

        Raises:
            UsageError: No such role.
        """
        arn = saml_provider_arn(account_of(role_arn), provider)
        self.accounts.trust_federated(role_arn, FederatedTrust(arn))
        return arn

    def new_saml_assertion(
        self,
        role_arn: str,
        session_not_on_or_after: datetime | None = None,
        *,
        provider: str = "idp",
        subject: str = "alice@example.com",
        session_name: str = "alice",
    ) -> str:
        """A SAML response in base64, for one role; usable for 5 minutes by the gate's clock.

        Args:
            role_arn: The role in it.
            session_not_on_or_after: End of every session that is got with it, or None.
            provider: The identity provider in it, as given to ``trust_saml``.
            subject: Who it is about.
            session_name: Its RoleSessionName.
        """
        provider_arn = saml_provider_arn(account_of(role_arn), provider)
        return self._sts.federation.new_saml_assertion(
            SamlAssertion(
                role_arn, provider_arn, subject, session_name, self.now(), session_not_on_or_after
            )
        )

    def reject_token(self, token: str) -> None:
        """Answer IDPRejectedClaim to a web token or a SAML assertion from now on.

        Raises:
            UsageError: It is not the gate's.
        """
        self._sts.federation.reject(token)

    # -- sessions ------------------------------------------------------------------------------

    def instance_session(self, role_arn: str, lifetime: float) -> Credentials:
        """What EC2 hands to an instance with this role. Roles assumed with it are chained."""
        return self.service_session(role_arn, "ec2.amazonaws.com", "i-0123456789abcdef0", lifetime)

    def service_session(
        self,
        role_arn: str,
        service: str,
        session_name: str,
        lifetime: float,
        transitive_tags: Mapping[str, str] | None = None,
    ) -> Credentials:
        """A session that an AWS service gets for itself; the role must trust the service.

        Args:
            role_arn: The role.
            service: Such as ``ecs-tasks.amazonaws.com``.
            session_name: The name in the session's ARN.
            lifetime: Seconds.
            transitive_tags: Session tags that pass to every further role.

        Raises:
            UsageError: No such role, or it does not trust the service.
        """
        pairs = tuple((transitive_tags or {}).items())
        traits = SessionTraits(tags=pairs, transitive=pairs)
        return self.accounts.service_session(
            role_arn, service, session_name, lifetime, self.now(), traits
        )

    def revoke_sessions(self, role_arn: str) -> int:
        """Answer AccessDenied to all sessions of a role that exist now. Returns how many.

        As "Revoke active sessions" of the console: a deny for every token issued before this
        instant. Sessions issued later work, and so do those of other roles that were assumed
        with a revoked one.
        """
        return self.accounts.revoke(role_arn)

    def expire_sessions(self, role_arn: str) -> int:
        """End all sessions of a role now, before their Expiration. Returns how many."""
        return self.accounts.expire(role_arn, self.now())

    @property
    def expired_as(self) -> str:
        """The code that S3 answers to an ended session with: AWS's ExpiredToken, or another's.

        Some stores say AccessDenied (403). Empty is a bare 400 without a body. A HEAD request
        gets the status alone, as always.
        """
        return self._store.expired_as

    @expired_as.setter
    def expired_as(self, error_code: str) -> None:
        self._store.expired_as = error_code

    @property
    def part_sums(self) -> PartSums:
        """Which objects' parts are answered with checksums of their own: ``composite`` (S3)."""
        return self._store.part_sums

    @part_sums.setter
    def part_sums(self, which: PartSums) -> None:
        self._store.part_sums = which

    @property
    def refuses_checksums(self) -> str:
        """The code that a request with a checksum header is refused with, as at stores that do
        not know them (``InvalidArgument``, ``NotImplemented``); empty where they are known."""
        return self._store.refuses_checksums

    @refuses_checksums.setter
    def refuses_checksums(self, error_code: str) -> None:
        self._store.refuses_checksums = error_code

    @property
    def sum_habit(self) -> SumHabit:
        """How objects that were sent in parts are summed: ``asked``, ``composite``, ``wrong``."""
        return self._store.sum_habit

    @sum_habit.setter
    def sum_habit(self, habit: SumHabit) -> None:
        self._store.sum_habit = habit

    @property
    def uploads_of_a_page(self) -> int:
        """The most open uploads that one answer of ListMultipartUploads has; 1,000 at S3."""
        return self._store.uploads_of_a_page

    @uploads_of_a_page.setter
    def uploads_of_a_page(self, most: int) -> None:
        self._store.uploads_of_a_page = most

    # -- STS -----------------------------------------------------------------------------------

    def deny_sts(self, error_code: str | None) -> None:
        """Refuse every call for a session with this code from now on; None ends it."""
        self._sts.denied_with = error_code

    def disable_sts(self, account: str, region: str = "*") -> None:
        """Answer RegionDisabledException where the session would be of ``account``.

        Args:
            account: Whose role, or whose user for GetSessionToken.
            region: Glob over the Region that the request is signed for.
        """
        self._sts.disabled |= {(account, region)}

    @property
    def sts_delay(self) -> float:
        """Seconds that STS takes for every answer."""
        return self._sts.delay

    @sts_delay.setter
    def sts_delay(self, seconds: float) -> None:
        self._sts.delay = seconds

    @property
    def sts_fail_rate(self) -> float:
        """Share of the calls for a session, 0 to 1, that end with InternalFailure."""
        return self._sts.fail_rate

    @sts_fail_rate.setter
    def sts_fail_rate(self, rate: float) -> None:
        self._sts.fail_rate = rate

    @property
    def random(self) -> random.Random:
        """What ``sts_fail_rate`` draws from; set a seeded one."""
        return self._sts.random

    @random.setter
    def random(self, source: random.Random) -> None:
        self._sts.random = source

    # -- what happened -------------------------------------------------------------------------

    def sts_calls(
        self, *, action: str | None = None, caller: str | None = None
    ) -> list[LoggedRequest]:
        """All STS requests, or those of one action or one caller.

        Args:
            action: Such as ``AssumeRole``.
            caller: A principal's ARN, an access key id, or empty for calls without a signature.
        """
        return [
            entry
            for entry in self.log.where(service="sts")
            if action in (None, entry.action)
            and (caller is None or caller in (entry.principal, entry.access_key_id))
        ]

    def sts_counts(self) -> dict[tuple[str, str], StsCount]:
        """For each action and caller's ARN (empty without a signature) how the calls ended."""
        counts: dict[tuple[str, str], StsCount] = {}
        for entry in self.sts_calls():
            place = (entry.action, entry.principal)
            was = counts.get(place, StsCount())
            counts[place] = StsCount(
                was.calls + 1, was.issued + bool(entry.issued_key_id), was.failed + entry.failed
            )
        return counts

    def expired_requests(self, *, service: str | None = "s3") -> list[LoggedRequest]:
        """Requests signed by a session whose Expiration had passed when they arrived.

        By the gate's clock and the Expiration that was told: a session that ``expire_sessions``
        ended early is not meant, for nobody could know.

        Args:
            service: ``s3``, ``sts``, or None for both.
        """
        return [e for e in self.log.entries() if e.expired and service in (None, e.service)]

    # -- the link, and what is stored, past the gate -------------------------------------------

    @property
    def bandwidth(self) -> int | None:
        """Bytes a second that all connections share, both directions; None for no limit."""
        return self._link.bandwidth

    @bandwidth.setter
    def bandwidth(self, bytes_per_second: int | None) -> None:
        self._link.bandwidth = bytes_per_second

    def create_bucket(self, name: str, account: str) -> None:
        """A bucket that belongs to ``account``."""
        self._moto.create_bucket(name)
        self.accounts.set_owner(name, account)

    def put_object(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object without a request in the log; its ETag."""
        etag = self._moto.put_object(bucket, key, data)
        digest = checksum.new_digest(checksum.DEFAULT)
        digest.update(data)
        value = checksum.encode(digest.digest())
        stored = checksum.StoredChecksum(checksum.DEFAULT, value, checksum.FULL_OBJECT, etag)
        self._store.remember(bucket, key, stored)
        return etag

    def get_object(self, bucket: str, key: str) -> bytes:
        """The stored bytes."""
        return self._moto.get_object(bucket, key)

    def list_keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The stored keys in S3's order."""
        return self._moto.list_keys(bucket, prefix)

    def open_uploads(self, bucket: str) -> list[OpenUpload]:
        """Multipart uploads that were neither completed nor aborted."""
        return self._moto.open_uploads(bucket)
