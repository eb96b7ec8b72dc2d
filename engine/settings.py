"""Where a setting comes from: an argument, else the environment, else a profile, else the default.

Standard AWS names mean what they mean everywhere else, AWS_REGION included:
https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast, get_args
from urllib.parse import urlsplit

from engine.config import AddressingStyle, Endpoints, RegionMismatch
from engine.errors import UsageError
from engine.profiles import Profile, ProfileFiles, Profiles
from engine.proxies import Proxies

DEFAULT_REGION = "us-east-1"
GLOBAL_STS = "https://sts.amazonaws.com"
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
IMDS_IPV4 = "http://169.254.169.254"
IMDS_IPV6 = "http://[fd00:ec2::254]"

_REGION = re.compile(r"[a-z0-9-]{1,40}")
# Regions outside AWS's commercial partition. The global STS does not know their accounts:
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
_OTHER_PARTITIONS = re.compile(r"(?:cn|us-gov|us-iso[a-z]*|eu-iso[a-z]*|eusc)-.*")
# Whom ``legacy`` sends to the global STS, by the same page; all others are regional with it too.
_LEGACY_REGIONS = frozenset(
    "ap-northeast-1 ap-south-1 ap-southeast-1 ap-southeast-2 aws-global ca-central-1 eu-central-1 "
    "eu-north-1 eu-west-1 eu-west-2 eu-west-3 sa-east-1 us-east-1 us-east-2 us-west-1 "
    "us-west-2".split()
)


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """Settings that all of AWS's tools share: the environment, then the profile in use."""

    environ: Mapping[str, str] = field(repr=False)  # it may hold keys
    profiles: Profiles
    profile: Profile

    @classmethod
    def read(cls, environ: Mapping[str, str], profile: str | None = None) -> SharedSettings:
        """Read the profile asked for, else that of AWS_PROFILE, else ``default``. Blocks.

        Raises:
            UsageError: A file cannot be read, or does not have the profile that was named.
        """
        profiles = ProfileFiles(environ).read()
        return cls(environ, profiles, profiles.chosen(environ, profile))

    def text(self, variable: str, name: str) -> str | None:
        """The environment's ``variable``, else the profile's ``name``; blank is absent."""
        return self.environ.get(variable) or self.profile.text(name)

    def endpoint_url(self, service: str) -> str | None:
        """The address that is set for ``service`` (``s3``, ``sts``, ``sso_oidc``), if any.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html: the service's
        variable, AWS_ENDPOINT_URL, the profile's ``services`` section, its ``endpoint_url``; none
        of them where AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true.

        Raises:
            UsageError: The profile names a ``services`` section that is not there.
        """
        ignored = self.text(
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls"
        )
        if ignored is not None and ignored.lower() == "true":
            return None
        return (
            self.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
            or self.environ.get("AWS_ENDPOINT_URL")
            or self._services_url(service)
            or self.profile.text("endpoint_url")
        )

    def _services_url(self, service: str) -> str | None:
        name = self.profile.text("services")
        if name is None:
            return None
        section = self.profiles.services.get(name)
        if section is None:
            raise UsageError(
                f"profile {self.profile.name} names the services section {name!r}, which is not "
                f"in {self.profiles.config_path}",
                fix=f"Add [services {name}], or take the line out of the profile",
            )
        return section.block(service).get("endpoint_url") or None


def endpoints_from(
    environ: Mapping[str, str],
    *,
    region: str | None = None,
    region_mismatch: RegionMismatch = "follow",
    s3: str | None = None,
    sts: str | None = None,
    redshift: str | None = None,
    addressing_style: AddressingStyle | None = None,
    dualstack: bool | None = None,
    fips: bool | None = None,
    expect_continue: bool | None = None,
    ca_bundle: str | None = None,
    proxy: str | None = None,
    profile: str | None = None,
) -> Endpoints:
    """Addresses, the region, and the way there.

    The region is the argument's, else AWS_REGION's, AWS_DEFAULT_REGION's, the profile's, else
    us-east-1. As in botocore the environment also comes before a profile that was asked for.

    Args:
        sts: ``regional``, ``global``, or a URL. Regional is AWS's advice and its SDKs' default:
            https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
        proxy: A URL, or ``none``; else the environment's (``Proxies.read``).
        profile: Whose settings are taken where nothing else gives them; None leaves the choice
            to AWS_PROFILE, then to ``default``.

    Raises:
        UsageError: What cannot be a URL or a region; a CA bundle that is not there; a profile
            that is not there; the global STS for a region of another partition; dual-stack or
            FIPS together with an address that is not AWS's.
    """
    shared = SharedSettings.read(environ, profile)
    found, region_from = _found_region(region, shared)
    sts = sts or shared.endpoint_url("sts") or _sts_mode(shared, found)
    is_global = sts == "global"
    if is_global and _OTHER_PARTITIONS.fullmatch(found):
        raise UsageError(
            f"the global STS does not serve {found}, which is of another partition",
            fix="Use the region's own: --sts-endpoint-url regional",
        )
    if sts in ("regional", "global"):
        sts = GLOBAL_STS if is_global else None
    endpoints = Endpoints(
        region=found,
        region_from=region_from,
        region_mismatch=region_mismatch,
        s3=_url(s3 or shared.endpoint_url("s3")),
        sts=_url(sts),
        redshift=_url(redshift or shared.endpoint_url("redshift")),
        # The global endpoint checks signatures of its own region.
        sts_region=DEFAULT_REGION if is_global else None,
        imds=_imds(shared),
        addressing_style=addressing_style or _style(shared),
        dualstack=_switch(
            dualstack, shared, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"
        ),
        fips=_switch(fips, shared, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
        expect_continue=expect_continue,
        ca_bundle=_readable(ca_bundle or shared.text("AWS_CA_BUNDLE", "ca_bundle")),
        proxies=Proxies.read(environ, proxy),
    )
    _check_variants(endpoints)
    return endpoints


def _found_region(argument: str | None, shared: SharedSettings) -> tuple[str, str]:
    """The region, and who gave it; ("us-east-1", "") where nobody did."""
    places = (
        (argument, "--region"),
        (shared.environ.get("AWS_REGION"), "AWS_REGION"),
        (shared.environ.get("AWS_DEFAULT_REGION"), "AWS_DEFAULT_REGION"),
        (shared.profile.text("region"), f"profile {shared.profile.name}"),
        (DEFAULT_REGION, ""),
    )
    return next((_region(region), place) for region, place in places if region)


def _switch(argument: bool | None, shared: SharedSettings, variable: str, name: str) -> bool:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html"""
    if argument is not None:
        return argument
    text = (shared.text(variable, name) or "false").lower()
    if text not in ("true", "false"):
        raise UsageError(f"{name} is {text!r}", fix=f"It is true or false ({variable})")
    return text == "true"


def _style(shared: SharedSettings) -> AddressingStyle:
    """``addressing_style`` of the profile's ``s3`` block, as the AWS CLI has it."""
    text = shared.profile.settings.block("s3").get("addressing_style", "auto")
    for style in get_args(AddressingStyle):
        if text == style:
            return cast("AddressingStyle", style)
    raise UsageError(f"addressing_style is {text!r}", fix="It is auto, path or virtual")


def _check_variants(endpoints: Endpoints) -> None:
    """A custom address stays as it is. Who asked for FIPS must not get something else unseen."""
    own = endpoints.s3 is None and (endpoints.sts in (None, GLOBAL_STS) or not endpoints.fips)
    if own or not (endpoints.dualstack or endpoints.fips):
        return
    variant = "FIPS" if endpoints.fips else "dual-stack"
    raise UsageError(
        f"{variant} hosts are AWS's own, and another address is set",
        fix="Unset AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT, or the endpoint URL",
    )


def _sts_mode(shared: SharedSettings, region: str) -> str:
    """AWS's own switch: ``legacy`` is the global endpoint, for the regions that ever had it."""
    mode = shared.text("AWS_STS_REGIONAL_ENDPOINTS", "sts_regional_endpoints") or "regional"
    if mode not in ("regional", "legacy"):
        raise UsageError(
            f"sts_regional_endpoints is {mode!r}",
            fix="AWS knows regional and legacy (AWS_STS_REGIONAL_ENDPOINTS, or the profile)",
        )
    return "global" if mode == "legacy" and region in _LEGACY_REGIONS else "regional"


def _imds(shared: SharedSettings) -> str | None:
    """None for the usual address of the instance metadata service."""
    url = shared.text("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")
    if url is not None:
        return _url(url)
    mode = shared.text(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode"
    )
    if mode is None or mode.lower() == "ipv4":
        return None
    if mode.lower() != "ipv6":
        raise UsageError(
            f"the mode of the instance metadata service is {mode!r}",
            fix="AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is IPv4 or IPv6",
        )
    return IMDS_IPV6


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
    try:
        parts = urlsplit(text)
        _ = parts.hostname
    except ValueError:  # a bracket that does not close
        raise UsageError("not an endpoint URL", fix="Write it as https://host:port") from None
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
