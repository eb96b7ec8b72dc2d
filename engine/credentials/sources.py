"""Which source of credentials: one by its name, or the default chain, and why.

What must not live here: how a source gets its keys (``providers/``), what a profile says
(``profile_plan.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from engine.credentials.context import SourceContext, SourcePlan
from engine.errors import SourceMissing
from engine.protocols import CredentialProvider
from engine.registry import Registry
from engine.types import Credentials

SOURCES: Registry[Callable[[SourceContext], CredentialProvider | SourcePlan]] = Registry(
    "source of credentials",
    {
        "env": "engine.credentials.providers.static:from_environment",
        "profile": "engine.credentials.profile_plan:plan_profile",
        "ec2": "engine.credentials.providers.imds:from_environment",
        "ecs": "engine.credentials.providers.container:from_environment",
        "web-identity": "engine.credentials.providers.web_identity:from_environment",
        "process": "engine.credentials.providers.process:from_environment",
        "sso": "engine.credentials.providers.sso:from_environment",
        "saml": "engine.credentials.providers.saml:from_environment",
    },
)
"""Name -> ``make(context)`` of every source; a new one is its file and its line."""

DEFAULT = "default"
ALIASES = {"imds": "ec2", "container": "ecs"}

_NOTHING = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a --profile, or say --source"


def source_names() -> tuple[str, ...]:
    """All names that a source may be asked for by."""
    return (DEFAULT, *SOURCES.names())


def plan_source(name: str, context: SourceContext) -> SourcePlan:
    """The source called ``name``, or what the default chain chooses. Blocks: it reads the profile.

    Raises:
        UsageError: No such source, or its settings cannot be followed.
        SourceMissing: It is not set up; the default chain found nothing.
    """
    name = ALIASES.get(name, name)
    if name == DEFAULT:
        return _default_chain(context)
    made = SOURCES.get(name)(context)
    if isinstance(made, SourcePlan):
        return SourcePlan(made.provider, made.roles, (f"{name}: asked for", *made.why))
    return SourcePlan(made, why=(f"{name}: asked for", f"{name}: {made.describe()}"))


def _default_chain(context: SourceContext) -> SourcePlan:
    """The places in botocore's order (``create_credential_resolver``), without its two that
    nobody has any more (AWS_CREDENTIAL_FILE and boto 2's files). What is set up but broken is an
    error: whoever set it up does not want the next place's identity."""
    asked_for = context.profile is not None
    if not asked_for and context.environ.get("AWS_ACCESS_KEY_ID"):
        provider = SOURCES.get("env")(context)
        assert not isinstance(provider, SourcePlan)
        return SourcePlan(provider, why=(f"env: {provider.describe()}",))
    from engine.credentials.profile_plan import ProfilePlanner
    from engine.credentials.providers import container

    planner = ProfilePlanner(context)
    if asked_for:
        planner.why.append(f"env: passed over, profile {context.profile} was asked for")
    else:
        planner.why.append("env: AWS_ACCESS_KEY_ID is not set")
    plan = planner.assumed_role()
    if plan is not None:
        return plan
    found = planner.own(planner.profile.name, use_environ=not asked_for)
    if found is not None:
        return SourcePlan(found, why=tuple(planner.why))
    if container.container_uri(context.environ) is not None:
        found = container.from_environment(context)
        return SourcePlan(found, why=(*planner.why, f"ecs: {found.describe()}"))
    planner.why.append(
        f"ecs: neither {container.RELATIVE_VARIABLE} nor {container.FULL_VARIABLE} is set"
    )
    return _last_resort(context, planner.why)


def _last_resort(context: SourceContext, why: list[str]) -> SourcePlan:
    """EC2, which nothing announces: only asking tells."""
    from engine.credentials.providers import imds

    try:
        provider = imds.from_environment(context)
    except SourceMissing as error:
        why.append(f"ec2: {error.headline}")
        raise SourceMissing(
            "no credentials found", fix=_NOTHING, looked_at="; ".join(why)
        ) from None
    last = _LastResort(provider, "; ".join(why))
    return SourcePlan(last, why=(*why, "ec2: the last place; asked when keys are wanted"))


@final
class _LastResort(CredentialProvider):
    """EC2 at the end of the chain. Where it is not there either, the whole chain is told."""

    def __init__(self, ec2: CredentialProvider, looked_at: str) -> None:
        self._ec2 = ec2
        self._looked_at = looked_at

    async def fetch(self) -> Credentials:
        try:
            return await self._ec2.fetch()
        except SourceMissing as error:
            raise SourceMissing(
                "no credentials found",
                fix=_NOTHING,
                looked_at=f"{self._looked_at}; ec2: {error.headline}",
            ) from None

    def describe(self) -> str:
        return self._ec2.describe()
