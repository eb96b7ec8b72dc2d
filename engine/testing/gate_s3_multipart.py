"""The multipart operations of S3: moto keeps the bytes, the gate keeps the checksums.

What lives here: the handlers. What must not: the rules of Complete (gate_multipart).
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from multidict import CIMultiDict

from engine.testing import gate_checksum as checksum
from engine.testing.gate_answer import Answer
from engine.testing.gate_body import declared_algorithm
from engine.testing.gate_errors import AwsError
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_multipart import (
    Part,
    Upload,
    complete_document,
    declared_upload,
    read_complete,
)
from engine.testing.gate_s3 import Store, etag_in, read_body

_UPLOAD_ID = re.compile(rb"<UploadId>([^<]*)</UploadId>")
_PART = re.compile(r"<PartNumber>(\d+)</PartNumber>(.*?)</Part>", re.DOTALL)


async def create(exchange: Exchange, store: Store) -> Answer:
    """CreateMultipartUpload."""
    upload = declared_upload(exchange.bucket, exchange.key, exchange.request.headers)
    (await read_body(exchange, store)).close()
    answer = await store.forward(exchange)
    found = _UPLOAD_ID.search(_data(answer))
    if answer.status == 200 and found is not None:
        exchange.new_upload_id = found[1].decode()
        assert exchange.record is not None
        upload.initiated, upload.initiator = store.now(), exchange.record.principal.arn
        store.uploads.add(exchange.new_upload_id, upload)
        answer.headers["x-amz-checksum-algorithm"] = upload.algorithm.upper()
        answer.headers["x-amz-checksum-type"] = upload.kind
    return answer


async def upload_part(exchange: Exchange, store: Store) -> Answer:
    """UploadPart."""
    upload = _upload(exchange, store)
    number = exchange.part_number
    upload.check_part(number, declared_algorithm(exchange.request.headers))
    body = await read_body(exchange, store, upload.algorithm)
    try:
        digest = body.digest_by(upload.algorithm)
        answer = await store.forward(exchange, body)
    finally:
        body.close()
    if answer.status == 200 and number is not None:
        told = (body.algorithm, body.encoded)
        upload.parts[number] = Part(body.size, answer.headers.get("ETag", ""), digest, told)
        answer.headers[checksum.HEADER + body.algorithm] = body.encoded
    return answer


async def complete(exchange: Exchange, store: Store) -> Answer:
    """CompleteMultipartUpload."""
    upload = _upload(exchange, store)
    headers = exchange.request.headers
    # The checksum in the headers is the object's here, not the document's.
    body = await read_body(exchange, store, declared=False)
    try:
        named = read_complete(body.content())
    finally:
        body.close()
    found = upload.complete_by_habit(named, headers, store.sum_habit)
    await _check_if_match(exchange, store)
    answer = await store.forward(exchange, document=complete_document(named))
    etag = etag_in(answer)
    if not etag:
        return answer
    store.uploads.remove(exchange.upload_id)
    stored = replace(found, etag=etag)
    store.remember(exchange.bucket, exchange.key, stored)
    name = f"Checksum{stored.algorithm.upper()}"
    added = (
        f"<{name}>{escape(stored.value)}</{name}><ChecksumType>{stored.kind}</ChecksumType>"
        "</CompleteMultipartUploadResult>"
    )
    answer.body = _data(answer).replace(b"</CompleteMultipartUploadResult>", added.encode())
    return answer


async def _check_if_match(exchange: Exchange, store: Store) -> None:
    """moto knows this condition at PutObject only."""
    wanted = exchange.request.headers.get("If-Match")
    if wanted is None:
        return
    path = exchange.request.raw_path.partition("?")[0]
    head = await store.forwarder.send("HEAD", path, {})
    head.release()
    if head.status == 404:
        raise AwsError("NoSuchKey", "The specified key does not exist.", status=404)
    if head.headers.get("ETag", "").strip('"') != wanted.strip('"'):
        raise AwsError(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            status=412,
            Condition="If-Match",
        )


async def abort(exchange: Exchange, store: Store) -> Answer:
    """AbortMultipartUpload."""
    _upload(exchange, store)
    answer = await store.forward(exchange)
    if answer.status == 204:
        store.uploads.remove(exchange.upload_id)
    return answer


async def list_parts(exchange: Exchange, store: Store) -> Answer:
    """ListParts, with the checksums that moto does not keep."""
    upload = _upload(exchange, store)
    answer = await store.forward(exchange)
    if answer.status != 200:
        return answer
    name = f"Checksum{upload.algorithm.upper()}"

    def with_checksum(match: re.Match[str]) -> str:
        part = upload.parts.get(int(match[1]))
        value = f"<{name}>{checksum.encode(part.digest)}</{name}>" if part else ""
        return f"<PartNumber>{match[1]}</PartNumber>{match[2]}{value}</Part>"

    text = _PART.sub(with_checksum, _data(answer).decode())
    text = text.replace("ListPartsResponse", "ListPartsResult")  # moto's own name for it
    kinds = (
        f"<ChecksumAlgorithm>{upload.algorithm.upper()}</ChecksumAlgorithm>"
        f"<ChecksumType>{upload.kind}</ChecksumType></ListPartsResult>"
    )
    answer.body = text.replace("</ListPartsResult>", kinds).encode()
    return answer


async def list_uploads(exchange: Exchange, store: Store) -> Answer:
    """ListMultipartUploads: moto's has no pages, and knows neither the time nor who it was."""
    if (await store.forward(exchange)).status == 404:
        raise AwsError("NoSuchBucket")
    params = exchange.params
    after, after_id = params.get("key-marker", ""), params.get("upload-id-marker", "")
    rows = store.uploads.of_bucket(exchange.bucket, params.get("prefix", ""))
    if after_id:
        ids = [upload_id for key, upload_id, _ in rows if key == after]
        done = set(ids[: ids.index(after_id) + 1] if after_id in ids else ids)
        rows = [row for row in rows if row[1] not in done and row[0].encode() >= after.encode()]
    elif after:
        rows = [row for row in rows if row[0].encode() > after.encode()]
    most = min(int(params.get("max-uploads", "1000") or 1000), store.uploads_of_a_page)
    encoded = params.get("encoding-type") == "url"

    def text(key: str) -> str:
        return escape(quote_plus(key) if encoded else key)

    page, more = rows[:most], len(rows) > most
    fields = [f"<Bucket>{escape(exchange.bucket)}</Bucket>", f"<MaxUploads>{most}</MaxUploads>"]
    if encoded:
        fields.append("<EncodingType>url</EncodingType>")
    if more:
        fields.append(f"<NextKeyMarker>{text(page[-1][0])}</NextKeyMarker>")
        fields.append(f"<NextUploadIdMarker>{escape(page[-1][1])}</NextUploadIdMarker>")
    fields.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
    for key, upload_id, upload in page:
        who = f"<ID>{escape(upload.initiator)}</ID><DisplayName>etl</DisplayName>"
        assert upload.initiated is not None
        fields.append(
            f"<Upload><Key>{text(key)}</Key><UploadId>{escape(upload_id)}</UploadId>"
            f"<Initiator>{who}</Initiator><Owner><ID>owner</ID></Owner>"
            f"<StorageClass>STANDARD</StorageClass><Initiated>{_instant(upload.initiated)}"
            "</Initiated></Upload>"
        )
    root = "ListMultipartUploadsResult"
    body = f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{"".join(fields)}</{root}>'
    return Answer(200, CIMultiDict({"Content-Type": "application/xml"}), body.encode())


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


def _upload(exchange: Exchange, store: Store) -> Upload:
    return store.uploads.find(exchange.upload_id, exchange.bucket, exchange.key)


def _data(answer: Answer) -> bytes:
    return answer.body if isinstance(answer.body, bytes) else b""
