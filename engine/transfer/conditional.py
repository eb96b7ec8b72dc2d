"""Conditional writes: what a refusal means, and whether it was our own write that is in the way.

Rules of this file
- A refused condition is final, and named: ``ObjectExists``, ``ObjectChanged``.
- If the answer to an earlier try was lost, that try may have written the object, and the condition
  then fails because of it. HEAD says whose bytes are there: ours are a success.
- A conflict (409) is no refusal. PutObject is made again; CompleteMultipartUpload cannot be: all
  parts have to be sent anew (``UploadAgain``).

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from hashlib import md5
from typing import TypeVar, final

from engine.errors import (
    EngineError,
    ObjectChanged,
    ObjectExists,
    S3Error,
    TransferError,
)
from engine.options import ObjectOptions
from engine.protocols import ByteSource
from engine.transfer.checksums import CHECKSUMS
from engine.transfer.context import TransferContext
from engine.transfer.look import Answer, IsOurs, Seen, look, may_have_worked
from engine.types import Checksum, MiB, ObjectInfo, PutReceipt, S3Url

R = TypeVar("R")

# Uploads begun anew because another writer was at work on the same key. Each sends all parts.
MAX_UPLOADS = 3
CONFLICT = "ConditionalRequestConflict"
_BLOCK = MiB


class UploadAgain(Exception):
    """Complete met another writer: the upload is over, and may be made again."""

    def __init__(self, error: S3Error) -> None:
        super().__init__(error)
        self.error = error


async def upload_until_no_conflict(upload: Callable[[int], Awaitable[R]]) -> R:
    """``upload(number)``, made again while Complete meets another writer.

    Raises:
        S3Error: ConditionalRequestConflict, ``MAX_UPLOADS`` times.
    """
    for number in range(1, MAX_UPLOADS + 1):
        try:
            return await upload(number)
        except UploadAgain as again:
            if number == MAX_UPLOADS:
                raise again.error from None
    raise AssertionError("the last upload returns or raises")


@final
class ConditionalWrite:
    """One write, over all its tries. Without a condition it is any write, and only counted.

    Args:
        is_ours: Whether the object that is there now has the bytes that were sent.
        in_parts: The write is a Complete.

    Attributes:
        failures: Tries that failed.
    """

    def __init__(
        self, url: S3Url, context: TransferContext, is_ours: IsOurs, *, in_parts: bool = False
    ) -> None:
        self.failures = 0
        self._in_parts = in_parts
        self._url = url
        self._context = context
        self._is_ours = is_ours
        self._answer_lost = False

    def failed(self, error: EngineError) -> None:
        """To be told after each try that fails.

        Raises:
            UploadAgain: Complete met another writer.
        """
        self.failures += 1
        if may_have_worked(error):
            self._answer_lost = True
        elif isinstance(error, S3Error) and error.s3_code == CONFLICT:
            if self._in_parts and self._context.options.conditional:
                raise UploadAgain(error) from None

    async def look(self) -> Seen:
        """Whose object is there now."""
        return await look(self._url, self._is_ours, self._context)

    async def settle(self, error: EngineError) -> PutReceipt:
        """What came of the write, after its last try failed with ``error``.

        Raises:
            ObjectExists, ObjectChanged: The condition does not hold, and not by our own doing.
            EngineError: ``error``, where it is about something else; or the look failed.
        """
        options = self._context.options
        if not (options.conditional and isinstance(error, S3Error) and _is_refusal(error, options)):
            raise error
        refused = _named(error, self._url, options)
        if self._answer_lost:
            seen = (await self.look()).unless_failed()
            if seen.receipt is not None:
                return seen.receipt
            if seen.answer is Answer.UNTOLD:
                refused.add_note(
                    "the answer to an earlier try was lost; whether that one wrote the object "
                    "cannot be told without s3:GetObject"
                )
        raise refused from error


def _is_refusal(error: S3Error, options: ObjectOptions) -> bool:
    """Whether ``error`` says that the condition of a write does not hold."""
    gone = options.if_match is not None and error.s3_code == "NoSuchKey"
    return gone or error.status == 412 or error.s3_code == "PreconditionFailed"


def _named(error: S3Error, url: S3Url, options: ObjectOptions) -> TransferError:
    """A refused condition by its name."""
    if options.if_none_match:
        return ObjectExists(
            f"{url} exists and was not to be replaced",
            fix="Delete it first, or write without if_none_match (--no-overwrite, --if-none-match)",
            code=error.s3_code,
            status=error.status,
        )
    found = "does not exist" if error.s3_code == "NoSuchKey" else "is another object by now"
    return ObjectChanged(
        f"{url} was to be replaced only as {options.if_match}, and {found}",
        s3_code=error.s3_code,
        status=error.status,
        fix="Look at what is there, and write with its ETag",
    )


def same_bytes(source: ByteSource, info: ObjectInfo) -> bool:
    """Whether the stored object has the bytes of the source. Reads all of it, in a thread.

    By the checksum that S3 keeps; where it keeps none by the ETag, which is an MD5 of an object
    that is not encrypted with KMS or a customer's key. Where it is none, nothing is alike.
    """
    if info.size != source.size:
        return False
    stored = info.checksum
    if stored is not None and stored.full_object and stored.algorithm in CHECKSUMS:
        algorithm = CHECKSUMS.get(stored.algorithm)()
        crc = 0
        for piece in _pieces(source):
            crc = algorithm.update(piece, crc)
        return Checksum(algorithm.name, algorithm.encode(crc)) == stored
    digest = md5(usedforsecurity=False)
    for piece in _pieces(source):
        digest.update(piece)
    return digest.hexdigest() == info.etag.strip('"')


def _pieces(source: ByteSource) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(_BLOCK, source.size)))
    for offset in range(0, source.size, _BLOCK):
        piece = buffer[: min(_BLOCK, source.size - offset)]
        source.read_into(offset, piece)
        yield piece
