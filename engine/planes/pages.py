"""Pages of listings: whether a page is one, and how the next one is asked for. PURE.

What lives here: the checks that both planes share. What must not: rows as our values
(``wire_control``, ``uploads``), whether a listing goes on from page to page
(``transfer.listing``).

A page that is none must not pass for an empty one, nor a part of a listing for the whole: what is
not listed is not copied, and nobody would hear of it.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import lt
from urllib.parse import unquote_plus

from engine.errors import BadListing
from engine.limits import lists_in_order
from engine.types import S3Url

# An access point answers by its own name or by its bucket's.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
_ALIASES = ("-s3alias", "--ol-s3", "-s3files")


def is_truncated(what: str, values: Mapping[str, str]) -> bool:
    """Whether more pages follow.

    Raises:
        BadListing: The page does not say.
    """
    said = values.get("IsTruncated", "").strip()
    if said not in ("true", "false"):
        raise BadListing(f"{what} does not say whether it is whole")
    return said == "true"


def check_bucket(prefix: S3Url, said: str | None) -> None:
    """Whether a page is of the bucket that was asked for.

    Raises:
        BadListing: Of another one, or of none.
    """
    if said and (said == prefix.bucket or prefix.bucket.endswith(_ALIASES)):
        return
    of = f"one of {said[:80]!r}" if said else "one of no bucket"
    raise BadListing(f"asked for a listing of {prefix}, got {of}")


def check_count(prefix: S3Url, said: str | None, found: int) -> None:
    """Whether a page has as many keys as it says, where it says.

    Raises:
        BadListing: It has not.
    """
    if said is not None and said.strip() != str(found):
        raise BadListing(
            f"a page of the listing of {prefix} says {said[:20]!r} keys and has {found}"
        )


def plain_keys(prefix: S3Url, keys: Sequence[str]) -> Sequence[str]:
    """Keys that were sent with ``encoding-type=url``, as they are.

    Raises:
        BadListing: One of them is not UTF-8: what it would become is another key.
    """
    try:
        return [
            unquote_plus(key, errors="strict") if "%" in key or "+" in key else key for key in keys
        ]
    except UnicodeDecodeError:
        raise BadListing(f"the listing of {prefix} has a key that is not UTF-8") from None


def check_keys(prefix: S3Url, keys: Sequence[str]) -> None:
    """Whether each key is below the prefix, and comes once and in its place.

    Raises:
        BadListing: One is not, or has no name.
    """
    if not keys:
        return
    ordered = lists_in_order(prefix.bucket)
    if ordered and not all(map(lt, keys, keys[1:])):
        at = next(n for n in range(1, len(keys)) if keys[n - 1] >= keys[n])
        how = "twice" if keys[at - 1] == keys[at] else "out of order"
        raise BadListing(f"the listing of {prefix} has {keys[at][:200]!r} {how}")
    if not ordered and len(set(keys)) < len(keys):
        raise BadListing(f"the listing of {prefix} has a key twice")
    # What is between two keys with a prefix has it too.
    for key in (keys[0], keys[-1]) if ordered else keys:
        if not key or not key.startswith(prefix.key):
            raise BadListing(f"asked for the keys of {prefix}, got {key[:200]!r}")


def next_token(prefix: S3Url, values: Mapping[str, str]) -> str | None:
    """How the next page is asked for; None behind the last.

    Raises:
        BadListing: There is one, and no way to it.
    """
    if not is_truncated(f"the listing of {prefix}", values):
        return None
    following = values.get("NextContinuationToken")
    if not following:
        raise BadListing(f"the listing of {prefix} does not say how to go on")
    return following


def next_part(what: str, values: Mapping[str, str], numbers: Sequence[int], marker: int) -> int:
    """The number that the next page of parts begins behind; 0 behind the last page.

    Args:
        numbers: Of the parts on the page.
        marker: What the page was to begin behind.

    Raises:
        BadListing: Parts twice or out of order, or a listing that does not go on.
    """
    if not all(map(lt, (marker, *numbers), numbers)):
        raise BadListing(f"{what} has a part twice, or out of order")
    if not is_truncated(what, values):
        return 0
    said = values.get("NextPartNumberMarker", "").strip()
    following = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0
    if following < max((marker + 1, *numbers)):
        raise BadListing(f"{what} does not go on")
    return following
