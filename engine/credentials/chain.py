"""From a source, roles and STS to a lease: which brokers stand behind each other.

A chain is built, not started; whoever builds it starts every broker in ``brokers``. Each hop's
provider awaits its parent's lease, so a renewal of a child waits for its parent's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from engine.credentials.broker import Broker
from engine.credentials.providers.assume_role import AssumeRoleProvider
from engine.credentials.role import RoleSpec
from engine.credentials.sts import Sts
from engine.protocols import CredentialProvider

MakeBroker = Callable[[CredentialProvider], Broker]


class LeaseChain(Struct, frozen=True):
    """Brokers from the source to the last role, which is the one that is used."""

    brokers: tuple[Broker, ...]

    @property
    def broker(self) -> Broker:
        return self.brokers[-1]

    @property
    def source(self) -> Broker:
        return self.brokers[0]


class ChainBuilder(Struct, frozen=True):
    """How roles are assumed: by which STS, under which name, by which kind of broker."""

    sts: Sts
    session_name: str
    make: MakeBroker
    refuse_long_chain: bool = False

    def source(self, provider: CredentialProvider) -> LeaseChain:
        """The source alone."""
        return LeaseChain((self.make(provider),))

    def assume(self, chain: LeaseChain, roles: Iterable[RoleSpec]) -> LeaseChain:
        """``roles``, one with the credentials of the other, the first with those of ``chain``.

        Raises:
            UsageError: Longer than an hour from a role, and ``refuse_long_chain``.
        """
        for role in roles:
            provider = AssumeRoleProvider(
                role,
                chain.broker.lease,
                self.sts,
                session_name=self.session_name,
                chained=chain.broker.is_role,
                refuse_long_chain=self.refuse_long_chain,
            )
            chain = LeaseChain((*chain.brokers, self.make(provider)))
        return chain
