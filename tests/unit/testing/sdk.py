"""AWS's own client against the doubles: what it accepts as AWS is near enough to it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from engine.testing.aws import AwsDouble
from engine.types import Credentials


def client(
    aws: AwsDouble,
    service: str,
    credentials: Credentials | None = None,
    *,
    region: str = "",
    verify: str | None = None,
) -> Any:
    used = credentials or aws.admin.credentials
    return boto3.client(
        service,
        endpoint_url=aws.endpoint,
        region_name=region or aws.region,
        aws_access_key_id=used.access_key_id,
        aws_secret_access_key=used.secret_access_key,
        aws_session_token=used.session_token,
        verify=verify,
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            parameter_validation=False,
        ),
    )


def refused(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def session_of(answer: Any) -> Credentials:
    reply = answer["Credentials"]
    return Credentials(
        access_key_id=reply["AccessKeyId"],
        secret_access_key=reply["SecretAccessKey"],
        session_token=reply["SessionToken"],
        expires_at=reply["Expiration"],
        issued_at=parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]),
    )
