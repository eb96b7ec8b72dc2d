"""CopyObject and UploadPartCopy: moto copies the bytes, the gate knows their checksums.

What lives here: what the source must be, and the checksum of bytes that never came by.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from engine.testing import gate_checksum as checksum
from engine.testing.gate_answer import Answer
from engine.testing.gate_errors import AwsError
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_multipart import Part
from engine.testing.gate_s3 import Store, etag_in, read_body


async def copy_object(exchange: Exchange, store: Store) -> Answer:
    """CopyObject: a checksum of the whole source is also one of the copy; another algorithm, or
    a source without one, has its bytes read."""
    (await read_body(exchange, store)).close()
    await _check_source(exchange, store)
    await _check_target(exchange, store)
    answer = await store.forward(exchange)
    etag = etag_in(answer)
    if not etag:
        return answer
    headers = exchange.request.headers
    known = store.checksums.get(_place(headers))
    asked = headers.get("X-Amz-Checksum-Algorithm", "").lower()
    if known is None or known.kind != checksum.FULL_OBJECT or asked not in ("", known.algorithm):
        algorithm = asked or (known.algorithm if known else checksum.DEFAULT)
        digest, _ = await _digest(headers, store, algorithm)
        known = checksum.StoredChecksum(
            algorithm, checksum.encode(digest), checksum.FULL_OBJECT, etag
        )
    copied = checksum.StoredChecksum(known.algorithm, known.value, known.kind, etag)
    store.remember(exchange.bucket, exchange.key, copied)
    added = _element(copied.algorithm, copied.value)
    return _with(answer, "CopyObjectResult", f"{added}<ChecksumType>{copied.kind}</ChecksumType>")


async def copy_part(exchange: Exchange, store: Store) -> Answer:
    """UploadPartCopy."""
    upload = store.uploads.find(exchange.upload_id, exchange.bucket, exchange.key)
    number = exchange.part_number
    upload.check_part(number, upload.declared)
    (await read_body(exchange, store)).close()
    await _check_source(exchange, store)
    answer = await store.forward(exchange)
    etag = etag_in(answer)
    if not etag or number is None:
        return answer
    digest, size = await _digest(exchange.request.headers, store, upload.algorithm)
    told = (upload.algorithm, checksum.encode(digest))
    upload.parts[number] = Part(size, etag, digest, told)
    return _with(answer, "CopyPartResult", _element(*told))


def _place(headers: Mapping[str, str]) -> tuple[str, str]:
    source = unquote(headers["X-Amz-Copy-Source"].partition("?")[0]).removeprefix("/")
    bucket, _, key = source.partition("/")
    return bucket, key


def _raw_target(headers: Mapping[str, str]) -> str:
    return "/" + headers["X-Amz-Copy-Source"].removeprefix("/")


async def _check_source(exchange: Exchange, store: Store) -> None:
    """Who owns it, and whether it is the version that was meant.

    Raises:
        AwsError: AccessDenied or PreconditionFailed.
    """
    headers = exchange.request.headers
    expected = headers.get("X-Amz-Source-Expected-Bucket-Owner")
    owner = store.accounts.owner(_place(headers)[0])
    if expected is not None and owner is not None and expected != owner:
        raise AwsError("AccessDenied")
    wanted = headers.get("X-Amz-Copy-Source-If-Match")
    if wanted is None:
        return
    found = await store.forwarder.send("HEAD", _raw_target(headers), {})
    found.release()
    etag = found.headers.get("ETag", "")
    if found.status == 200 and etag.strip('"') != wanted.strip('"'):
        raise AwsError("PreconditionFailed", Condition="x-amz-copy-source-If-Match")


async def _check_target(exchange: Exchange, store: Store) -> None:
    """The conditions on what is there, which moto knows of other writes only.

    Raises:
        AwsError: PreconditionFailed or NoSuchKey.
    """
    headers = exchange.request.headers
    if "If-None-Match" not in headers and "If-Match" not in headers:
        return
    found = await store.forwarder.send("HEAD", exchange.request.raw_path, {})
    found.release()
    if "If-None-Match" in headers and found.status == 200:
        raise AwsError("PreconditionFailed", Condition="If-None-Match")
    wanted = headers.get("If-Match")
    if wanted is None:
        return
    if found.status != 200:
        raise AwsError("NoSuchKey")
    if found.headers.get("ETag", "").strip('"') != wanted.strip('"'):
        raise AwsError("PreconditionFailed", Condition="If-Match")


async def _digest(headers: Mapping[str, str], store: Store, algorithm: str) -> tuple[bytes, int]:
    """The digest and the length of what was copied: the bytes never came by."""
    part = headers.get("X-Amz-Copy-Source-Range")
    upstream = await store.forwarder.send(
        "GET", _raw_target(headers), {"Range": part} if part is not None else {}
    )
    digest, size = checksum.new_digest(algorithm), 0
    async for data in upstream.content.iter_any():
        digest.update(data)
        size += len(data)
    return digest.digest(), size


def _element(algorithm: str, value: str) -> str:
    name = f"Checksum{algorithm.upper()}"
    return f"<{name}>{value}</{name}>"


def _with(answer: Answer, root: str, added: str) -> Answer:
    data = answer.body if isinstance(answer.body, bytes) else b""
    answer.body = data.replace(f"</{root}>".encode(), f"{added}</{root}>".encode())
    return answer
