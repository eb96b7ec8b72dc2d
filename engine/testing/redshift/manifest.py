"""The manifest of COPY, and how Redshift words what goes wrong on the way to S3.

What lives here: JSON to entries, S3 failures to Redshift errors. What must not: HTTP (``s3.py``).
Sources of the texts: public issue reports, named in the design notes of the double; the marked
ones are the double's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from engine.errors import UsageError
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.s3 import S3Failure
from engine.testing.redshift.statements import OWN_WORDING
from engine.types import S3Url

INTERNAL_ERROR = "XX000"
_S3_CODE = 8001


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A file to load. ``content_length`` is what the manifest says of its size in bytes."""

    url: S3Url
    mandatory: bool
    content_length: int | None


def parse_manifest(raw: bytes) -> list[ManifestEntry]:
    """The entries in order, duplicates kept: a url that is listed twice is loaded twice.

    Raises:
        ServerError: It is not a manifest, or it names no file.
    """
    try:
        document = json.loads(raw.decode())
        entries = [_entry(entry) for entry in document["entries"]]
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise ServerError(f"the manifest cannot be read: {error!r} {OWN_WORDING}") from None
    if not entries:
        raise ServerError(f"the manifest names no file {OWN_WORDING}")
    return entries


def _entry(entry: dict[str, object]) -> ManifestEntry:
    meta = entry.get("meta")
    length = meta.get("content_length") if isinstance(meta, dict) else None
    if length is not None and not isinstance(length, int):
        raise ValueError(f"content_length {length!r} is not a number")
    return ManifestEntry(S3Url.parse(str(entry["url"])), entry.get("mandatory") is True, length)


def missing_mandatory(query: int, entry: ManifestEntry) -> ServerError:
    """A mandatory file is not in S3."""
    return _error(query, "Mandatory url is not present in manifest file.", str(entry.url))


def wrong_length(query: int, entry: ManifestEntry) -> ServerError:
    """``content_length`` is not the size of the object."""
    text = "HTTP response error code: 416 Message: InvalidRange"
    return _error(query, text, str(entry.url))


def manifest_failure(query: int, url: S3Url, failure: S3Failure) -> ServerError:
    """The manifest could not be read."""
    if failure.code == "AccessDenied":
        # Redshift lists the prefix first and then takes the name for one: it never says that
        # permission is missing.
        text = "COPY with MANIFEST parameter requires full path of an S3 object."
        return _error(query, text, str(url))
    return _error(query, f"Problem reading manifest file - {failure.redshift_text}", str(url))


def s3_failure(query: int, url: S3Url, failure: S3Failure) -> ServerError:
    """A file could not be read."""
    return _error(query, failure.redshift_text, f"s3://{url.bucket}/{url.key}")


def role_failure(query: int, role: str, user: str) -> ServerError:
    """The role may not be assumed."""
    arn = f"arn:aws:redshift:us-east-1:111122223333:dbuser:double/{user}"
    text = f"User {arn} is not authorized to assume IAM Role {role}"
    return _error(query, text, f"IAM Role={role}")


def load_failed(table: str) -> ServerError:
    """Rows were refused."""
    return ServerError(
        f"Load into table '{table}' failed.  Check 'stl_load_errors' system table for details.",
        INTERNAL_ERROR,
    )


def _error(query: int, text: str, context: str) -> ServerError:
    rule = "-----------------------------------------------"
    detail = (
        f"\n  {rule}\n  error:  {text}\n  code:      {_S3_CODE}\n  context:   {context}\n"
        f"  query:     {query}\n  location:  redshift_double.py:1\n"
        f"  process:   padbmaster [pid=1]\n  {rule}\n"
    )
    return ServerError(text, INTERNAL_ERROR, detail)
