"""Fixtures for tests of code that uses the engine: an AWS, a bucket, a Redshift.

What lives here: three public fixtures. What must not: an import of a double at the top; pytest
loads this file in every run of an environment that has the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engine.testing.aws import AwsDouble
    from engine.testing.redshift import PostgresServer, RedshiftDouble

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def _s3engine_aws_process() -> Iterator[AwsDouble]:
    """One moto and one gate for the whole run; starting moto takes a second."""
    from engine.testing.aws import AwsDouble

    with AwsDouble() as aws:
        yield aws


@pytest.fixture
def s3engine_aws(_s3engine_aws_process: AwsDouble) -> AwsDouble:
    """A small AWS: S3 and STS behind the gate, empty at the start of every test."""
    _s3engine_aws_process.reset()
    return _s3engine_aws_process


@pytest.fixture
def s3engine_bucket(s3engine_aws: AwsDouble) -> str:
    """The name of a new, empty bucket of ``s3engine_aws.account``."""
    name = f"s3engine-test-{next(_numbers):06d}"
    s3engine_aws.gate.create_bucket(name, s3engine_aws.account)
    return name


@pytest.fixture(scope="session")
def _s3engine_postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run; every double has a database of its own in it."""
    from engine.testing.redshift import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture
def s3engine_redshift(
    s3engine_aws: AwsDouble, _s3engine_postgres: PostgresServer
) -> Iterator[RedshiftDouble]:
    """An empty Redshift double that loads from ``s3engine_aws``."""
    from engine.testing.redshift import start_for_tests

    with start_for_tests(s3engine_aws, server=_s3engine_postgres) as redshift:
        yield redshift
