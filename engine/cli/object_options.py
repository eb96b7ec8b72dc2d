"""Flags about what objects are stored and read with, and the ObjectOptions that they make.

No flag takes a customer's key, only the file that it is in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import F, option, stack
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.options import CustomerKey, Encryption, ObjectOptions

# 32 bytes, or 44 characters of Base64 and a line's end. What is longer is another file.
_MAX_KEY_FILE = 64

bucket_options = stack("The bucket", (
    option("--expected-bucket-owner", metavar="ACCOUNT",
           help="Refuse a bucket of any other account."),
    option("--request-payer", is_flag=True,
           help="Pay for requests and bytes where the bucket's owner does not."),
))  # fmt: skip
encryption_options = stack("Encryption at rest", (
    option("--sse", metavar="AES256|aws:kms|aws:kms:dsse",
           type=click.Choice(["AES256", "aws:kms", "aws:kms:dsse"]),
           help="By a key that AWS holds. Default: as the bucket says."),
    option("--sse-kms-key-id", metavar="KEY", help="Id, alias or ARN, with --sse aws:kms."),
    option("--sse-kms-context", multiple=True, metavar="KEY=VALUE",
           help="Encryption context of KMS, which CloudTrail logs; repeatable."),
    option("--bucket-key/--no-bucket-key", default=None,
           help="Fewer calls to KMS by a key of the bucket. Default: as the bucket says."),
))  # fmt: skip
_CUSTOMER_KEY_OPTIONS = stack("Encryption at rest", (
    option("--sse-c-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
           help="By the key in this file (SSE-C), to write and to read: 32 bytes, or Base64 of "
           "them. Over https only."),
))  # fmt: skip
_STORED_OPTIONS = stack("What uploads are stored with", (
    option("--storage-class", metavar="CLASS", help="STANDARD_IA, GLACIER_IR, ..."),
    option("--content-type", metavar="TYPE", help="Default: by the file's name."),
    option("--no-guess-mime-type", is_flag=True, help="No type by the file's name."),
    option("--content-encoding", metavar="TEXT"),
    option("--content-language", metavar="TEXT"),
    option("--content-disposition", metavar="TEXT"),
    option("--cache-control", metavar="TEXT"),
    option("--expires", metavar="DATE", help="As HTTP writes it: Thu, 01 Jan 2026 00:00:00 GMT."),
    option("--metadata", multiple=True, metavar="KEY=VALUE", help="User metadata; repeatable."),
    option("--tag", multiple=True, metavar="KEY=VALUE", help="Object tag; repeatable."),
    option("--preserve-mtime", is_flag=True,
           help="Keep a file's time in the metadata (mtime), and set it on download."),
))  # fmt: skip
_CONDITION_OPTIONS = stack("What may be replaced and read", (
    option("--no-overwrite", is_flag=True,
           help="Leave alone what is there already; it counts as skipped."),
    option("--if-none-match", is_flag=True, help="The same, and it counts as failed."),
    option("--if-match", metavar="ETAG", help="Replace only the object with this ETag."),
    option("--version-id", metavar="ID", help="Read this version, of one object."),
    option("--raw-encrypted", is_flag=True,
           help="Fetch objects that a client encrypted as the bytes they are."),
))  # fmt: skip


def object_options(function: F) -> F:
    """All of them, as ``cp`` takes them."""
    for add in (
        bucket_options,
        _CUSTOMER_KEY_OPTIONS,
        encryption_options,
        _CONDITION_OPTIONS,
        _STORED_OPTIONS,
    ):
        function = add(function)
    return function


def options_of_all(flags: Mapping[str, Any]) -> ObjectOptions:
    """What holds for every object of a run, by the flags that the command has.

    Raises:
        UsageError: Values that S3 would refuse, or that exclude each other.
    """
    from engine.options import ObjectOptions

    return ObjectOptions(
        content_type=flags.get("content_type"),
        guess_content_type=not flags.get("no_guess_mime_type", True),
        cache_control=flags.get("cache_control"),
        expires=flags.get("expires"),
        content_disposition=flags.get("content_disposition"),
        content_encoding=flags.get("content_encoding"),
        content_language=flags.get("content_language"),
        storage_class=flags.get("storage_class"),
        metadata=_pairs("metadata", flags.get("metadata", ())),
        tags=_pairs("a tag", flags.get("tag", ())),
        encryption=_encryption(flags),
        customer_key=customer_key_of(flags.get("sse_c_key_file")),
        expected_bucket_owner=flags.get("expected_bucket_owner"),
        requester_pays=flags.get("request_payer", False),
        if_none_match=flags.get("no_overwrite", False) or flags.get("if_none_match", False),
        raw_encrypted=flags.get("raw_encrypted", False),
        preserve_mtime=flags.get("preserve_mtime", False),
    )


def options_of_one(flags: Mapping[str, Any]) -> ObjectOptions:
    """What names a single object: its version, its ETag."""
    from engine.options import ObjectOptions

    return ObjectOptions(if_match=flags["if_match"], version_id=flags["version_id"])


def _encryption(flags: Mapping[str, Any]) -> Encryption | None:
    from engine.options import Encryption

    algorithm = flags.get("sse")
    key_id, context = flags.get("sse_kms_key_id"), flags.get("sse_kms_context", ())
    bucket_key = flags.get("bucket_key")
    if algorithm is None:
        if key_id or context or bucket_key is not None:
            raise UsageError("a KMS key, context or bucket key without --sse", fix="--sse aws:kms")
        return None
    return Encryption(algorithm, key_id, _pairs("an encryption context", context), bucket_key)


def _pairs(what: str, texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise UsageError(f"not {what}: {text!r}", fix="Write it as KEY=VALUE")
        if key in found:
            raise UsageError(f"{what} is given twice: {key!r}")
        found[key] = value
    return found


def customer_key_of(path: Path | None) -> CustomerKey | None:
    """The key in a file. Raises UsageError, which shows nothing of what is in it."""
    from engine.options import CUSTOMER_KEY_BYTES, CustomerKey

    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) == CUSTOMER_KEY_BYTES:
        return CustomerKey(data)
    try:
        return CustomerKey(base64.b64decode(data.strip(), validate=True))
    except (binascii.Error, UsageError):
        raise UsageError(
            f"{path} holds no customer key",
            fix=f"{CUSTOMER_KEY_BYTES} bytes, or Base64 of them: openssl rand -base64 32",
        ) from None
