"""AWS's own hosts are those that botocore's rules give."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from engine._wire.endpoint import locate
from engine._wire.partitions import partition_of, region_in_host, service_host
from engine.config import AddressingStyle, Endpoints
from engine.errors import UsageError
from engine.types import S3Url

REGIONS = [
    "us-east-1",
    "us-east-2",
    "eu-central-1",
    "mx-central-1",
    "cn-north-1",
    "us-gov-west-1",
    "eusc-de-east-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "eu-isoe-west-1",
    "us-isof-south-1",
]


# Whose dual-stack hosts the pinned botocore cannot build.
NO_DUALSTACK = ("eusc-", "eu-isoe-", "us-isof-")


@pytest.fixture(scope="module")
def session() -> Any:
    return botocore.session.get_session()


def theirs(session: Any, service: str, operation: str, **settings: Any) -> str:
    """The URL that botocore would send a request to."""
    region = settings.pop("region")
    parameters = settings.pop("parameters", {})
    client = session.create_client(
        service,
        region_name=region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(
            use_dualstack_endpoint=settings["dualstack"],
            use_fips_endpoint=settings["fips"],
            s3={
                "addressing_style": settings.get("style", "auto"),
                "us_east_1_regional_endpoint": "regional",
            },
        ),
    )
    urls: list[str] = []

    def stop(request: Any, **_: Any) -> Any:
        urls.append(request.url)
        raise KeyboardInterrupt

    client.meta.events.register("before-send", stop)
    with pytest.raises(KeyboardInterrupt):
        getattr(client, operation)(**parameters)
    return urls[0].rstrip("/")


@pytest.mark.slow
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dualstack", [False, True])
@pytest.mark.parametrize("region", REGIONS)
def test_s3_is_where_botocore_says(session: Any, region: str, dualstack: bool, fips: bool) -> None:
    if dualstack and region.startswith(NO_DUALSTACK):
        return
    if fips and region.startswith("cn-"):
        with pytest.raises(UsageError, match="no FIPS"):
            locate(S3Url("bucket", "k"), Endpoints(region, dualstack=dualstack, fips=fips))
        return
    styles: tuple[AddressingStyle, ...] = ("virtual", "path")
    for style in styles:
        endpoints = Endpoints(region, dualstack=dualstack, fips=fips, addressing_style=style)
        target = locate(S3Url("bucket", "k"), endpoints)
        expected = theirs(
            session,
            "s3",
            "head_object",
            region=region,
            dualstack=dualstack,
            fips=fips,
            style=style,
            parameters={"Bucket": "bucket", "Key": "k"},
        )
        assert f"{target.origin}{target.path}" == expected


@pytest.mark.slow
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dualstack", [False, True])
@pytest.mark.parametrize("region", REGIONS)
def test_sts_is_where_botocore_says(session: Any, region: str, dualstack: bool, fips: bool) -> None:
    if dualstack and region.startswith(NO_DUALSTACK):
        return
    ours = service_host("sts", region, dualstack=dualstack, fips=fips)
    asked = {"region": region, "dualstack": dualstack, "fips": fips}
    assert f"https://{ours}" == theirs(session, "sts", "get_caller_identity", **asked)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bucket.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("bucket.s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("BUCKET.S3.cn-north-1.amazonaws.com.cn.", "cn-north-1"),
        ("s3.amazonaws.com", None),
        ("bucket.s3.cn-north-1.amazonaws.com", None),
        ("bucket.s3.eu-west-1.amazonaws.com.evil.example", None),
        ("bucket.s3.eu-west-1.evil.example", None),
        ("s3.evil.amazonaws.com", None),
        ("xs3.eu-west-1.amazonaws.com", None),
        ("127.0.0.1", None),
        ("", None),
    ],
)
def test_only_the_hosts_of_s3_name_a_region(host: str, region: str | None) -> None:
    assert region_in_host(host) == region


def test_a_region_has_one_partition() -> None:
    names = [partition_of(region).name for region in REGIONS]
    assert names[0] == names[3] == "aws"
    assert len(set(names)) == len(names) - 3
    for bad in ("", "EU", "a" * 41, "eu-west-1."):
        with pytest.raises(UsageError):
            partition_of(bad)
