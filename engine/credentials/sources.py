"""Which source of credentials: one by its name, or the default chain, and why.

What must not live here: how a source gets its keys (``providers/``).
"""

from __future__ import annotations

from collections.abc import Callable

from engine.credentials.context import SourceContext, SourcePlan
from engine.errors import SourceMissing
from engine.protocols import CredentialProvider
from engine.registry import Registry

SOURCES: Registry[Callable[[SourceContext], CredentialProvider]] = Registry(
    "source of credentials",
    {
        "env": "engine.credentials.providers.static:from_environment",
        "ec2": "engine.credentials.providers.imds:from_environment",
    },
)
"""Name -> ``make(context)`` of every source; a new one is its file and its line."""

DEFAULT = "default"
ALIASES = {"imds": "ec2"}


def source_names() -> tuple[str, ...]:
    """All names that a source may be asked for by."""
    return (DEFAULT, *SOURCES.names())


def plan_source(name: str, context: SourceContext) -> SourcePlan:
    """The source called ``name``, or what the default chain chooses.

    Raises:
        UsageError: No such source.
        SourceMissing: It is not configured; the default chain found nothing.
    """
    name = ALIASES.get(name, name)
    if name != DEFAULT:
        provider = SOURCES.get(name)(context)
        return SourcePlan(provider, why=(f"{name}: asked for",))
    try:
        return SourcePlan(SOURCES.get("env")(context), why=("env: set",))
    except SourceMissing as error:
        return SourcePlan(
            SOURCES.get("ec2")(context), why=(f"env: {error.headline}", "ec2: the last resort")
        )
