"""list_objects(), list_uploads(): a prefix page by page, each page repeated until it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial

from engine.errors import S3Error
from engine.transfer.context import TransferContext
from engine.types import ObjectInfo, OpenUpload, S3Url


async def list_objects(prefix: S3Url, context: TransferContext) -> AsyncIterator[ObjectInfo]:
    """Every object whose key starts with the prefix, in S3's order.

    Raises:
        S3Error: As ``list_pages``.
    """
    async for page in list_pages(prefix, context):
        for info in page:
            yield info


async def list_pages(
    prefix: S3Url, context: TransferContext
) -> AsyncIterator[Sequence[ObjectInfo]]:
    """The same by pages, as S3 answers.

    Raises:
        S3Error: A page cannot be had, or the listing does not go on.
    """
    token: str | None = None
    seen, pages, look_again = "", 0, 1  # Brent: a circle of any length is found, in one word
    while True:
        (page, following), _ = await context.retrier.run(
            "list objects",
            prefix,
            partial(context.control.list_page, prefix, token, options=context.options),
        )
        if page:
            yield page
        if following is None:
            return
        if following in (token, seen):
            raise S3Error(
                f"the listing of {prefix} does not go on", s3_code="BadListing", status=200
            )
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
        (page, following), _ = await context.retrier.run(
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
            raise S3Error(
                f"the listing of the open uploads of {prefix} does not go on",
                s3_code="BadListing",
                status=200,
            )
        after = following
