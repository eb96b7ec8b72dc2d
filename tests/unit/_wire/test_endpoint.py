"""Which host, which Host header, which path."""

from __future__ import annotations

import pytest

from engine._wire.endpoint import Origin, locate, parse_endpoint, service_host
from engine.config import Endpoints
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
