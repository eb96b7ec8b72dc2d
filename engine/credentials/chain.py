"""From a role, a source and STS to a lease: which brokers stand behind each other.

A chain is built, not started; whoever builds it starts every broker in ``brokers``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.credentials.broker import Broker
from engine.credentials.providers.assume_role import AssumeRoleProvider, Sts
from engine.credentials.role import RoleSpec
from engine.protocols import CredentialProvider, Lease

MakeBroker = Callable[[CredentialProvider], Broker]


@dataclass(frozen=True, slots=True)
class LeaseChain:
    """Brokers from the source to the role; ``lease`` is the last one's."""

    brokers: tuple[Broker, ...]
    source: Lease
    chained: bool

    @property
    def lease(self) -> Lease:
        return self.brokers[-1].lease


def source_chain(source: CredentialProvider, *, is_role: bool, make: MakeBroker) -> LeaseChain:
    """The source alone. ``is_role``: its keys are a role's, as on EC2."""
    broker = make(source)
    return LeaseChain((broker,), broker.lease, chained=is_role)


def assume(
    chain: LeaseChain,
    role: RoleSpec,
    sts: Sts,
    *,
    session_name: str,
    make: MakeBroker,
    refuse_long_chain: bool = False,
) -> LeaseChain:
    """``role``, assumed with what ``chain`` ends in.

    Raises:
        UsageError: Longer than an hour from a role, and ``refuse_long_chain``.
    """
    provider = AssumeRoleProvider(
        role,
        chain.lease,
        sts,
        session_name=session_name,
        chained=chain.chained,
        refuse_long_chain=refuse_long_chain,
    )
    return LeaseChain((*chain.brokers, make(provider)), chain.lease, chained=True)
