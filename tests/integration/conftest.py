"""A user, a role and a bucket at the AWS double, and engines that use them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from engine import Credentials, Engine, RetryPolicy, RoleSpec
from engine.testing.aws import AwsDouble
from engine.testing.gate_log import LoggedRequest

ACCOUNT = "111122223333"


@dataclass
class Scene:
    """What a test works with."""

    aws: AwsDouble
    bucket: str
    keys: Credentials
    role: str
    events: list[Any] = field(default_factory=list)

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def engine(self, **settings: Any) -> Engine:
        settings = {
            "endpoint_url": self.aws.endpoint,
            "sts_endpoint_url": self.aws.endpoint,
            "region": self.aws.region,
            "credentials": self.keys,
            "retry": RetryPolicy(base_delay=0.01, max_delay=0.1),
            "hook": self.events.append,
            **settings,
        }
        return Engine(settings.pop("role", RoleSpec(self.role)), **settings)

    def log(self, action: str) -> list[LoggedRequest]:
        return self.aws.gate.log.where(action=action)

    def role_with(self, name: str = "staging", **settings: Any) -> str:
        """Add or replace a role that the user may assume."""
        trust = settings.pop("trust", [f"arn:aws:iam::{ACCOUNT}:user/etl"])
        allow = settings.pop("allow", [("s3:*", "*")])
        account = settings.pop("account", ACCOUNT)
        return self.aws.gate.add_role(account, name, trust=trust, allow=allow, **settings)


@pytest.fixture
def scene(s3engine_aws: AwsDouble, s3engine_bucket: str) -> Scene:
    user = s3engine_aws.gate.add_user(ACCOUNT, "etl", allow=[("sts:AssumeRole", "*")])
    keys = Credentials(user.access_key_id, user.secret_access_key)
    scene = Scene(s3engine_aws, s3engine_bucket, keys, "")
    scene.role = scene.role_with()
    return scene


@pytest.fixture
def other_host() -> Any:
    """A server that nobody may ever talk to; it counts who does."""
    from tests.integration.other_host import OtherHost

    with OtherHost() as host:
        yield host
