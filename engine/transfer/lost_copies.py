"""Copies within S3 whose every answer was lost: what came of them.

What lives here: what makes an object or a part ours. What must not: the look (``look.py``), a
second copy (``copy.py``).
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from engine.errors import EngineError
from engine.transfer.context import TransferContext
from engine.transfer.look import look
from engine.transfer.parts import Part
from engine.transfer.resume_upload import Wanted
from engine.types import ObjectInfo, PartReceipt, PutReceipt, S3Url, UploadId

# Stores tell whole seconds.
_WHOLE_SECOND = timedelta(seconds=1)


async def look_for(
    info: ObjectInfo,
    target: S3Url,
    began: float,
    error: EngineError,
    context: TransferContext,
) -> PutReceipt:
    """Did a CopyObject whose answer was lost make what is there? It has the source's bytes, and is
    as new as the copy: an old object of the same bytes lacks what else was asked for.

    Args:
        began: When the copy was first asked for, by the loop's time. By which clock the store tells
            times is known from its answer to the look.

    Raises:
        EngineError: ``error``, where another object is there, or none.
    """
    clock = context.clock

    async def is_ours(found: ObjectInfo) -> bool:
        ago = timedelta(seconds=clock.monotonic() - began)
        earliest = (clock.of_servers() or clock.now()) - ago - _WHOLE_SECOND
        made = found.last_modified
        return made is not None and made >= earliest and same_object(info, found)

    return (await look(target, is_ours, context)).or_raise(error, "copy")


async def look_for_part(
    wanted: Wanted, part: Part, upload_id: UploadId, error: EngineError, context: TransferContext
) -> PartReceipt:
    """Was a part copied whose every answer was lost? No other bytes can have its number.

    Raises:
        EngineError: ``error``, where it is not there, or its checksum is not told.
    """
    ask = partial(context.control.list_parts, wanted.url, upload_id, options=context.options)
    try:
        listed, _ = await context.ask("list parts", wanted.url, ask)
    except EngineError:
        raise error from None
    for one in listed or ():
        if one.number == part.number and one.size == part.length:
            receipt = await wanted.examine(part, one)
            if receipt is not None:
                return receipt
    raise error


def same_object(info: ObjectInfo, found: ObjectInfo) -> bool:
    """Whether two objects have the same bytes, as far as the store tells."""
    ours, theirs = info.checksum, found.checksum
    if ours is not None and theirs is not None and ours.full_object and theirs.full_object:
        return ours == theirs and found.size == info.size
    return found.size == info.size and found.etag == info.etag
