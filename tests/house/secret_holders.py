"""Every public type of the credentials' room, made with given secrets, for the property test.

What lives here: how each is made. A new public type is a line in ``HOLDERS``; a new source needs
its settings in ``environment``. What must not: what is checked of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, final

import anyio

from engine import credentials as room
from engine.clock import LoopClock
from engine.config import Endpoints
from engine.credentials import (
    SOURCES,
    Broker,
    BrokerStatistics,
    RoleArn,
    RoleSpec,
    SourceContext,
    SourcePlan,
    plan_source,
)
from engine.credentials.providers.assume_role import AssumeRoleProvider
from engine.credentials.providers.static import StaticProvider
from engine.credentials.server import CredentialServer
from engine.credentials.sts import Sts
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor
from engine.types import CallerIdentity, Credentials

ROLE = "arn:aws:iam::111122223333:role/loader"
SAML = "arn:aws:iam::111122223333:saml-provider/idp"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Secrets:
    """What must not be seen."""

    key: str
    token: str
    external_id: str
    code: str
    web_token: str
    container_token: str

    @property
    def credentials(self) -> Credentials:
        """A session that holds them."""
        end = NOW + timedelta(hours=1)
        return Credentials("ASIA" + "Q" * 16, self.key, self.token, end, issued_at=NOW)

    def texts(self) -> tuple[str, ...]:
        """All of them."""
        return (
            self.key, self.token, self.external_id, self.code, self.web_token,
            self.container_token,
        )  # fmt: skip


@final
class GivingSts(Sts):
    """STS that gives one set to whoever asks."""

    def __init__(self, secrets: Secrets) -> None:
        self._credentials = secrets.credentials

    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        return self._credentials

    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        return self._credentials

    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        return self._credentials

    async def get_caller_identity(self, caller: Credentials) -> CallerIdentity:
        return CallerIdentity("111122223333", ROLE)


def environment(secrets: Secrets, folder: Path) -> dict[str, str]:
    """A machine on which every source is set up."""
    keys = f"aws_access_key_id = ASIA{'Q' * 16}\naws_secret_access_key = {secrets.key}\n"
    (folder / "credentials").write_text(
        f"[default]\n{keys}aws_session_token = {secrets.token}\n"
    )  # fmt: skip
    document = {"Version": 1, "AccessKeyId": "AKIA" + "Q" * 16, "SecretAccessKey": secrets.key}
    printer = folder / "print.py"
    printer.write_text(f"print({json.dumps(document)!r})")
    (folder / "config").write_text(
        f"[default]\nregion = eu-west-1\n"
        f"credential_process = {sys.executable} {printer}\n"
        "sso_start_url = https://sso.example/start\nsso_region = eu-west-1\n"
        "sso_account_id = 111122223333\nsso_role_name = reader\n"
    )  # fmt: skip
    (folder / "web-token").write_text(secrets.web_token)
    return {
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": "ASIA" + "Q" * 16,
        "AWS_SECRET_ACCESS_KEY": secrets.key,
        "AWS_SESSION_TOKEN": secrets.token,
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": secrets.container_token,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "web-token"),
        "AWS_ROLE_ARN": ROLE,
        "S3ENGINE_SAML_ASSERTION_COMMAND": f"{sys.executable} {printer}",
        "S3ENGINE_SAML_ROLE_ARN": ROLE,
        "S3ENGINE_SAML_PRINCIPAL_ARN": SAML,
    }


def context(secrets: Secrets, folder: Path) -> SourceContext:
    return SourceContext(
        environ=environment(secrets, folder),
        endpoints=Endpoints(),
        sts=GivingSts(secrets),
        session_name="s3engine-test",
        door=ThreadDoor(),
    )


def role(secrets: Secrets) -> RoleSpec:
    """With every field that is somebody's business."""
    return RoleSpec(
        ROLE,
        external_id=secrets.external_id,
        serial_number="arn:aws:iam::111122223333:mfa/me",
        token_code=secrets.code,
        policy=json.dumps({"Sid": secrets.external_id}),
        provided_contexts=((SAML, secrets.web_token),),
        source=RoleSpec(ROLE, external_id=secrets.external_id),
    )


def live_objects(secrets: Secrets) -> list[object]:
    """A broker that holds a set, and what hangs on it; before, while and after it runs."""
    found: list[object] = []

    async def main() -> None:
        source = Broker(StaticProvider(secrets.credentials), clock=LoopClock(), random=Random(1))
        plain = replace(role(secrets), serial_number=None, token_code=None)
        provider = AssumeRoleProvider(
            plain, source.lease, GivingSts(secrets), session_name="s3engine-test"
        )
        broker = Broker(provider, clock=LoopClock(), random=Random(1))
        found.extend((source, broker, broker.lease))
        async with anyio.create_task_group() as tasks:
            await tasks.start(source.run)
            await tasks.start(broker.run)
            await broker.lease.ready()
            server = CredentialServer(broker.lease)
            server.token = secrets.container_token
            found.extend((broker.shared(), provider, broker.statistics(), server))
            found.extend((repr(broker), repr(broker.lease), repr(broker.shared())))
            tasks.cancel_scope.cancel()

    run_virtual(main)
    return found


def sources(secrets: Secrets, folder: Path) -> list[object]:
    """Every source by its factory, its plan, and the plan of the default chain."""
    where = context(secrets, folder)
    plans = [plan_source(name, where) for name in ("default", *SOURCES.names())]
    made = [SOURCES.get(name)(where) for name in SOURCES.names()]
    return [*plans, *(plan.provider for plan in plans), *made]


Maker = Callable[[Secrets, Path], Iterable[object]]
HOLDERS: dict[str, Maker] = {
    "Broker": lambda secrets, folder: live_objects(secrets),
    "BrokerLease": lambda secrets, folder: (),  # with the broker, as the next two
    "SharedLease": lambda secrets, folder: (),
    "CredentialServer": lambda secrets, folder: (),
    "BrokerStatistics": lambda secrets, folder: [BrokerStatistics()],
    "RoleArn": lambda secrets, folder: [RoleArn.parse(ROLE)],
    "RoleSpec": lambda secrets, folder: [role(secrets)],
    "SourceContext": lambda secrets, folder: [context(secrets, folder)],
    "SourcePlan": lambda secrets, folder: [
        SourcePlan(StaticProvider(secrets.credentials), (role(secrets),))
    ],
    "SOURCES": sources,
}
"""Public name -> how objects of it are made."""


def public_names() -> set[str]:
    """The names of the room's door that are types, or hold types; functions aside."""
    names = set()
    for name in room.__all__:
        value = getattr(room, name)
        if isinstance(value, type) or not callable(value):
            names.add(name)
    return names
