"""list_objects(), list_uploads(): a prefix page by page, each page repeated until it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from engine.errors import BadListing
from engine.limits import lists_in_order
from engine.transfer.context import TransferContext
from engine.types import ObjectInfo, OpenUpload, S3Url

# Pages without a key, one after the other, each with another token: a store that steps over many
# deleted versions may send some, and one that never ends looks the same.
MAX_EMPTY_PAGES = 10_000


async def list_objects(prefix: S3Url, context: TransferContext) -> AsyncIterator[ObjectInfo]:
    """Every object whose key starts with the prefix, in S3's order.

    Raises:
        TransferError: As ``list_pages``.
    """
    async for page in list_pages(prefix, context):
        for info in page:
            yield info


async def list_pages(
    prefix: S3Url, context: TransferContext
) -> AsyncIterator[Sequence[ObjectInfo]]:
    """The same by pages, as S3 answers.

    Raises:
        TransferError: A page cannot be had.
        BadListing: The listing does not go on: a token or a key comes again, or none at all.
    """
    token: str | None = None
    seen, pages, look_again = "", 0, 1  # Brent: a circle of any length is found, in one word
    last, empty, ordered = "", 0, lists_in_order(prefix.bucket)
    while True:
        (page, following), _ = await context.ask(
            "list objects",
            prefix,
            partial(context.control.list_page, prefix, token, options=context.options),
        )
        empty = 0 if page else empty + 1
        if page:
            # Tokens may be new each time and the keys the same.
            if ordered and page[0].url.key <= last:
                raise BadListing(f"the listing of {prefix} goes back to earlier keys")
            last = page[-1].url.key
            yield page
        if following is None:
            return
        if following in (token, seen) or empty > MAX_EMPTY_PAGES:
            raise BadListing(f"the listing of {prefix} does not go on")
        pages += 1
        if pages == look_again:
            seen, pages, look_again = following, 0, 2 * look_again
        token = following


async def list_uploads(prefix: S3Url, context: TransferContext) -> AsyncGenerator[OpenUpload, None]:
    """Every open upload to a key that starts with the prefix.

    Raises:
        TransferError: A page cannot be had, or the listing does not go on.
    """
    after: tuple[str, str] | None = None
    while True:
        (page, following), _ = await context.ask(
            "list multipart uploads",
            prefix,
            partial(context.control.list_uploads, prefix, after, options=context.options),
        )
        for found in page:
            yield found
        if following is None:
            return
        # S3 lists by key: a page that goes back is the beginning of a circle.
        if after is not None and following[0].encode() < after[0].encode():
            raise BadListing(f"the listing of the open uploads of {prefix} does not go on")
        after = following
