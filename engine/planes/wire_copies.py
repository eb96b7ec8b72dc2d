"""Copies within S3 over our own HTTP client, and the tags that a copy in parts takes along.

What lives here: CopyObject, UploadPartCopy, GetObjectTagging, their requests and answers. What
must not: a second try (``engine.retry``), what is asked for (``copies.py``).

S3 answers a copy with 200 when it begins, sends blanks while it works, and says at the end whether
it could be done. So the answer is read to its end, for up to ten minutes, and an ``<Error>`` in it
is a failure whatever the status was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import final

from engine._wire.documents import Document, read_document
from engine._wire.sigv4 import encode_query
from engine.errors import ProtocolError
from engine.options import ObjectOptions
from engine.planes.answers import checksum_in
from engine.planes.copies import copied_part
from engine.planes.exchange import Answer, Call, Exchanges, naming
from engine.protocols import ChecksumAlgorithm
from engine.types import ByteRange, PartReceipt, PutReceipt, S3Url, UploadId

ReadLate = Callable[[Call, Answer, str], Awaitable[Document]]


@final
class WireCopies:
    """The verbs of copies, on the connections of the control plane they belong to.

    Args:
        read_late: Reads an answer whose error may come behind a 200.
        patience: Seconds for one copy in all.
    """

    def __init__(self, exchanges: Exchanges, read_late: ReadLate, patience: float) -> None:
        self._exchanges = exchanges
        self._read_late = read_late
        self._patience = patience

    async def copy_object(
        self, target: S3Url, asked: Mapping[str, str], algorithm: ChecksumAlgorithm | None
    ) -> PutReceipt:
        """CopyObject. ``asked``: the fields of the request."""
        call = self._exchanges.call("copy object", target, "PUT")
        call.signed = dict(asked)
        if algorithm is not None:
            call.signed["x-amz-checksum-algorithm"] = algorithm.name.upper()
        answer, document = await self._ask(call, "CopyObjectResult")
        return PutReceipt(
            _etag(call, document),
            checksum_in(document.values),
            answer.headers.get("x-amz-version-id"),
        )

    async def upload_part_copy(
        self,
        target: S3Url,
        upload_id: UploadId,
        number: int,
        range: ByteRange,
        asked: Mapping[str, str],
        algorithm: ChecksumAlgorithm | None,
    ) -> PartReceipt:
        """UploadPartCopy. ``asked``: the fields of the request."""
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        call = self._exchanges.call("upload part copy", target, "PUT", query)
        call.signed = dict(asked)
        _, document = await self._ask(call, "CopyPartResult")
        checksum = checksum_in(document.values)
        return copied_part(number, range, _etag(call, document), checksum, algorithm)

    async def get_tags(self, url: S3Url, options: ObjectOptions) -> dict[str, str]:
        """GetObjectTagging."""
        query = [("tagging", "")]
        if options.version_id is not None:
            query.append(("versionId", options.version_id))
        call = self._exchanges.call("get object tagging", url, "GET", encode_query(query))
        call.signed = options.for_bucket()
        answer = await self._exchanges.small(call)
        if not answer.body:
            return {}  # Ceph's word for no tags
        with naming(call):
            document = read_document(answer.body, "Tag", below="TagSet")
            tags = {row.get("Key", ""): row.get("Value", "") for row in document.rows}
            if document.root != "TagSet":
                await self._read_late(call, answer, "Tagging")
                raise ProtocolError("an answer without tags")
            if "" in tags or len(tags) < len(document.rows):
                raise ProtocolError("a tag twice, or one without a name")
        return tags

    async def _ask(self, call: Call, root: str) -> tuple[Answer, Document]:
        call.body = b""
        answer = await self._exchanges.small(call, patience=self._patience)
        return answer, await self._read_late(call, answer, root)


def _etag(call: Call, document: Document) -> str:
    etag = document.values.get("ETag", "")
    with naming(call):
        if not etag.strip('"'):
            raise ProtocolError("an answer without an ETag")
        return etag
