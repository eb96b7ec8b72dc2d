"""Where a setting comes from: an argument, else the environment, else the default.

Standard AWS variables mean what they mean everywhere else, AWS_REGION included:
https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from engine.config import Endpoints
from engine.errors import UsageError

DEFAULT_REGION = "us-east-1"
GLOBAL_STS = "https://sts.amazonaws.com"
_REGION = re.compile(r"[a-z0-9-]{1,40}")


def endpoints_from(
    environ: Mapping[str, str],
    *,
    region: str | None = None,
    s3: str | None = None,
    sts: str | None = None,
    ca_bundle: str | None = None,
    profile: str | None = None,
) -> Endpoints:
    """Addresses and the region.

    Args:
        sts: ``regional``, ``global``, or a URL. Regional is AWS's advice and its SDKs' default:
            https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
        profile: Whose region is taken where nothing else names one.

    Raises:
        UsageError: What cannot be a URL or a region, and a CA bundle that is not there.
    """
    anywhere = environ.get("AWS_ENDPOINT_URL")
    imds = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    found = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    sts = sts or environ.get("AWS_ENDPOINT_URL_STS") or anywhere or _sts_mode(environ)
    is_global = sts == "global"
    if sts in ("regional", "global"):
        sts = GLOBAL_STS if is_global else None
    return Endpoints(
        region=_region(found or DEFAULT_REGION),
        s3=_url(s3 or environ.get("AWS_ENDPOINT_URL_S3") or anywhere),
        sts=_url(sts),
        # The global endpoint checks signatures of its own region.
        sts_region=DEFAULT_REGION if is_global else None,
        imds=_url(imds),
        ca_bundle=_readable(ca_bundle or environ.get("AWS_CA_BUNDLE")),
    )


def _sts_mode(environ: Mapping[str, str]) -> str:
    """AWS's own switch: ``legacy`` is the global endpoint."""
    return "global" if environ.get("AWS_STS_REGIONAL_ENDPOINTS") == "legacy" else "regional"


def package_version() -> str:
    """The installed version, or ``0`` in a tree that was not installed."""
    try:
        return version("s3engine")
    except PackageNotFoundError:
        return "0"


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise UsageError(f"not a region: {text!r}", fix="Write it as eu-west-1")
    return text


def _readable(path: str | None) -> str | None:
    if path and not os.access(path, os.R_OK):
        raise UsageError(f"the CA bundle {path} cannot be read", fix="Check AWS_CA_BUNDLE")
    return path or None


def _url(text: str | None) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # Only the host is shown: a URL may hold a password.
        shown = parts.hostname or text.partition("@")[0].partition(":")[0]
        raise UsageError(f"not an endpoint URL: {shown!r}", fix="Write it as https://host:port")
    try:
        _ = parts.port
    except ValueError:
        raise UsageError(
            f"no port that can be: {parts.hostname}", fix="Ports are 1 to 65535"
        ) from None
    if parts.username or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise UsageError(
            f"an endpoint URL has a host and a port, no more: {parts.hostname}",
            fix="Write it as https://host:port",
        )
    return f"{parts.scheme}://{parts.netloc}"
