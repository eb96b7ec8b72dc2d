"""The demo's scene: S3, STS and Redshift on this machine, with users, roles and a slow link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.types import MiB

if TYPE_CHECKING:
    from engine.testing.aws import AwsDouble
    from engine.testing.redshift import RedshiftDouble

ACCOUNT = "111122223333"
BUCKET = "demo-staging"
LINK_BYTES_PER_SECOND = 2 * MiB
STAGING_SESSION_SECONDS = 8
KEYS_SESSION_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Scene:
    """Running parts, and the names that the demo needs of them."""

    aws: AwsDouble
    redshift: RedshiftDouble
    access_key_id: str
    secret_access_key: str
    staging_role: str
    copy_role: str
    keys_role: str


@contextmanager
def running_scene() -> Iterator[Scene]:
    """Start everything; stop it at the end."""
    from engine.testing.aws import AwsDouble
    from engine.testing.redshift import COPY_ROLE, start_for_tests

    with ExitStack() as stack:
        aws = stack.enter_context(AwsDouble())
        redshift = start_for_tests(aws)
        stack.callback(redshift.stop)
        gate = aws.gate
        gate.create_bucket(BUCKET, ACCOUNT)
        user = gate.add_user(ACCOUNT, "etl", allow=[("sts:AssumeRole", "*")])
        trust = [f"arn:aws:iam::{ACCOUNT}:user/etl"]
        staging_role = gate.add_role(
            ACCOUNT,
            "stage-writer",
            trust=trust,
            session_lifetime=STAGING_SESSION_SECONDS,
            allow=[("s3:*", "*")],
        )
        keys_role = gate.add_role(
            ACCOUNT, "stage-reader", trust=trust, allow=[("s3:GetObject", "*"), ("s3:List*", "*")]
        )
        gate.bandwidth = LINK_BYTES_PER_SECOND
        yield Scene(
            aws,
            redshift,
            user.access_key_id,
            user.secret_access_key,
            staging_role,
            COPY_ROLE,
            keys_role,
        )
