"""Region and addresses: an argument, else the environment, else the profile, else the default."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Endpoints
from engine.errors import UsageError
from engine.proxies import Proxies
from engine.settings import GLOBAL_STS, SharedSettings, endpoints_from

CONFIG = """
[default]
region = eu-north-1

[profile local]
region = eu-west-3
endpoint_url = http://everything:1
services = local
s3 =
  addressing_style = path
sts_regional_endpoints = legacy
ca_bundle = {bundle}
ec2_metadata_service_endpoint_mode = IPv6

[services local]
s3 =
  endpoint_url = http://only-s3:2

[profile lost]
services = nowhere

[profile dual]
region = eu-west-3
use_dualstack_endpoint = True
use_fips_endpoint = false
s3 =
  addressing_style = virtual

[profile deaf]
endpoint_url = http://everything:1
ignore_configured_endpoint_urls = true
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    (tmp_path / "config").write_text(CONFIG.format(bundle=bundle))
    return {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config")}


def test_without_anything_it_is_us_east_1_and_aws_own_addresses(tmp_path: Path) -> None:
    found = endpoints_from({"HOME": str(tmp_path)})
    assert found == Endpoints(proxies=Proxies.read({}))


def test_the_order_of_the_region(environ: dict[str, str]) -> None:
    def region(**more: str) -> str:
        named = more.pop("region", None)
        profile = more.pop("profile", None)
        return endpoints_from({**environ, **more}, region=named, profile=profile).region

    both = {"AWS_REGION": "ap-south-1", "AWS_DEFAULT_REGION": "ap-south-2"}
    assert region() == "eu-north-1"
    assert region(profile="local") == "eu-west-3"
    assert region(AWS_PROFILE="local") == "eu-west-3"
    assert region(AWS_DEFAULT_REGION="ap-south-2", profile="local") == "ap-south-2"
    assert region(**both, profile="local") == "ap-south-1"
    assert region(**both, region="us-west-2") == "us-west-2"


def test_addresses_of_the_profile(environ: dict[str, str]) -> None:
    found = endpoints_from(environ, profile="local")
    assert found.s3 == "http://only-s3:2"
    assert found.sts == "http://everything:1"
    assert found.imds == "http://[fd00:ec2::254]"
    assert found.ca_bundle is not None and found.ca_bundle.endswith("ca.pem")


def test_the_environment_comes_before_the_profile(environ: dict[str, str]) -> None:
    environ |= {
        "AWS_ENDPOINT_URL": "http://env:3",
        "AWS_ENDPOINT_URL_STS": "http://env-sts:4",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://imds:5",
    }
    found = endpoints_from(environ, profile="local")
    assert (found.s3, found.sts, found.imds) == (
        "http://env:3",
        "http://env-sts:4",
        "http://imds:5",
    )
    shared = SharedSettings.read(environ, "local")
    assert shared.endpoint_url("sso_oidc") == "http://env:3"
    assert endpoints_from(environ, profile="local", s3="http://arg:6").s3 == "http://arg:6"
    assert "http://env:3" not in repr(shared), "an environment may hold keys"


def test_the_way_to_aws(environ: dict[str, str]) -> None:
    assert endpoints_from(environ, profile="local").addressing_style == "path"
    found = endpoints_from(environ, profile="dual")
    assert (found.addressing_style, found.dualstack, found.fips) == ("virtual", True, False)
    argued = endpoints_from(environ, profile="dual", dualstack=False, addressing_style="auto")
    assert (argued.addressing_style, argued.dualstack) == ("auto", False)
    environ |= {
        "AWS_USE_DUALSTACK_ENDPOINT": "FALSE",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_ENDPOINT_URL_REDSHIFT": "https://redshift.example",
        "https_proxy": "http://user:pw@proxy.example:3128",
    }
    found = endpoints_from(environ, profile="dual")
    assert (found.dualstack, found.fips) == (False, True)
    assert (found.redshift, found.s3) == ("https://redshift.example", None)
    assert str(found.proxies.https) == "http://proxy.example:3128"
    assert "pw" not in repr(found) and "Basic" not in repr(found)
    assert endpoints_from(environ, proxy="none").proxies.https is None


@pytest.mark.parametrize("variable", ["AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT"])
def test_aws_own_variants_and_another_address_exclude_each_other(
    environ: dict[str, str], variable: str
) -> None:
    with pytest.raises(UsageError, match="another address is set"):
        endpoints_from({**environ, variable: "true"}, s3="http://store:1")
    endpoints_from({**environ, variable: "true"}, s3=None)


@pytest.mark.parametrize(
    ("more", "region", "place"),
    [
        ({}, None, "profile default"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, None, "AWS_DEFAULT_REGION"),
        ({"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "x"}, None, "AWS_REGION"),
        ({"AWS_REGION": "eu-west-2"}, "eu-west-2", "--region"),
        ({"AWS_CONFIG_FILE": "/nowhere"}, None, ""),
    ],
)
def test_who_gave_the_region_is_known(
    environ: dict[str, str], more: dict[str, str], region: str | None, place: str
) -> None:
    assert endpoints_from({**environ, **more}, region=region).region_from == place


@pytest.mark.parametrize("profile", ["local", "deaf"])
def test_configured_addresses_can_be_ignored(environ: dict[str, str], profile: str) -> None:
    if profile == "local":
        environ |= {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}
    environ |= {"AWS_ENDPOINT_URL": "http://env:3"}
    found = endpoints_from(environ, profile=profile)
    assert found.s3 is None
    assert endpoints_from(environ, profile=profile, s3="http://arg:6").s3 == "http://arg:6"


def test_regional_is_the_default_and_legacy_is_global_where_it_ever_was(
    environ: dict[str, str],
) -> None:
    def sts(region: str, mode: str = "", argument: str | None = None) -> tuple[str | None, ...]:
        more = {"AWS_STS_REGIONAL_ENDPOINTS": mode} if mode else {}
        found = endpoints_from({**environ, **more}, region=region, sts=argument)
        return found.sts, found.sts_region

    everywhere = (GLOBAL_STS, "us-east-1")
    assert sts("eu-west-1") == (None, None)
    assert sts("eu-west-1", "legacy") == everywhere
    assert sts("eu-south-2", "legacy") == (None, None)
    assert sts("cn-north-1", "legacy") == (None, None)
    assert sts("eu-south-2", argument="global") == everywhere
    assert sts("eu-west-1", "legacy", argument="regional") == (None, None)
    assert sts("eu-west-1", argument="http://sts:1") == ("http://sts:1", None)
    with pytest.raises(UsageError, match="'sometimes'"):
        sts("eu-west-1", "sometimes")


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "us-iso-east-1"])
def test_the_global_sts_is_refused_in_other_partitions(
    environ: dict[str, str], region: str
) -> None:
    with pytest.raises(UsageError, match="another partition"):
        endpoints_from(environ, region=region, sts="global")


def test_what_cannot_be_is_refused(environ: dict[str, str]) -> None:
    for more, words in (
        ({"AWS_PROFILE": "lost"}, "'nowhere'"),
        ({"AWS_PROFILE": "absent"}, "no profile 'absent'"),
        ({"AWS_REGION": "EU west"}, "not a region"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "not an endpoint URL"),
        ({"AWS_ENDPOINT_URL": "ftp://user:pw@host"}, "not an endpoint URL: 'host'"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv5"}, "'IPv5'"),
        ({"AWS_CA_BUNDLE": "/nowhere.pem"}, "CA bundle"),
        ({"AWS_USE_FIPS_ENDPOINT": "perhaps"}, "'perhaps'"),
        ({"https_proxy": "socks5://host"}, "'socks5'"),
    ):
        with pytest.raises(UsageError, match=words):
            endpoints_from({**environ, **more})


_REGIONS = st.sampled_from([None, "eu-west-1", "ap-south-1", "us-west-2"])


@pytest.mark.slow
@given(default=_REGIONS, other=_REGIONS, variable=_REGIONS, profile=st.sampled_from([None, "p"]))
def test_botocore_takes_the_same_region(
    tmp_path_factory: pytest.TempPathFactory,
    default: str | None,
    other: str | None,
    variable: str | None,
    profile: str | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "region-config"
    lines = [f"region = {region}\n" if region else "" for region in (default, other)]
    path.write_text(f"[default]\n{lines[0]}[profile p]\n{lines[1]}")
    environ = {"HOME": str(path.parent), "AWS_CONFIG_FILE": str(path)}
    if variable:
        environ["AWS_DEFAULT_REGION"] = variable
    with mock.patch.dict(os.environ, environ, clear=True):
        theirs = botocore.session.Session(profile=profile).get_config_variable("region")
    assert endpoints_from(environ, profile=profile).region == (theirs or "us-east-1")
