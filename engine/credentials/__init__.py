"""Credentials: where they come from, how they stay fresh. Knows nothing of transfers.

Read ``broker.py`` first; ``role.py`` has the rules of AssumeRole, ``providers/`` the sources,
``sources.py`` which of them is used, ``chain.py`` how they stand behind each other. The server is
loaded at first use: few lend credentials, and every run pays for what is imported here.
"""

from typing import TYPE_CHECKING

from engine.credentials.broker import Broker
from engine.credentials.context import SourceContext, SourcePlan
from engine.credentials.lease import BrokerLease
from engine.credentials.role import RoleArn, RoleSpec
from engine.credentials.shared import SharedLease
from engine.credentials.sources import SOURCES, plan_source, source_names
from engine.credentials.statistics import BrokerStatistics

if TYPE_CHECKING:
    from engine.credentials.server import CredentialServer

__all__ = [
    "SOURCES",
    "Broker",
    "BrokerLease",
    "BrokerStatistics",
    "CredentialServer",
    "RoleArn",
    "RoleSpec",
    "SharedLease",
    "SourceContext",
    "SourcePlan",
    "plan_source",
    "source_names",
]


def __getattr__(name: str) -> object:
    if name == "CredentialServer":
        from engine.credentials.server import CredentialServer

        return CredentialServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
