"""Two accounts at the gateways: users, roles and buckets, and how the engine reaches them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final
from urllib.parse import urlencode

from engine import Credentials, Engine, RetryPolicy, RoleSpec
from engine.testing.imds import SessionSource
from tests.interop.admin import REGION, Admin, field_of
from tests.interop.radosgw import Radosgw

# radosgw's tenants with names like these act as accounts.
ACCOUNT = "111122223333"
PARTNER = "222233334444"
BUCKET = "interop"
PARTNER_BUCKET = "partner"
WRITER = f"arn:aws:iam::{ACCOUNT}:role/writer"
PARTNER_WRITER = f"arn:aws:iam::{PARTNER}:role/writer"
GUARDED = f"arn:aws:iam::{PARTNER}:role/guarded"
INSTANCE = f"arn:aws:iam::{ACCOUNT}:role/etl-host"
FROM_INSTANCE = f"arn:aws:iam::{ACCOUNT}:role/loader"
_OWNER_CAPS = "roles=*;user-policy=*"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a test works with. ``owner`` may do everything in the first account, ``etl`` may assume
    both writers, ``stranger`` may do nothing."""

    radosgw: Radosgw
    owner: Credentials
    etl: Credentials
    stranger: Credentials
    hypervisor: Credentials

    def engine(self, role: str | None = WRITER, **settings: Any) -> Engine:
        """An engine of ``etl`` at the gateway whose clock is right."""
        duration = settings.pop("duration", 900)
        source = settings.get("source", "env")
        settings = {
            "endpoint_url": self.radosgw.endpoint,
            "sts_endpoint_url": self.radosgw.endpoint,
            "region": REGION,
            "credentials": self.etl if source == "env" else None,
            "retry": RetryPolicy(base_delay=0.02, max_delay=0.2),
            **settings,
        }
        return Engine(
            RoleSpec(role, duration=duration, source=source) if role else None, **settings
        )

    def environment(self, keys: Credentials | None, endpoint: str = "") -> dict[str, str]:
        """Of a child process, with nothing else in it that could matter."""
        env = {
            "PATH": os.environ["PATH"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint or self.radosgw.endpoint,
        }
        if keys is not None:
            env["AWS_ACCESS_KEY_ID"] = keys.access_key_id
            env["AWS_SECRET_ACCESS_KEY"] = keys.secret_access_key
            if keys.session_token:
                env["AWS_SESSION_TOKEN"] = keys.session_token
        return env


def build(radosgw: Radosgw) -> Scene:
    """Make the users, roles and buckets, once a run."""
    keys = radosgw.owner
    root = Admin(radosgw.endpoint, Credentials(keys.access_key_id, keys.secret_access_key))
    home = Admin(radosgw.endpoint, root.add_radosgw_user(ACCOUNT, "owner", _OWNER_CAPS))
    partner = Admin(radosgw.endpoint, root.add_radosgw_user(PARTNER, "owner", _OWNER_CAPS))
    scene = Scene(
        radosgw,
        home.credentials,
        *(root.add_radosgw_user(ACCOUNT, name) for name in ("etl", "stranger", "hypervisor")),
    )
    home.add_bucket(BUCKET)
    partner.add_bucket(PARTNER_BUCKET)
    user = f"arn:aws:iam::{ACCOUNT}:user/"
    home.add_role("writer", trust=f"{user}etl", allow=["s3:*"])
    partner.add_role("writer", trust=f"{user}etl", allow=["s3:*"])
    wants_id = {"StringEquals": {"sts:ExternalId": "acme-42-canary"}}
    partner.add_role("guarded", trust=f"{user}etl", allow=["s3:*"], condition=wants_id)
    home.add_role("etl-host", trust=f"{user}hypervisor", allow=["sts:AssumeRole"])
    home.add_role("loader", trust=INSTANCE, allow=["s3:*"])
    return scene


@final
class InstanceSessions(SessionSource):
    """What stands behind an instance's metadata service: sessions of its role, from radosgw."""

    def __init__(self, scene: Scene) -> None:
        self._sts = Admin(scene.radosgw.endpoint, scene.hypervisor)

    def instance_session(self, role_arn: str, lifetime: float) -> Credentials:
        fields = {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": role_arn,
            "RoleSessionName": "i-0123456789abcdef0",
            "DurationSeconds": str(int(lifetime)),
        }
        answer = self._sts.call("POST", "/", body=urlencode(fields).encode(), service="sts")
        return Credentials(
            field_of(answer, "AccessKeyId"),
            field_of(answer, "SecretAccessKey"),
            field_of(answer, "SessionToken"),
            # Nanoseconds, which Python cannot read; the seconds do.
            expires_at=datetime.fromisoformat(field_of(answer, "Expiration")[:19] + "+00:00"),
            issued_at=self.now(),
        )

    def now(self) -> datetime:
        return datetime.now(UTC)
