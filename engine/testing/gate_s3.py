"""S3 as the gate answers it: who may, which fault, which bytes, then moto.

What lives here: the order of the checks and the plain operations. What must not: multipart
uploads (gate_s3_multipart), or writing to the client (gate_answer).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote

from multidict import CIMultiDict

from engine.testing import gate_checksum as checksum
from engine.testing.faults import Fault, FaultPlan
from engine.testing.gate_answer import Answer, drop
from engine.testing.gate_auth import authenticate_s3, refuse_ended_s3
from engine.testing.gate_body import Body, BodyReader, declared_algorithm
from engine.testing.gate_customer_key import CustomerKeys
from engine.testing.gate_errors import AwsError, BareError, s3_document
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_forward import Forwarder, answer_headers
from engine.testing.gate_iam import Accounts
from engine.testing.gate_link import Link
from engine.testing.gate_multipart import SumHabit, Uploads
from engine.testing.gate_parts import PartSums, asked_part

MAX_CHECKSUMS = 1_000_000  # objects whose checksum is remembered
MAX_KEY = 1024  # bytes of UTF-8
_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_ETAG = re.compile(rb"<ETag>(?:&quot;|\")?([^<&\"]*)")
_HEAD_CODES = {304: "NotModified", 403: "AccessDenied", 404: "NotFound", 412: "PreconditionFailed"}


@dataclass(slots=True)
class Store:
    """What the gate knows beyond moto, and its way there.

    Attributes:
        expired_as: Error code for a session that has ended; empty for a bare 400.
        part_sums: Whether a part of a finished object is answered with its own checksum.
        sum_habit: How what was sent in parts is summed.
        uploads_of_a_page: The most that one answer of ListMultipartUploads has.
        refuses_checksums: Error code for a request that speaks of checksums; empty for none.
    """

    accounts: Accounts
    forwarder: Forwarder
    faults: FaultPlan
    link: Link
    now: Callable[[], datetime]
    region: str | None
    uploads: Uploads = field(default_factory=Uploads)
    checksums: dict[tuple[str, str], checksum.StoredChecksum] = field(default_factory=dict)
    customer_keys: CustomerKeys = field(default_factory=CustomerKeys)
    expired_as: str = "ExpiredToken"
    part_sums: PartSums = "composite"
    refuses_checksums: str = ""
    sum_habit: SumHabit = "asked"
    uploads_of_a_page: int = 1_000

    def remember(self, bucket: str, key: str, stored: checksum.StoredChecksum) -> None:
        """Keep the checksum of an object that was just written."""
        if len(self.checksums) >= MAX_CHECKSUMS:
            self.checksums.pop(next(iter(self.checksums)), None)
        self.checksums[bucket, key] = stored

    async def forward(
        self,
        exchange: Exchange,
        body: Body | None = None,
        document: bytes | None = None,
        *,
        target: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Let moto do the work; its answer, whole unless it is an object's bytes.

        Args:
            target: Path and query for moto, where they are not the client's.
            headers: Headers for moto, where they are not the client's.
        """
        request = exchange.request
        await run_call(exchange.fault("call"))
        if body is not None:
            flip = exchange.fault("flip")
            if flip is not None:
                body.flip(flip.at, flip.bit)
            pieces, size = body.pieces(), body.size
        else:
            pieces, size = _once(document or b""), len(document or b"")
        upstream = await self.forwarder.send(
            request.method, target or request.raw_path, headers or request.headers, pieces, size
        )
        kept = answer_headers(upstream.headers)
        length = upstream.headers.get("Content-Length")
        if exchange.action == "GetObject" and upstream.status in (200, 206):
            return Answer(upstream.status, kept, upstream, int(length) if length else None)
        data = await upstream.read()
        stored = exchange.action == "HeadObject" and upstream.status == 200
        if not (data or stored) and kept.get("Content-Type", "").startswith("text/html"):
            del kept["Content-Type"]  # werkzeug's idea; S3 names no type of nothing
        if request.method == "HEAD":
            code = _HEAD_CODES.get(upstream.status, "") if upstream.status >= 300 else ""
            return Answer(upstream.status, kept, b"", int(length or 0), code)
        found = _CODE.search(data) if upstream.status >= 300 else None
        code = found[1].decode() if found else ""
        return Answer(upstream.status, kept, data, error_code=code)


async def run_call(fault: Fault | None) -> None:
    """Run what a ``call`` fault brings, in a thread: it may call the gate back."""
    if fault is not None and fault.call is not None:
        await asyncio.to_thread(fault.call)


async def begin(exchange: Exchange, store: Store) -> None:
    """Everything before the work: name, caller, faults that answer at once, permission.

    Raises:
        AwsError: The request is refused.
        Dropped: A fault closed the connection.
    """
    request = exchange.request
    exchange.name_s3()
    now = store.now()
    exchange.record = authenticate_s3(request, store.accounts, store.region, now)
    exchange.access_key_id = exchange.record.access_key_id
    refuse_ended_s3(exchange.record, now, store.expired_as)
    exchange.faults = store.faults.due(
        exchange.action, exchange.bucket, exchange.key, exchange.part_number
    )
    await early_faults(exchange, store.link)
    _authorise(exchange, store)
    if store.refuses_checksums:
        for name in request.headers:
            if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-mp-")):
                raise AwsError(store.refuses_checksums, f"Unsupported header {name}")
    if len(exchange.key.encode()) > MAX_KEY:
        raise AwsError("KeyTooLongError", "Your key is too long", MaxSizeAllowed=str(MAX_KEY))
    if request.method == "PUT" and "X-Amz-Decoded-Content-Length" not in request.headers:
        if "Transfer-Encoding" in request.headers:
            raise AwsError("NotImplemented", Header="Transfer-Encoding")
        if "Content-Length" not in request.headers:
            raise AwsError("MissingContentLength")


async def early_faults(exchange: Exchange, link: Link) -> None:
    """The faults that come before the work.

    Raises:
        AwsError: The fault is an answer.
        Dropped: The fault closed the connection.
    """
    for delay in exchange.faults:
        if delay.kind == "delay":
            await asyncio.sleep(delay.seconds)
    fault = exchange.fault("drop", "status", "redirect", "expired", "error_in_200")
    if fault is None:
        return
    if fault.kind == "drop":
        reader = BodyReader(exchange.request, link)
        await reader.discard(fault.at)
        exchange.bytes_in = reader.received
        drop(exchange.request)
    if fault.kind == "redirect":
        location = {"Location": fault.location}
        raise AwsError("TemporaryRedirect", "Redirected", status=307, headers=location)
    if fault.kind == "expired":
        raise AwsError("ExpiredToken")
    if fault.kind == "error_in_200":
        raise AwsError(fault.code, status=200)
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    raise AwsError(fault.code, status=fault.status, headers=headers)


def _authorise(exchange: Exchange, store: Store) -> None:
    assert exchange.record is not None
    principal = exchange.record.principal
    if exchange.record.revoked:
        raise AwsError("AccessDenied", "An explicit deny revoked this session")
    headers = exchange.request.headers
    expected = headers.get("X-Amz-Expected-Bucket-Owner")
    owner = store.accounts.owner(exchange.bucket)
    if expected is not None and owner is not None and expected != owner:
        raise AwsError("AccessDenied")
    needs = [(exchange.iam_action, exchange.bucket, exchange.resource)]
    source = headers.get("X-Amz-Copy-Source")
    if source is not None:
        path = unquote(source.partition("?")[0]).removeprefix("/")
        needs.append(("s3:GetObject", path.partition("/")[0], path))
    for action, bucket, resource in needs:
        if not principal.may(action, bucket, resource):
            raise AwsError(
                "AccessDenied",
                f"User: {principal.arn} is not authorized to perform: {action} on resource: "
                f'"arn:aws:s3:::{resource}" because no identity-based policy allows the '
                f"{action} action",
            )


async def plain(exchange: Exchange, store: Store) -> Answer:
    """An operation that is moto's alone."""
    if exchange.request.method not in ("PUT", "POST"):
        return await store.forward(exchange)
    if exchange.action == "DeleteObjects":
        _check_integrity_header(exchange)
    body = await read_body(exchange, store)
    try:
        answer = await store.forward(exchange, body)
    finally:
        body.close()
    if exchange.action == "CreateBucket" and answer.status == 200 and exchange.record:
        store.accounts.set_owner(exchange.bucket, exchange.record.principal.account)
    return answer


async def read_body(
    exchange: Exchange,
    store: Store,
    algorithm: str = checksum.DEFAULT,
    *,
    declared: bool = True,
) -> Body:
    """Read the request's body and note its size.

    Args:
        exchange: The request.
        store: Whose link is used.
        algorithm: What to compute where the request names nothing.
        declared: Whether checksum headers are about this body.
    """
    reader = BodyReader(exchange.request, store.link, exchange.fault("garble"))
    try:
        return await reader.read(algorithm, declared=declared)
    finally:
        exchange.bytes_in = reader.received


async def get_or_head(exchange: Exchange, store: Store) -> Answer:
    """GetObject and HeadObject, with the checksum where it was asked for."""
    assert exchange.record is not None
    stored = store.checksums.get((exchange.bucket, exchange.key))
    part = None if stored is None else asked_part(exchange, stored, store.part_sums)
    if part is None:
        answer = await store.forward(exchange)
    else:
        target, sent = part.forwarded(exchange)
        answer = await store.forward(exchange, target=target, headers=sent)
    may_list = exchange.record.principal.may("s3:ListBucket", exchange.bucket)
    if answer.status == 404 and not may_list:
        # S3 does not tell whether a key exists to those who may not list.
        raise AwsError("AccessDenied")
    headers = exchange.request.headers
    asked = headers.get("X-Amz-Checksum-Mode", "").upper() == "ENABLED"
    whole = answer.status == 200 and "Range" not in headers and "partNumber" not in exchange.params
    if stored is None or stored.etag != answer.headers.get("ETag"):
        return answer
    if part is not None and answer.status in (200, 206):
        part.describe(answer, stored, asked)
    elif asked and whole:
        answer.headers.update(stored.headers)
    return answer


async def put_object(exchange: Exchange, store: Store) -> Answer:
    """PutObject: checksum verified, or computed where the client gave none."""
    body = await read_body(exchange, store)
    try:
        answer = await store.forward(exchange, body)
    finally:
        body.close()
    if answer.status == 200:
        stored = checksum.StoredChecksum(
            body.algorithm,
            body.encoded,
            checksum.FULL_OBJECT,
            answer.headers.get("ETag", ""),
            ((body.size, body.encoded),),
        )
        store.remember(exchange.bucket, exchange.key, stored)
        answer.headers.update(stored.headers)
    return answer


def refusal(exchange: Exchange, error: AwsError) -> Answer:
    """An error as an answer; HEAD has no body to put it in."""
    if isinstance(error, BareError):
        return Answer(error.status, CIMultiDict(error.headers), error_code=error.code)
    resource = exchange.request.raw_path.partition("?")[0]
    data = s3_document(error, resource, exchange.request_id)
    headers = CIMultiDict({"Content-Type": "application/xml", **error.headers})
    if exchange.request.method == "HEAD":
        return Answer(error.status, headers, b"", len(data), error.code)
    return Answer(error.status, headers, data, error_code=error.code)


def etag_in(answer: Answer) -> str:
    """The quoted ETag in the document of a good answer, or empty."""
    data = answer.body if isinstance(answer.body, bytes) else b""
    found = _ETAG.search(data) if answer.status == 200 else None
    return f'"{found[1].decode()}"' if found else ""


def _check_integrity_header(exchange: Exchange) -> None:
    headers = exchange.request.headers
    if "Content-MD5" not in headers and declared_algorithm(headers) is None:
        raise AwsError(
            "InvalidRequest",
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
