"""Credentials: where they come from, how they stay fresh. Knows nothing of transfers.

Read ``broker.py`` first; ``role.py`` has the rules of AssumeRole, ``providers/`` the sources,
``sources.py`` which of them is used, ``chain.py`` how they stand behind each other.
"""

from engine.credentials.broker import Broker, BrokerStatistics
from engine.credentials.context import SourceContext, SourcePlan
from engine.credentials.lease import BrokerLease
from engine.credentials.role import RoleArn, RoleSpec
from engine.credentials.sources import SOURCES, plan_source, source_names

__all__ = [
    "SOURCES",
    "Broker",
    "BrokerLease",
    "BrokerStatistics",
    "RoleArn",
    "RoleSpec",
    "SourceContext",
    "SourcePlan",
    "plan_source",
    "source_names",
]
