"""What the name of a region says: its partition, whether it is opt-in, its endpoint. PURE."""

from __future__ import annotations

from enum import Enum

from engine._wire.partitions import service_host
from engine.config import Endpoints
from engine.settings import GLOBAL_STS

# Enabled in every account. Regions since 2019-03-20 are opt-in, so the list does not grow:
# https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
_ALWAYS_ON = frozenset(
    {
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-northeast-3",
        "ap-south-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ca-central-1",
        "eu-central-1",
        "eu-north-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-3",
        "sa-east-1",
        "us-east-1",
        "us-east-2",
        "us-west-1",
        "us-west-2",
    }
)


class StsMode(Enum):
    """Which STS is asked."""

    REGIONAL = "regional"
    GLOBAL = "global"
    CUSTOM = "custom"


def partition_of(region: str) -> str:
    """``aws``, ``aws-cn`` or ``aws-us-gov``."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def is_opt_in(region: str) -> bool:
    """Whether an account has to enable the region first."""
    return partition_of(region) == "aws" and region not in _ALWAYS_ON


def sts_mode(endpoints: Endpoints) -> StsMode:
    """Which STS these settings ask."""
    if endpoints.sts is None:
        return StsMode.REGIONAL
    return StsMode.GLOBAL if endpoints.sts == GLOBAL_STS else StsMode.CUSTOM


def sts_url(endpoints: Endpoints) -> str:
    """The address of STS."""
    host = service_host("sts", endpoints.region, dualstack=endpoints.dualstack, fips=endpoints.fips)
    return endpoints.sts or f"https://{host}"
