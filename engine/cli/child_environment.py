"""What a child process sees: nothing that names other credentials than the ones it is given.

What lives here: which variables and settings stay. What must not: processes (``child.py``).

The SDKs look through their sources in an order of their own, and container credentials stand
nearly last: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html. So all
that stands before them has to go, the two shared files included. A setting that is no credential
(the addressing style of a store that is not AWS, say) has nowhere to live but the configuration
file, so the child gets a copy of it that holds the known settings, and nothing that is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from engine.profiles import section_title

# Variables by which some SDK or tool finds credentials, or a role to assume with them.
CREDENTIAL_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_ACCOUNT_ID",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CREDENTIAL_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        # Ours: the child must not assume the role a second time.
        "S3ENGINE_ROLE_ARN",
        "S3ENGINE_VIA_ROLE",
        "S3ENGINE_EXTERNAL_ID",
        "S3ENGINE_ROLE_SESSION_NAME",
        "S3ENGINE_SESSION_DURATION",
        "S3ENGINE_SESSION_TAG",
        "S3ENGINE_SESSION_POLICY",
        "S3ENGINE_SESSION_POLICY_ARN",
        "S3ENGINE_TRANSITIVE_TAG",
        "S3ENGINE_SOURCE_IDENTITY",
        "S3ENGINE_MFA_SERIAL",
        "S3ENGINE_MFA_CODE",
        "S3ENGINE_SAML_ASSERTION_COMMAND",
        "S3ENGINE_SAML_ROLE_ARN",
        "S3ENGINE_SAML_PRINCIPAL_ARN",
        "S3ENGINE_SAML_DURATION",
        "S3ENGINE_REFUSE_LONG_CHAIN",
        "S3ENGINE_SOURCE",
        "S3ENGINE_PROFILE",
    }
)
# Files with credentials of the SDKs, of those of Java before version 2, and of boto.
_CREDENTIAL_FILES = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CREDENTIAL_PROFILES_FILE", "BOTO_CONFIG")
# Settings of a profile that neither are nor name credentials; of the CLI's own, all ``cli_...``.
# https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
_SETTINGS = frozenset(
    {
        "account_id_endpoint_mode",
        "api_versions",
        "auth_scheme_preference",
        "ca_bundle",
        "defaults_mode",
        "disable_request_compression",
        "endpoint_url",
        "ignore_configured_endpoint_urls",
        "max_attempts",
        "output",
        "parameter_validation",
        "region",
        "request_checksum_calculation",
        "request_min_compression_size_bytes",
        "response_checksum_validation",
        "retry_mode",
        "s3",
        "s3_disable_express_session_auth",
        "s3_disable_multiregion_access_points",
        "s3_us_east_1_regional_endpoint",
        "s3_use_arn_region",
        "s3api",
        "sdk_ua_app_id",
        "services",
        "sigv4a_signing_region_set",
        "sts_regional_endpoints",
        "tcp_keepalive",
        "use_dualstack_endpoint",
        "use_fips_endpoint",
        "user_agent_appid",
    }
)


def child_environment(
    environ: Mapping[str, str],
    given: Mapping[str, str],
    *,
    config_file: str,
    region: str | None = None,
    endpoint_url: str | None = None,
    sts_endpoint_url: str | None = None,
    ca_bundle: str | None = None,
) -> dict[str, str]:
    """``environ`` without other credentials, with ``given`` ones, and the flags as variables.

    Args:
        given: Where the credentials are: ``CredentialServer.environment()``.
        config_file: A file that ``settings_only`` has made, or the null device.
        sts_endpoint_url: A URL, or ``global`` or ``regional``.
    """
    child = {name: text for name, text in environ.items() if name not in CREDENTIAL_VARIABLES}
    child |= dict.fromkeys(_CREDENTIAL_FILES, os.devnull)
    child |= {"AWS_CONFIG_FILE": config_file, "AWS_EC2_METADATA_DISABLED": "true", **given}
    # botocore reads one of the two, the SDKs of Go and Java the other.
    found = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if found:
        child["AWS_REGION"] = child["AWS_DEFAULT_REGION"] = found
    if endpoint_url or sts_endpoint_url:
        child.pop("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", None)
    if endpoint_url:
        child["AWS_ENDPOINT_URL_S3"] = endpoint_url
    if sts_endpoint_url in ("global", "regional"):
        child["AWS_STS_REGIONAL_ENDPOINTS"] = (
            "legacy" if sts_endpoint_url == "global" else "regional"
        )
    elif sts_endpoint_url:
        child["AWS_ENDPOINT_URL_STS"] = sts_endpoint_url
    if ca_bundle:
        child["AWS_CA_BUNDLE"] = ca_bundle
    return child


def settings_only(lines: Iterable[str], profile: str) -> str:
    """The settings of one profile of a configuration file, as those of ``default``.

    Only what is known to be no credential stays; the ``services`` sections stay whole.
    """
    kept: list[str] = []
    mine = services = keep = False
    for line in lines:
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text.startswith("["):
            name = text[1:].partition("]")[0].strip()
            family, named = section_title(name)
            mine = profile in (name, named if family == "profile" else None)
            services = family == "services"
            keep = False
            if mine or services:
                kept.append("[default]" if mine else f"[{name}]")
        elif line[0].isspace():  # belongs to the setting above it
            if keep:
                kept.append(f"    {text}")
        else:
            key = text.partition("=")[0].strip().lower()
            keep = services or (mine and (key in _SETTINGS or key.startswith("cli_")))
            if keep:
                kept.append(text)
    return "".join(f"{line}\n" for line in kept)
