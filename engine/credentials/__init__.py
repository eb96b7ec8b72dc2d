"""Credentials: where they come from, how they stay fresh. Knows nothing of transfers.

Read ``broker.py`` first; ``role.py`` has the rules of AssumeRole, ``providers/`` the sources,
``chain.py`` how they stand behind each other.
"""

from collections.abc import Callable

from engine.credentials.broker import Broker, BrokerStatistics
from engine.credentials.lease import BrokerLease
from engine.credentials.role import RoleArn, RoleSpec
from engine.protocols import CredentialProvider
from engine.registry import Registry

__all__ = ["SOURCES", "Broker", "BrokerLease", "BrokerStatistics", "RoleArn", "RoleSpec"]

SOURCES: Registry[Callable[..., CredentialProvider]] = Registry(
    "source of credentials",
    {
        "env": "engine.credentials.providers.static:from_environment",
        "ec2": "engine.credentials.providers.imds:from_environment",
    },
)
"""Name -> ``make(environ, endpoints)`` of every source; a new one is its file and its line."""
