"""What a copy keeps of its source: metadata, content type and their kin, tags.

What must not live here: how the bytes get there (``copy.py``).
"""

from __future__ import annotations

import dataclasses

from engine.errors import AccessDenied, S3Error
from engine.options import ObjectOptions
from engine.transfer.context import TransferContext
from engine.types import ObjectInfo, S3Url

# Answers of stores that know no tags.
_NO_TAGS = frozenset({"NotImplemented", "MethodNotAllowed", "NoSuchTagSet"})
# Of ObjectOptions; the names of the header fields are the same with a dash.
_METADATA = (
    "content_type",
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "expires",
)


def replaces_metadata(options: ObjectOptions) -> bool:
    """Whether ``options`` name anything that S3 calls metadata: it keeps all of it, or none."""
    return bool(options.metadata) or any(getattr(options, name) for name in _METADATA)


def merged(options: ObjectOptions, info: ObjectInfo, tags: dict[str, str]) -> ObjectOptions:
    """``options``, and from the source what they leave open."""
    found = {name: info.headers.get(name.replace("_", "-")) for name in _METADATA}
    given = {name: getattr(options, name) or value for name, value in found.items()}
    return dataclasses.replace(
        options,
        **given,  # type: ignore[arg-type]  # a mapping of several types
        metadata={**info.metadata, **options.metadata},
        tags={**tags, **options.tags},
    )


async def tags_of(source: S3Url, reading: TransferContext) -> dict[str, str]:
    """The source's tags; none at a store that knows none.

    Raises:
        AccessDenied: They may not be read; how to leave them behind is in the error.
    """
    try:
        tags, _ = await reading.ask(
            "get object tagging",
            source,
            lambda: reading.control.get_tags(source, options=reading.options),
        )
    except AccessDenied as error:
        raise AccessDenied(
            f"the tags of {source} cannot be read",
            s3_code=error.s3_code,
            status=error.status,
            fix="Allow s3:GetObjectTagging, or leave the tags behind: --no-tags, "
            "copy(keep_tags=False)",
        ) from error
    except S3Error as error:
        if error.s3_code in _NO_TAGS or error.status == 501:
            return {}
        raise
    return dict(tags)
