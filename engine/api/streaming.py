"""The verbs of Engine that have no file at their end: streams in, copies within S3.

What lives here: what each takes and promises. What must not: how it works (``engine.transfer``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from msgspec import structs

from engine.api.opened import OpenEngine
from engine.errors import UsageError
from engine.options import ObjectOptions
from engine.transfer import (
    CopyRules,
    ObjectWriter,
    StreamSource,
    copy,
    open_write,
    upload_stream,
)
from engine.types import S3Url, TransferResult


class StreamingVerbs:
    """A part of ``Engine``."""

    @abstractmethod
    def _ready(self) -> OpenEngine: ...

    async def upload_stream(
        self,
        source: StreamSource,
        url: S3Url | str,
        *,
        expected_size: int | None = None,
        options: ObjectOptions | None = None,
    ) -> TransferResult:
        """All that a stream gives, to one object. How much that is need not be known.

        Args:
            source: An async iterable of bytes (of any sizes), an async file, or a file object
                opened in binary mode, which is read in a thread.
            expected_size: Bytes that will come, if it is known about. Without it parts grow
                with the stream, as far as ``max_memory`` allows; 256 MiB do for half a TiB.

        Raises:
            UsageError: ``source`` gives no bytes, or ``expected_size`` cannot be sent.
            TransferError: The object was not written; what was there before is unchanged.
            CredentialsError: No usable credentials.
            Exception: Whatever ``source`` raises; nothing stays at S3 then.
        """
        context = self._ready().writing(options)
        return await upload_stream(source, object_url(url), context, expected_size=expected_size)

    @asynccontextmanager
    async def open_write(
        self,
        url: S3Url | str,
        *,
        expected_size: int | None = None,
        options: ObjectOptions | None = None,
    ) -> AsyncIterator[ObjectWriter]:
        """An object to be written: ``await writer.write(data)``, data of any sizes.

        The object is there, and ``writer.result`` with it, when the block has ended. If the block
        ends by an error or is cancelled, there is none, and no part of it.

        Raises:
            TransferError: At a write or at the end of the block: the object was not written.
            CredentialsError: No usable credentials.
        """
        context = self._ready().writing(options)
        async with open_write(object_url(url), context, expected_size=expected_size) as writer:
            yield writer

    async def copy(
        self,
        source: S3Url | str,
        target: S3Url | str,
        *,
        options: ObjectOptions | None = None,
        source_options: ObjectOptions | None = None,
        source_engine: StreamingVerbs | None = None,
        through: bool = False,
        keep_tags: bool = True,
    ) -> TransferResult:
        """One object to another place in S3. S3 copies it; the bytes do not come by.

        The copy has the source's metadata, content type and tags, and what ``options`` names
        instead. The storage class and the encryption are those of ``options``, else the bucket's.

        Args:
            source_options: What S3 wants to hear of the source: version, owner, customer's key
                (the engine's own key is taken for the target only).
            source_engine: An open engine whose credentials read the source, where these may only
                write the target. The bytes then go through this process.
            through: Let them go through with these credentials: for a store that does not copy.
            keep_tags: Without it s3:GetObjectTagging is not needed.

        Raises:
            AccessDenied: These credentials may not read the source, or not write the target.
            ObjectChanged: The source was overwritten meanwhile.
            TransferError: The target was not written; what was there before is unchanged.
            ChecksumMismatch: The copy is not the source.
        """
        rules = copy_rules(
            self._ready(),
            source_options=source_options,
            source_engine=source_engine,
            through=through,
            keep_tags=keep_tags,
        )
        context = structs.replace(self._ready().writing(options), copies=rules)
        return await copy(object_url(source), object_url(target), context)


def copy_rules(
    engine: OpenEngine,
    *,
    source_options: ObjectOptions | None,
    source_engine: StreamingVerbs | None,
    through: bool,
    keep_tags: bool,
) -> CopyRules:
    """How ``engine`` copies, as the keywords of its verbs say it."""
    if source_engine is None:
        options = engine.working(source_options).options
        key = source_options.customer_key if source_options is not None else None
        options = replace(options, customer_key=key)  # the engine's own is the target's
        return CopyRules(through=through, keep_tags=keep_tags, source_options=options)
    reading = source_engine._ready().working(source_options)
    return CopyRules(keep_tags=keep_tags, source_options=reading.options, source=reading)


def object_url(url: S3Url | str) -> S3Url:
    """The URL of one object. Raises UsageError where it names a bucket."""
    parsed = S3Url.parse(url)
    if not parsed.key:
        raise UsageError(f"{parsed} names a bucket, not an object", fix="Add the key")
    return parsed
