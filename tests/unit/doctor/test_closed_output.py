"""Nobody reads the screen any more: the examination ends, and leaves nothing behind."""

from __future__ import annotations

import pytest

from engine.config import Endpoints
from engine.credentials import RoleSpec
from engine.credentials.providers.static import StaticProvider
from engine.doctor import Finding, Question, Setup, Told, Verdict, examine, open_tools
from engine.testing.aws import AwsDouble
from engine.types import Credentials, S3Url

OWN = "111122223333"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", ["source", "assume", "bucket", "list", "parts", "delete"])
async def test_a_closed_pipe_comes_through_and_nothing_is_left(
    s3engine_aws: AwsDouble, s3engine_bucket: str, check: str
) -> None:
    gate = s3engine_aws.gate
    key = gate.add_user(OWN, "etl", allow=[("sts:AssumeRole", "*")])
    arn = gate.add_role(OWN, "stage", trust=[f"arn:aws:iam::{OWN}:user/etl"], allow=[("s3:*", "*")])
    keys = StaticProvider(Credentials(key.access_key_id, key.secret_access_key))
    endpoint = s3engine_aws.endpoint
    endpoints = Endpoints(region=s3engine_aws.region, s3=endpoint, sts=endpoint)
    told: list[str] = []

    def tell(what: Told) -> None:
        if isinstance(what, Finding):
            told.append(what.check)
            if what.check == check:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        async with open_tools(Setup(endpoints, keys)) as tools:
            question = Question(RoleSpec(arn), S3Url(s3engine_bucket, "in/"))
            await examine(question, tools, Verdict(tell))
    assert told[-1] == check
    assert gate.list_keys(s3engine_bucket) == []
    assert gate.open_uploads(s3engine_bucket) == []
