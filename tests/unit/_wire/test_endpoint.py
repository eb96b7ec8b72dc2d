"""Which host, which Host header, which path."""

from __future__ import annotations

import pytest

from engine._wire.endpoint import Origin, locate, parse_endpoint
from engine._wire.partitions import service_host
from engine.config import AddressingStyle, Endpoints
from engine.errors import UsageError
from engine.types import S3Url


@pytest.mark.parametrize(
    ("bucket", "key", "region", "host", "path"),
    [
        ("bucket", "a/b", "eu-west-1", "bucket.s3.eu-west-1.amazonaws.com", "/a/b"),
        ("bucket", "", "us-east-1", "bucket.s3.us-east-1.amazonaws.com", "/"),
        ("bucket", "//a/../b", "us-east-1", "bucket.s3.us-east-1.amazonaws.com", "///a/../b"),
        ("my.bucket", "a", "us-east-1", "s3.us-east-1.amazonaws.com", "/my.bucket/a"),
        ("Old_Bucket", "", "us-east-1", "s3.us-east-1.amazonaws.com", "/Old_Bucket"),
        ("bucket", "ü", "cn-north-1", "bucket.s3.cn-north-1.amazonaws.com.cn", "/%C3%BC"),
    ],
)
def test_aws_itself(bucket: str, key: str, region: str, host: str, path: str) -> None:
    target = locate(S3Url(bucket, key), Endpoints(region=region))
    assert (target.origin, target.path) == (Origin("https", host, 443), path)
    assert target.origin.host_header == host


@pytest.mark.parametrize(
    ("endpoint", "header", "path"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1:9000", "/bucket/a%20b"),
        ("http://127.0.0.1:80/", "127.0.0.1", "/bucket/a%20b"),
        ("https://store.example", "store.example", "/bucket/a%20b"),
        ("https://store.example:443/s3/", "store.example", "/s3/bucket/a%20b"),
        ("http://[::1]:9000", "[::1]:9000", "/bucket/a%20b"),
    ],
)
def test_a_custom_endpoint_is_path_style(endpoint: str, header: str, path: str) -> None:
    target = locate(S3Url("bucket", "a b"), Endpoints(s3=endpoint))
    assert (target.origin.host_header, target.path) == (header, path)


@pytest.mark.parametrize(
    "text",
    [
        "store.example",
        "ftp://store.example",
        "http://",
        "http://u:PASSWORD@store.example",
        "http://store.example?a=PASSWORD",
        "http://store.example:99999",
        "http://a b",
        "http://[::1",
    ],
)
def test_a_bad_endpoint_is_a_usage_error_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(text)
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize("region", ["", "evil.example/", "US EAST"])
def test_a_bad_region_is_a_usage_error(region: str) -> None:
    with pytest.raises(UsageError):
        service_host("s3", region)


def test_a_key_with_a_line_break_is_refused() -> None:
    with pytest.raises(UsageError):
        locate(S3Url("bucket", "a\r\nb"), Endpoints())


@pytest.mark.parametrize(
    ("endpoint", "style", "host", "path"),
    [
        (None, "path", "s3.eu-west-1.amazonaws.com", "/bucket/a"),
        (None, "virtual", "bucket.s3.eu-west-1.amazonaws.com", "/a"),
        ("http://store.example:9000", "virtual", "bucket.store.example:9000", "/a"),
        ("https://store.example/s3", "virtual", "bucket.store.example", "/s3/a"),
        ("https://store.example/s3", "auto", "store.example", "/s3/bucket/a"),
    ],
)
def test_the_style_that_was_asked_for(
    endpoint: str | None, style: AddressingStyle, host: str, path: str
) -> None:
    target = locate(
        S3Url("bucket", "a"), Endpoints("eu-west-1", s3=endpoint, addressing_style=style)
    )
    assert (target.origin.host_header, target.path) == (host, path)


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [
        (None, "my.bucket"),
        (None, "Old_Bucket"),
        ("http://127.0.0.1:9000", "bucket"),
        ("http://[::1]:9000", "bucket"),
    ],
)
def test_a_bucket_that_cannot_be_a_host_is_refused_by_name(
    endpoint: str | None, bucket: str
) -> None:
    with pytest.raises(UsageError, match="cannot be a host name"):
        locate(S3Url(bucket, "a"), Endpoints(s3=endpoint, addressing_style="virtual"))


def test_over_plain_http_a_bucket_with_dots_may_be_a_host() -> None:
    endpoints = Endpoints(s3="http://store.example", addressing_style="virtual")
    assert locate(S3Url("my.bucket", "a"), endpoints).origin.host == "my.bucket.store.example"


def test_what_needs_another_protocol_is_refused() -> None:
    with pytest.raises(UsageError, match="directory bucket"):
        locate(S3Url("b--use1-az4--x-s3", "a"), Endpoints())
    with pytest.raises(UsageError, match="s3alias"):
        S3Url.parse("s3://arn:aws:s3:eu-west-1:111122223333:accesspoint/name/key")
    alias = S3Url.parse("s3://name-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias/key")
    assert locate(alias, Endpoints()).origin.host.startswith("name-")
