"""Where a setting comes from: an argument, else the environment, else the default.

Standard AWS variables mean what they mean everywhere else, AWS_REGION included:
https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from engine.config import Endpoints
from engine.errors import UsageError

DEFAULT_REGION = "us-east-1"


def endpoints_from(
    environ: Mapping[str, str],
    *,
    region: str | None = None,
    s3: str | None = None,
    sts: str | None = None,
    ca_bundle: str | None = None,
) -> Endpoints:
    """Raises UsageError where a URL is not one."""
    anywhere = environ.get("AWS_ENDPOINT_URL")
    imds = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    return Endpoints(
        region=region
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or DEFAULT_REGION,
        s3=_url(s3 or environ.get("AWS_ENDPOINT_URL_S3") or anywhere),
        sts=_url(sts or environ.get("AWS_ENDPOINT_URL_STS") or anywhere),
        imds=_url(imds),
        ca_bundle=ca_bundle or environ.get("AWS_CA_BUNDLE"),
    )


def package_version() -> str:
    """The installed version, or ``0`` in a tree that was not installed."""
    try:
        return version("s3engine")
    except PackageNotFoundError:
        return "0"


def _url(text: str | None) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"not an endpoint URL: {text!r}", fix="Write it as https://host:port")
    if parts.username or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise UsageError(
            f"an endpoint URL has a host and a port, no more: {parts.hostname}",
            fix="Write it as https://host:port",
        )
    return f"{parts.scheme}://{parts.netloc}"
