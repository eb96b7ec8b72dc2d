"""A role assumed at STS with credentials from another lease."""

from __future__ import annotations

from typing import final

from engine.credentials.role import MAX_CHAINED_DURATION, RoleSpec
from engine.credentials.sts import Sts
from engine.errors import CredentialsError, SourceExpired, SourceUnavailable, UsageError
from engine.protocols import CredentialProvider, Lease
from engine.types import Credentials


@final
class AssumeRoleProvider(CredentialProvider):
    """Assumes ``role`` with the credentials of ``source``.

    Args:
        chained: The source is itself a role (EC2, ECS, another role): STS then gives at most
            one hour, whatever the role allows. Longer is clamped, or refused.
        refuse_long_chain: Refuse instead of clamping.

    Raises:
        UsageError: Chained, over an hour, and ``refuse_long_chain``.
    """

    def __init__(
        self,
        role: RoleSpec,
        source: Lease,
        sts: Sts,
        *,
        session_name: str,
        chained: bool = False,
        refuse_long_chain: bool = False,
    ) -> None:
        if chained and refuse_long_chain and role.duration > MAX_CHAINED_DURATION:
            raise UsageError(
                f"{role.duration} s asked for {role.arn}, but a role that assumes a role gets at "
                f"most 1 hour ({MAX_CHAINED_DURATION} s)",
                fix="Drop --session-duration: sessions are renewed while the job runs",
            )
        self._role = role
        self._source = source
        self._sts = sts
        self._duration = min(role.duration, MAX_CHAINED_DURATION) if chained else role.duration
        self._parameters = role.parameters(session_name, self._duration)
        self._code_used = False

    async def fetch(self) -> Credentials:
        if self._role.token_code is not None:
            self._use_code()
        try:
            return await self._fetch()
        except SourceUnavailable:
            self._code_used = False  # no session was opened with it
            raise

    async def _fetch(self) -> Credentials:
        caller = await self._source.ready()
        try:
            return await self._assume(caller)
        except SourceExpired as expired:
            self._source.report_expired(caller)
            try:
                fresh = await self._source.ready()
            except CredentialsError:
                raise expired from None  # the reason is the old set's end, not the search for more
            return await self._assume(fresh)

    def _use_code(self) -> None:
        if self._code_used:
            raise CredentialsError(
                f"the session of {self._role.arn} was opened with an MFA code, which works once",
                fix="Let the source be a session that has MFA already (aws sts get-session-token), "
                "or ask for a longer --session-duration",
            )
        self._code_used = True

    async def _assume(self, caller: Credentials) -> Credentials:
        return await self._sts.assume_role(caller, self._parameters)

    def describe(self) -> str:
        return f"role {self._role.role.name} in {self._role.role.account}"
