"""Leases: what a worker holds. The broker behind one is invisible to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from engine.protocols import Lease
from engine.types import Credentials

if TYPE_CHECKING:
    from engine.credentials.broker import Broker


@final
class BrokerLease(Lease):
    """A handle on the live credentials of one broker. Safe from any number of tasks."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def ready(self) -> Credentials:
        return await self._broker.ready()

    async def at_least(self, seconds: float) -> Credentials:
        return await self._broker.at_least(seconds)

    def remaining(self, credentials: Credentials) -> float:
        return self._broker.remaining(credentials)

    def age(self, credentials: Credentials) -> float:
        return self._broker.age(credentials)

    def report_expired(self, credentials: Credentials) -> None:
        self._broker.report_expired(credentials)

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        self._broker.report_worked(credentials, sent_at)

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        return await self._broker.renewed_after_denial(credentials, unknown_key=unknown_key)

    def __repr__(self) -> str:
        return f"<BrokerLease of {self._broker!r}>"
