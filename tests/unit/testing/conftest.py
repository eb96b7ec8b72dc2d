"""One AWS double for all tests of the doubles; empty, but for one bucket, at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.testing.aws import AwsDouble


@pytest.fixture(scope="session")
def aws_process() -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        yield double


@pytest.fixture
def aws(aws_process: AwsDouble) -> AwsDouble:
    """An AWS with the empty bucket ``bkt``."""
    aws_process.reset()
    aws_process.gate.create_bucket("bkt", aws_process.account)
    return aws_process
