"""Which objects are not to be read as they are.

What must not live here: a request. That an object is archived, S3 says (``ObjectArchived``).
"""

from __future__ import annotations

from engine.errors import ClientEncrypted, ObjectChanged
from engine.options import ObjectOptions
from engine.types import ObjectInfo

# What clients that encrypt leave in the metadata, without x-amz-meta-; the last two are of the
# third format: https://aws.github.io/amazon-s3-encryption-client-java/constant-values.html
_MARKS = ("x-amz-iv", "x-amz-key", "x-amz-key-v2", "x-amz-matdesc", "x-amz-c", "x-amz-3")


def check_readable(info: ObjectInfo, options: ObjectOptions) -> None:
    """Refuse an object whose bytes are not those that are meant.

    Raises:
        ClientEncrypted: A client encrypted it, and ``raw_encrypted`` does not ask for it so.
        ObjectChanged: It is not the one of ``if_match``.
    """
    if options.if_match is not None and options.if_match.strip('"') != info.etag.strip('"'):
        raise ObjectChanged(
            f"{info.url} is another object than {options.if_match}",
            s3_code="PreconditionFailed",
            status=412,
        )
    if options.raw_encrypted or not info.metadata:
        return
    marks = [name for name in _MARKS if name in info.metadata]
    if marks:
        raise ClientEncrypted(
            f"{info.url} was encrypted by a client before it came to S3 "
            f"(its metadata has {', '.join(marks)})",
            fix="Read it with the client that holds its key, or as it is: "
            "--raw-encrypted, ObjectOptions(raw_encrypted=True)",
        )
