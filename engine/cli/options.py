"""Flags that commands share.

Every option can stand in the environment as ``S3ENGINE_<NAME>``. No option takes a secret.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.limits import PROFILES
from engine.types import GiB, KiB, MiB

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.IGNORECASE)
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kib": KiB,
    "mib": MiB,
    "gib": GiB,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
}
_DURATION = re.compile(r"(\d+)\s*([smh]?)")
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Size(click.ParamType[int]):
    """Bytes: ``10485760``, ``8MiB``, ``10MB``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write 10485760, 8MiB or 10MB", param, ctx)
        return int(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()])


class Duration(click.ParamType[int]):
    """Seconds: ``900``, ``15m``, ``12h``."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a duration; write 900, 15m or 12h", param, ctx)
        return int(match[1]) * _DURATION_UNITS[match[2]]


class Source(click.ParamType[str]):
    """A source of credentials, by the names that the room of credentials knows."""

    name = "source"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from engine.credentials.sources import ALIASES, source_names

        name = ALIASES.get(value, value)
        if name not in source_names():
            self.fail(f"{value!r} is not one of {', '.join(source_names())}", param, ctx)
        return str(name)


class DataPlane(click.ParamType[str]):
    """A data plane, by the names that the room of planes knows."""

    name = "plane"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        from engine.planes import DATA_PLANES

        if value not in DATA_PLANES:
            self.fail(f"{value!r} is not one of {', '.join(DATA_PLANES.names())}", param, ctx)
        return str(value)


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that can stand in the environment as ``S3ENGINE_<NAME>`` too."""
    variable = "S3ENGINE_" + names[0].partition("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=False, **settings)


_ENGINE_OPTIONS = (
    option("--region", help="Region of the bucket and of STS. Else AWS_REGION."),
    option("--endpoint-url", "--s3-endpoint-url", help="S3's address where it is not AWS."),
    option("--sts-endpoint-url", help="STS's address: a URL, or global. Default: the region's."),
    option("--region-mismatch", type=click.Choice(["follow", "error"]), default="follow",
            show_default=True, help="Where a bucket says that it is in another region."),
    option("--addressing-style", type=click.Choice(["auto", "path", "virtual"]),
            help="Bucket in the path, or in the host. Default: the profile's, else auto."),
    option("--dualstack/--no-dualstack", default=None,
            help="AWS's hosts with IPv6. Else AWS_USE_DUALSTACK_ENDPOINT."),
    option("--fips/--no-fips", default=None,
            help="AWS's hosts with FIPS 140 validated TLS. Else AWS_USE_FIPS_ENDPOINT."),
    option("--proxy", metavar="URL",
            help="HTTP proxy, or none. Else HTTPS_PROXY, HTTP_PROXY, NO_PROXY. A password is "
            "better in S3ENGINE_PROXY than here."),
    option("--expect-continue/--no-expect-continue", default=None,
            help="Whether big bodies on new connections wait for the server's consent. Default: "
            "with AWS's own hosts only."),
    option("--ca-bundle", type=click.Path(exists=True, dir_okay=False),
            help="File of certificates to trust instead of the system's."),
    option("--role-arn", help="The role to assume."),
    option("--via-role", multiple=True, metavar="ARN",
           help="A role to assume first, with which the next is assumed; repeatable, in order."),
    option("--external-id", help="Agreed with the role's owner. Better in S3ENGINE_EXTERNAL_ID."),
    option("--role-session-name", help="Seen in CloudTrail. Default: s3engine-<run id>."),
    option("--session-duration", type=Duration(), default=900, show_default=True,
            help="Of one session (900 to 43200 s); sessions are renewed while the job runs."),
    option("--session-tag", multiple=True, metavar="KEY=VALUE", help="Session tag; repeatable."),
    option("--transitive-tag", multiple=True, metavar="KEY",
           help="A session tag that the next role of a chain inherits; repeatable."),
    option("--session-policy", type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with an inline session policy (JSON)."),
    option("--session-policy-arn", multiple=True, metavar="ARN",
           help="Managed policy that limits the session; repeatable."),
    option("--source-identity", help="Seen in CloudTrail, the same through a chain of roles."),
    option("--mfa-serial", metavar="ARN",
           help="Of the MFA device; its code from S3ENGINE_MFA_CODE, or asked for. A code works "
           "once, so such a session is not renewed."),
    option("--refuse-long-chain", is_flag=True,
            help="Over 1 h from a role is an error; else it is cut to 1 h."),
    option("--source", type=Source(), default="default", show_default=True,
            help="Where the credentials that assume the role come from: "
            "env, profile, ec2, ecs, ... The default looks for them as AWS's SDKs do."),
    option("--profile", help="Of the AWS configuration files. Else AWS_PROFILE."),
)  # fmt: skip
_S3_OPTIONS = (
    option("--data-plane", type=DataPlane(), default="wire", show_default=True,
            help="How requests to S3 are made: wire is our own client, aws is aioboto3's."),
)  # fmt: skip
# What makes no sense without a role.
_ROLE_FLAGS = (
    "via_role",
    "external_id",
    "session_policy",
    "session_policy_arn",
    "session_tag",
    "transitive_tag",
    "source_identity",
    "mfa_serial",
    "role_session_name",
)
_TRANSFER_OPTIONS = (
    option("--multipart-threshold", type=Size(), default=10_485_760, show_default=True,
            help="Uploads strictly above it go in parts."),
    option("--multipart-download-threshold", type=Size(), default=10_485_760, show_default=True,
            help="Downloads strictly above it are fetched as parallel ranges."),
    option("--part-size", type=Size(), default=8 * MiB, show_default=True,
            help="Of parts and ranges; raised to fit 10,000."),
    option("--store-profile", type=click.Choice(sorted(PROFILES)), default="aws",
            show_default=True, help="Whose limits hold for parts and objects."),
    option("--max-concurrency", type=int,
            help="Requests under way. Default: from 64 small, 16 big, up to 512."),
    option("--max-memory", type=Size(), default=256 * MiB, show_default=True,
            help="Of all buffers."),
    option("--max-bandwidth", type=Size(), metavar="SIZE",
            help="Bytes a second, up and down together. Default: no limit."),
    option("--checksum", type=click.Choice(["crc64nvme", "crc32c", "crc32", "none"]),
            default="crc64nvme", show_default=True,
            help="Sent with every byte and verified on download."),
)  # fmt: skip
_OUTPUT_OPTIONS = (
    option("--json", "as_json", is_flag=True, help="One event a line on stdout."),
    option("--quiet", "-q", is_flag=True, help="Only failures."),
    click.option("-v", "--verbose", count=True, help="More of the log; up to -vvv."),
)


# What the engine takes by the names of its flags: the way to the services.
_NETWORK = (
    "region_mismatch",
    "addressing_style",
    "dualstack",
    "fips",
    "proxy",
    "expect_continue",
)


def network_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The way to the services, as ``Engine`` and ``endpoints_from`` take it."""
    return {name: flags[name] for name in _NETWORK}


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups; its own come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if row is not None:
                groups.setdefault(_group_of(parameter), []).append(row)
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


def _group_of(parameter: click.Parameter) -> str:
    return str(getattr(parameter, "help_group", "Options"))


def stack(group: str, options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    """One decorator for several options, under one heading of the help."""

    def add(function: F) -> F:
        for add_one in reversed(options):
            function = add_one(function)
            parameters: Any = function
            parameters.__click_params__[-1].help_group = group
        return function

    return add


engine_options = stack("Credentials and endpoints", _ENGINE_OPTIONS)
s3_options = stack("Requests to S3", _S3_OPTIONS)
transfer_options = stack("Sizes and limits", _TRANSFER_OPTIONS)
output_options = stack("Output", _OUTPUT_OPTIONS)


def role_from(flags: Mapping[str, Any], arn: str | None, duration: int) -> Any:
    """A RoleSpec of the shared role flags, or None without an ARN."""
    from engine.credentials.role import RoleSpec
    from engine.errors import UsageError

    if arn is None:
        # A session policy that is passed over would leave more rights than were asked for.
        for name in _ROLE_FLAGS:
            if flags[name]:
                words = name.replace("_", " ")
                raise UsageError(f"a value for {words} without a role", fix="Give --role-arn too")
        return None
    tags = {}
    for tag in flags["session_tag"]:
        key, sign, value = tag.partition("=")
        if not sign:
            raise UsageError(f"not a session tag: {tag!r}", fix="Write it as KEY=VALUE")
        tags[key] = value
    policy = flags["session_policy"]
    source: str | RoleSpec = flags["source"]
    for first in flags["via_role"]:
        source = RoleSpec(first, source=source)
    return RoleSpec(
        arn,
        external_id=flags["external_id"],
        source=source,
        session_name=flags["role_session_name"],
        duration=duration,
        tags=tags,
        transitive_tags=flags["transitive_tag"],
        policy=policy.read_text() if policy else None,
        policy_arns=flags["session_policy_arn"],
        source_identity=flags["source_identity"],
        serial_number=flags["mfa_serial"],
        token_code=_mfa_code() if flags["mfa_serial"] else None,
    )


def _mfa_code() -> str:
    """No flag takes it: a command line can be seen by everybody on the host."""
    from engine.errors import UsageError

    given = os.environ.get("S3ENGINE_MFA_CODE")
    if not given and not sys.stdin.isatty():
        raise UsageError("no MFA code", fix="Set S3ENGINE_MFA_CODE, or run it at a terminal")
    return given or str(click.prompt("MFA code", hide_input=True, err=True))


def database_login() -> tuple[str | None, str | None]:
    """User and password of the target: S3ENGINE_DB_USER, S3ENGINE_DB_PASSWORD."""
    return os.environ.get("S3ENGINE_DB_USER"), os.environ.get("S3ENGINE_DB_PASSWORD")
