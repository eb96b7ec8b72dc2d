"""Flags about copies from S3 to S3, and the second engine that some of them ask for.

What must not live here: what is copied (``commands/cp.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from engine.cli.object_options import customer_key_of
from engine.cli.options import option, stack
from engine.cli.session import Session, engine_of
from engine.errors import UsageError

copy_options = stack("Copies from S3 to S3", (
    option("--through", is_flag=True,
           help="Let the bytes go through this host, where S3 does not copy them itself."),
    option("--no-tags", is_flag=True, help="Leave the source's tags behind."),
    option("--source-role-arn", metavar="ARN",
           help="Another role reads the source; the bytes go through this host."),
    option("--source-external-id", help="With --source-role-arn."),
    option("--source-profile", help="Another profile reads the source; so too."),
    option("--source-endpoint-url", help="The source is at another S3; so too."),
    option("--source-region", help="Of the source, with any of the last four."),
    option("--source-bucket-owner", metavar="ACCOUNT",
           help="Refuse a source bucket of any other account."),
    option("--source-sse-c-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
           help="File of the key that the source is encrypted with (SSE-C)."),
))  # fmt: skip
_OTHERS = ("source_role_arn", "source_profile", "source_endpoint_url")
_ALL = (*_OTHERS, "through", "no_tags", "source_external_id", "source_region",
        "source_bucket_owner", "source_sse_c_key_file")  # fmt: skip
# What is said of the credentials that write, and does not hold for those that read.
_OF_THE_ROLE = {
    "via_role": (),
    "session_tag": (),
    "transitive_tag": (),
    "session_policy": None,
    "session_policy_arn": (),
    "source_identity": None,
    "mfa_serial": None,
    "role_session_name": None,
}


@asynccontextmanager
async def copying(
    session: Session, flags: Mapping[str, Any], *, is_copy: bool
) -> AsyncIterator[dict[str, Any]]:
    """Keywords of ``Engine.run`` about copies; the engine that reads the source is open."""
    from engine.options import ObjectOptions

    if not is_copy:
        yield {}
        return
    options = ObjectOptions(
        expected_bucket_owner=flags["source_bucket_owner"],
        customer_key=customer_key_of(flags["source_sse_c_key_file"]),
        version_id=flags["version_id"],
    )
    keywords: dict[str, Any] = {
        "source_options": options,
        "through": flags["through"],
        "keep_tags": not flags["no_tags"],
    }
    if not any(flags[name] for name in _OTHERS):
        yield keywords
        return
    reader = engine_of(_reading(flags), session.progress)
    reader.share_bandwidth(session.engine)
    async with reader:
        yield {**keywords, "source_engine": reader}


def refuse_copy_flags(flags: Mapping[str, Any]) -> None:
    """Of what is no copy from S3 to S3. Raises UsageError."""
    for name in _ALL:
        if flags[name]:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} is for copies from S3 to S3", fix="Leave it out")


def _reading(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags as they are for the source: its own where they are given."""
    found = {**flags, "sse_c_key_file": None, "expected_bucket_owner": None}
    if flags["source_role_arn"] or flags["source_profile"]:
        found |= _OF_THE_ROLE
        found["role_arn"] = flags["source_role_arn"]
        found["external_id"] = flags["source_external_id"]
        found["profile"] = flags["source_profile"] or flags["profile"]
    found["endpoint_url"] = flags["source_endpoint_url"] or flags["endpoint_url"]
    found["region"] = flags["source_region"] or flags["region"]
    return found
