"""A Redshift for tests: PostgreSQL behind a proxy that behaves like Redshift where loads care.

The door of this room. ``RedshiftDouble`` is the whole of it; read ``double.py`` first, then
``proxy.py`` (a session) and ``copy.py`` (a COPY). What must not live here: behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.testing.redshift.copy import CopyRecord
from engine.testing.redshift.double import RedshiftDouble
from engine.testing.redshift.faults import Fault, Faults
from engine.testing.redshift.postgres import PostgresServer
from engine.testing.redshift.s3 import RoleKeys, S3Keys, assume_role_keys

if TYPE_CHECKING:
    from engine.testing.aws import AwsDouble

__all__ = [
    "COPY_ROLE",
    "CopyRecord",
    "Fault",
    "Faults",
    "PostgresServer",
    "RedshiftDouble",
    "RoleKeys",
    "S3Keys",
    "assume_role_keys",
    "start_for_tests",
]

_ACCOUNT = "111122223333"
COPY_ROLE = f"arn:aws:iam::{_ACCOUNT}:role/redshift-copy"
"""The role of a double from ``start_for_tests``; also its default role. It may read all of S3."""


def start_for_tests(aws: AwsDouble, *, server: PostgresServer | None = None) -> RedshiftDouble:
    """A started double that reads S3 through the gate of ``aws`` with ``COPY_ROLE``.

    Use it as a context manager, or call ``stop``.

    Args:
        aws: The AWS double; its gate gets a user for the cluster and the role.
        server: A running PostgreSQL to share between doubles, which saves a second for each.

    Raises:
        UsageError: No PostgreSQL to run.
        SourceUnavailable: PostgreSQL did not start.
    """
    gate = aws.gate
    cluster = gate.add_user(_ACCOUNT, "redshift-cluster", allow=[("sts:AssumeRole", "*")])
    role = gate.add_role(
        _ACCOUNT,
        "redshift-copy",
        trust=[f"arn:aws:iam::{_ACCOUNT}:user/redshift-cluster"],
        allow=[("s3:GetObject", "*"), ("s3:ListBucket", "*")],
    )
    keys = assume_role_keys(
        gate.endpoint, cluster.access_key_id, cluster.secret_access_key, role, aws.region
    )
    double = RedshiftDouble(
        s3_endpoint=gate.endpoint,
        region=aws.region,
        roles={role: keys, "default": keys},
        server=server,
    )
    double.start()
    return double
