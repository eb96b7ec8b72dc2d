"""A scene for plans: two AWS files in a folder, an environment, and what a plan starts from.

What lives here: what several files of source tests share. What must not: an assertion.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config import Endpoints
from engine.credentials.context import SourceContext, SourcePlan
from engine.credentials.sources import plan_source
from engine.credentials.sts import Sts
from engine.threads import ThreadDoor
from engine.types import CallerIdentity, Credentials

ROLE = "arn:aws:iam::111122223333:role/"


class NoSts(Sts):
    """For plans, which make no call."""

    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        raise AssertionError("a call of STS")

    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        raise AssertionError("a call of STS")

    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        raise AssertionError("a call of STS")

    async def get_caller_identity(self, caller: Credentials) -> CallerIdentity:
        raise AssertionError("a call of STS")


class Place:
    """A home with AWS files, and the environment of a process in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"HOME": str(folder)}
        self.door = ThreadDoor()
        self.sts: Sts = NoSts()
        (folder / ".aws").mkdir(exist_ok=True)

    def write(self, config: str = "", credentials: str = "") -> None:
        (self.folder / ".aws" / "config").write_text(config)
        (self.folder / ".aws" / "credentials").write_text(credentials)

    def context(self, profile: str | None = None, **endpoints: Any) -> SourceContext:
        return SourceContext(
            environ=self.environ,
            endpoints=Endpoints(**endpoints),
            sts=self.sts,
            session_name="s3engine-test",
            door=self.door,
            profile=profile,
        )

    def plan(self, source: str = "default", profile: str | None = None) -> SourcePlan:
        return plan_source(source, self.context(profile))


def arns(plan: SourcePlan) -> list[str]:
    """The names of the plan's roles, in the order in which they are assumed."""
    return [role.arn.removeprefix(ROLE) for role in plan.roles]
