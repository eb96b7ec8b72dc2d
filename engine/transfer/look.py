"""One look at what is there after a write whose answer was lost, and one answer: whose it is.

Rules of this file
- What is there is ours, another's, nothing, or it cannot be told. A look raises nothing of its own.
- AccessDenied means that it cannot be told. S3 says so of an object that may not be read, and of a
  key that has none where the role may not list the bucket: neither "nothing" nor "something".
- A look takes no slot: who looks has a few seconds, not those of all that wait for one.

What lives here: looking. What must not: what makes an object ours, which whoever wrote it knows.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec import Struct

from engine.errors import (
    AccessDenied,
    ConnectionFailed,
    EngineError,
    NotConnected,
    NotFound,
    ProtocolError,
    S3Error,
)
from engine.transfer.checksums import NONE
from engine.transfer.context import TransferContext
from engine.types import ObjectInfo, PutReceipt, S3Url

IsOurs = Callable[[ObjectInfo], Awaitable[bool]]
"""Whether the object that is there is the one that was written."""


class Answer(enum.Enum):
    """Whose object is there."""

    OURS = "ours"
    ANOTHERS = "another's"
    NONE = "none"
    UNTOLD = "cannot be told"


class Seen(Struct, frozen=True):
    """What came of a look.

    Attributes:
        info: Of what is there, ours or another's.
        why: What S3 said where there is nothing; what came in the way where it cannot be told.
    """

    url: S3Url
    answer: Answer
    info: ObjectInfo | None = None
    why: EngineError | None = None

    @property
    def receipt(self) -> PutReceipt | None:
        """That of our object; None where it cannot be told, or is not there."""
        if self.answer is not Answer.OURS or self.info is None:
            return None
        return PutReceipt(self.info.etag, self.info.checksum, self.info.version_id)

    def unless_failed(self) -> Seen:
        """This, for who can go on without knowing where the role may not look.

        Raises:
            TransferError, CredentialsError: S3 could not be asked for another reason.
        """
        if self.answer is Answer.UNTOLD and self.why and not isinstance(self.why, AccessDenied):
            raise self.why
        return self

    def or_raise(self, error: EngineError, what: str) -> PutReceipt:
        """The receipt of ``what`` was written, an upload or a copy, where it is there.

        Raises:
            EngineError: ``error``, the last that was heard of it, and a note of what was seen.
        """
        receipt = self.receipt
        if receipt is not None:
            return receipt
        if self.answer is Answer.NONE:
            error.add_note(f"{self.url} was not there when it was looked for")
        elif self.answer is Answer.ANOTHERS:
            error.add_note(f"another object than the {what} is at {self.url}")
        else:
            unknown = f"whether {self.url} was written is unknown: it could not be looked at"
            error.add_note(f"{unknown}; {self.why.headline}" if self.why else unknown)
        raise error


async def look(url: S3Url, is_ours: IsOurs, context: TransferContext) -> Seen:
    """Look at ``url``, again where the network or S3 fails, as often as at anything."""
    ask = partial(
        context.control.head_object,
        url,
        options=context.options,
        checksum=context.config.checksum != NONE,
    )
    try:
        info, _ = await context.ask("head object", url, ask)
    except NotFound as error:
        return Seen(url, Answer.NONE, why=error)
    except EngineError as error:
        return Seen(url, Answer.UNTOLD, why=error)
    return Seen(url, Answer.OURS if await is_ours(info) else Answer.ANOTHERS, info)


def may_have_worked(error: EngineError) -> bool:
    """Whether the request may have been carried out, though its answer says or is nothing."""
    if isinstance(error, S3Error):
        return error.status >= 500 and error.s3_code not in ("SlowDown", "ServiceUnavailable")
    if isinstance(error, NotConnected):
        return False
    return isinstance(error, ConnectionFailed | ProtocolError)
