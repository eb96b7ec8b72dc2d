"""AWS's partitions, and the names of its own hosts in them. PURE.

What lives here: names. What must not: buckets and paths (``endpoint``), custom endpoints.
Sources: https://docs.aws.amazon.com/general/latest/gr/s3.html, .../gr/sts.html, and
https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html.
"""

from __future__ import annotations

import re

from msgspec import Struct

from engine.errors import UsageError

_REGION = re.compile(r"[a-z0-9-]{1,40}")


class Partition(Struct, frozen=True):
    """Regions that share accounts, and nothing with those of another partition.

    Attributes:
        suffix: Of the hosts of most services, and of S3's dual-stack hosts.
        dualstack_suffix: Of other services' dual-stack hosts.
        s3_fips: Whether S3 has FIPS hosts here.
    """

    name: str
    suffix: str
    dualstack_suffix: str
    s3_fips: bool = True


_COMMERCIAL = Partition("aws", "amazonaws.com", "api.aws")
# By how their regions begin; everything else is commercial, as a new region most likely is.
_OTHERS = (
    ("cn-", Partition("aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", False)),
    ("us-gov-", Partition("aws-us-gov", "amazonaws.com", "api.aws")),
    ("eusc-", Partition("aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu")),
    ("us-iso-", Partition("aws-iso", "c2s.ic.gov", "api.aws.ic.gov")),
    ("us-isob-", Partition("aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud")),
    ("eu-isoe-", Partition("aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk")),
    ("us-isof-", Partition("aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov")),
)


def partition_of(region: str) -> Partition:
    """The partition of a region.

    Raises:
        UsageError: Not a region name.
    """
    if not _REGION.fullmatch(region):
        raise UsageError(f"not a region: {region!r}", fix="Write it as eu-west-1")
    return next((found for start, found in _OTHERS if region.startswith(start)), _COMMERCIAL)


def service_host(service: str, region: str, *, dualstack: bool = False, fips: bool = False) -> str:
    """AWS's own host of a regional service other than S3.

    Args:
        dualstack: The host that has IPv6 addresses too.
        fips: The host whose TLS library is validated by FIPS 140.

    Raises:
        UsageError: Not a region name.
    """
    partition = partition_of(region)
    suffix = partition.dualstack_suffix if dualstack else partition.suffix
    # All of GovCloud's STS hosts are FIPS hosts, so the one without the word is.
    named = fips and (dualstack or service != "sts" or partition.name != "aws-us-gov")
    return f"{service}{'-fips' if named else ''}.{region}.{suffix}"


def s3_host(region: str, *, dualstack: bool = False, fips: bool = False) -> str:
    """AWS's own host of S3: https://docs.aws.amazon.com/general/latest/gr/s3.html.

    Raises:
        UsageError: Not a region name, or FIPS where S3 has none.
    """
    partition = partition_of(region)
    if fips and not partition.s3_fips:
        raise UsageError(f"S3 has no FIPS endpoint in {region}", fix="Unset AWS_USE_FIPS_ENDPOINT")
    name = f"s3{'-fips' if fips else ''}{'.dualstack' if dualstack else ''}"
    return f"{name}.{region}.{partition.suffix}"


def region_in_host(host: str) -> str | None:
    """The region that one of S3's own hosts names; None for every other host.

    A redirect is never followed to its host: what it says is that there is another region, whose
    host is then made here.
    """
    name = host.lower().rstrip(".")
    match = re.search(r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z0-9-]{1,40})\.([a-z.-]+)$", name)
    if match is None:
        return None
    region, suffix = match[1], match[2]
    known = re.fullmatch(r"[a-z]+(?:-[a-z]+)+-[0-9]{1,2}", region)
    return region if known and suffix == partition_of(region).suffix else None
