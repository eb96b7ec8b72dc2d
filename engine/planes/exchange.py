"""Signed requests to S3 over our own HTTP client: what all verbs of the wire share.

What lives here: a call before it is signed, its head, what a refusal means, small answers. What
must not: a verb (``wire.py``, ``wire_control.py``), a second try (``engine.retry``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, NoReturn, final
from urllib.parse import urlsplit

import anyio

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Target, locate
from engine._wire.heads import HeadTemplate
from engine._wire.http11 import build_request
from engine._wire.pool import MAX_CONNECTIONS, MAX_SMALL_BODY, ConnectionPool, Response
from engine._wire.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_query
from engine.config import Endpoints
from engine.errors import (
    AnswerTooSlow,
    ConnectionFailed,
    EngineError,
    ObjectChanged,
    ProtocolError,
    S3Error,
)
from engine.events import Emit, silent
from engine.options import ObjectOptions
from engine.pace import Pace
from engine.planes.answers import date_of, refusal
from engine.planes.errors import advise_on_checksums
from engine.planes.expectations import Expectations
from engine.planes.lease_rules import judge
from engine.planes.regions import WRONG_REGION, BucketRegions
from engine.protocols import Clock, Lease
from engine.threads import ThreadDoor
from engine.types import Credentials, S3Url

# Asks for the checksum that is stored. Left out where nobody compares it: some stores refuse it.
CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}
# Seconds for the whole body of a small answer: 8 MiB at 70 KB/s.
SMALL_ANSWER = 120.0
# Seconds for the document behind an error's head, which come together; the status alone says enough
# to go on.
ERROR_BODY = 3.0
# Credentials that were asked for so long ago are as good as new ones: a set is given out only while
# it is far from its end. Seconds.
_STILL_READY = 0.05
_LONG_AGO = float("-inf")
# A verb, a bucket and the options of a run are one kind of request; few runs have more than two.
_MAX_TEMPLATES = 32


@dataclass(slots=True)
class Call:
    """One request before it is signed, and the credentials it was last signed with.

    Attributes:
        operation: In words, for messages (``upload part``).
        query: From ``encode_query``.
        signed: Headers that the signature covers.
        plain: Headers that it does not.
        body: Of a control verb; the bytes of objects are not kept in a call.
        kept: Sign by a template that is kept for the next request with the same headers.
        varying: Name and value of one more signed header, which differs from call to call.
        request_id: S3's, of the last answer that was no refusal, for errors about it.
    """

    operation: str
    url: S3Url
    method: str
    target: Target
    query: str = ""
    signed: dict[str, str] = field(default_factory=dict, repr=False)  # a customer's key, too
    plain: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    kept: bool = False
    varying: tuple[str, str] = ("", "")
    credentials: Credentials | None = None
    request_id: str = ""
    ready_at: float = _LONG_AGO
    sent_at: float = _LONG_AGO


class Answer(NamedTuple):
    """A small answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@final
class Exchanges:
    """Requests of one engine to S3: one pool of connections, one lease, one signer.

    Args:
        endpoints: Where S3 is, its CA bundle, and the timeouts.
        lease: Asked before every request; told what S3 says of its credentials.
        max_connections: Requests under way at once.
        user_agent: The User-Agent header.
        emit: Told of buckets in other regions.
        pace: The limit of bandwidth; None for none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        threads: ThreadDoor,
        max_connections: int = MAX_CONNECTIONS,
        user_agent: str,
        emit: Emit = silent,
        pace: Pace | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.lease = lease
        self.requests = 0
        self._clock = clock
        self._user_agent = user_agent
        self._signers: dict[str, Signer] = {}
        self._templates: dict[tuple[object, ...], HeadTemplate] = {}
        self._last_kind: tuple[object, ...] = ()
        self._last_template: HeadTemplate
        self._always = {"user-agent": user_agent, "accept-encoding": "identity"}
        self.regions = BucketRegions(endpoints, emit)
        self.expectations = Expectations(endpoints)
        connector = Connector(
            endpoints.timeouts, threads, endpoints.ca_bundle, endpoints.proxies, pace=pace
        )
        self.pool = ConnectionPool(connector, clock, max_connections=max_connections)

    def call(self, operation: str, url: S3Url, method: str, query: str = "") -> Call:
        """A call that is not signed yet. Raises UsageError for a key that cannot be sent."""
        target = locate(url, self.endpoints, self.regions.of(url.bucket))
        return Call(operation, url, method, target, query)

    async def ready(self, call: Call) -> None:
        """Wait for what a request needs before it takes a connection: credentials that live, and
        the bucket's region where nobody gave one."""
        if self.regions.should_ask(call.url.bucket):
            await self._ask_region(call.url.bucket)
            call.target = locate(call.url, self.endpoints, self.regions.of(call.url.bucket))
        call.credentials = await self.lease.ready()
        call.ready_at = self._clock.monotonic()

    async def open_ahead(self, url: S3Url, connections: int) -> None:
        """Connections to where requests of ``url`` go, as far as that is known."""
        if not self.regions.should_ask(url.bucket):
            with suppress(EngineError):
                target = locate(url, self.endpoints, self.regions.of(url.bucket))
                await self.pool.open_ahead(target.origin, connections)

    async def _ask_region(self, bucket: str) -> None:
        """HeadBucket without a signature: every answer to it names the region, a denial too.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
        """
        async with self.regions.asking:
            if not self.regions.should_ask(bucket):
                return
            target = locate(S3Url(bucket), self.endpoints)
            fields = {"host": target.origin.host_header, "user-agent": self._user_agent}
            head = build_request("HEAD", target.path, fields)

            async def send(connection: Connection) -> None:
                connection.begin_send(memoryview(b""), head)
                await connection.sent()

            said = None
            try:
                async with self.pool.request(
                    target.origin, "HEAD", send, repeatable=True
                ) as response:
                    said = response.head.headers.get("x-amz-bucket-region")
            except (ConnectionFailed, ProtocolError):
                pass  # the request that is to come fails by itself, or is told where to go
            self.regions.asked(bucket, said)

    def _signer(self, region: str) -> Signer:
        signer = self._signers.get(region)
        if signer is None:
            signer = self._signers[region] = Signer(region)
        return signer

    async def signed_head(self, call: Call) -> bytes:
        """The head as it is sent now: under the current lease, at the current second."""
        head = self.head_now(call)
        if head is not None:
            return head
        call.credentials, call.ready_at = await self.lease.ready(), self._clock.monotonic()
        return self._head(call)

    def head_now(self, call: Call) -> bytes | None:
        """``signed_head`` where there is nothing to wait for, else None: the lease is asked again
        where the request had to wait for a connection meanwhile, or is sent again."""
        if self._clock.monotonic() - call.ready_at > _STILL_READY:
            return None
        return self._head(call)

    def _head(self, call: Call) -> bytes:
        assert call.credentials is not None
        self.requests += 1
        call.sent_at, call.ready_at = call.ready_at, _LONG_AGO
        name, value = call.varying
        if call.kept:
            return self._template(call, name).head(
                call.credentials, self._clock.now(), call.target.path, call.query, value, call.plain
            )
        payload = UNSIGNED_PAYLOAD if call.body is None else sha256(call.body).hexdigest()
        headers = self._signer(call.target.region).sign_head(
            call.credentials,
            call.method,
            call.target.path,
            {
                "host": call.target.origin.host_header,
                **call.signed,
                **({name: value} if name else {}),
            },
            now=self._clock.now(),
            query=call.query,
            payload_hash=payload,
        )
        headers |= call.plain
        headers |= self._always
        target = f"{call.target.path}?{call.query}" if call.query else call.target.path
        return build_request(call.method, target, headers)

    async def head_first(self, call: Call, connection: Connection, length: int) -> bytes:
        """The head of a request with a body of ``length`` bytes; empty where it has been sent, and
        the server has not refused the body.

        Raises:
            EarlyAnswer: The server has answered: the body is not wanted.
        """
        plain = {**call.plain, "content-length": str(length)}
        plain.pop("expect", None)  # of an earlier connection
        call.plain = plain
        origin, fresh = call.target.origin, connection.exchanges == 1
        if not self.expectations.pays(call.url.bucket, origin, length, fresh=fresh):
            return await self.signed_head(call)
        plain["expect"] = "100-continue"
        connection.begin_send(memoryview(b""), await self.signed_head(call))
        await connection.sent()
        if not await connection.permitted(self.endpoints.timeouts.expect):
            self.expectations.deaf(origin)
        return b""

    def _template(self, call: Call, hole: str) -> HeadTemplate:
        """The template of all requests with these headers to this host."""
        target = call.target
        kind = (call.method, hole, target.region, target.origin, call.signed)
        if kind == self._last_kind:
            return self._last_template  # of most runs
        key = (call.method, target.origin, target.region, hole, *call.signed.items())
        template = self._templates.get(key)
        if template is None:
            while len(self._templates) >= _MAX_TEMPLATES:
                del self._templates[next(iter(self._templates))]
            template = self._templates[key] = HeadTemplate(
                self._signer(target.region),
                call.method,
                {"host": target.origin.host_header, **call.signed},
                self._always,
                hole,
            )
        self._last_kind, self._last_template = kind, template
        return template

    async def small(
        self,
        call: Call,
        *,
        limit: int = MAX_SMALL_BODY,
        repeatable: bool = True,
        patience: float | None = None,
    ) -> Answer:
        """A request and the whole of its small answer.

        Args:
            limit: Bytes of the answer's body; more is an error.
            repeatable: Whether it may be sent again where a reused connection was dead.
            patience: Seconds for the whole answer, where silence is nothing unusual.

        Raises:
            TransferError: By class: what S3 or the network said.
        """
        body = call.body or b""
        if call.method in ("PUT", "POST"):
            call.plain = {**call.plain, "content-length": str(len(body))}

        async def send(connection: Connection) -> None:
            connection.begin_send(memoryview(body), await self.signed_head(call))
            await connection.sent()

        with naming(call), self._patiently(patience):
            await self.ready(call)
            async with self.pool.request(
                call.target.origin, call.method, send, repeatable=repeatable, patience=patience
            ) as response:
                status, part = response.head.status, call.method == "HEAD" or "range" in call.plain
                if status not in (200, 204) and not (status == 206 and part):
                    raise await self.refused(call, response)
                self.worked(call, response.head.headers)
                date = date_of(response.head.headers, "date")
                if date is not None:
                    self._clock.heard(date)
                with self._within(patience or SMALL_ANSWER, call):
                    data = await response.read_small(limit + 1)
                if len(data) > limit:
                    raise ProtocolError(f"an answer of over {limit} bytes")
                return Answer(response.head.status, response.head.headers, data)

    @contextmanager
    def _patiently(self, patience: float | None) -> Iterator[None]:
        """Who has waited so long for one answer, head and all, does not wait for another one."""
        began = self._clock.monotonic()
        try:
            with anyio.fail_after(patience):
                yield
        except TimeoutError:
            raise AnswerTooSlow(f"no whole answer within {patience:g} s") from None
        except ConnectionFailed as error:
            if patience is None or self._clock.monotonic() - began < patience:
                raise
            raise AnswerTooSlow(error.headline) from None

    @contextmanager
    def _within(self, seconds: float, call: Call) -> Iterator[None]:
        """A limit in total: each blank that a server sends is progress, but no answer."""
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise AnswerTooSlow(f"no whole answer within {seconds:g} s") from None

    def worked(self, call: Call, headers: Mapping[str, str]) -> None:
        """Tell the lease that S3 took a request signed with this set."""
        call.request_id = headers.get("x-amz-request-id", "")
        self.expectations.heard(call.url.bucket, 200)
        if call.credentials is not None:
            self.lease.report_worked(call.credentials, call.sent_at)

    async def refused(self, call: Call, response: Response) -> EngineError:
        """The error for an answer that is not the success that was asked for."""
        self.expectations.heard(call.url.bucket, response.head.status)
        body = b""
        with anyio.move_on_after(ERROR_BODY):
            try:
                body = await response.read_small()
            except (ProtocolError, ConnectionFailed):
                pass  # a reset behind the head: the status has to do
        error = refusal(call.operation, call.url, response.head, body, self._clock.now())
        if isinstance(error, S3Error):
            if error.s3_code == "RequestTimeout":
                # S3 waited for bytes that we have sent: the connection is half dead.
                response.connection.abort()
            if error.status == 416 and "if-match" in call.plain:
                # The range was inside the version that it is pinned to.
                return ObjectChanged(
                    f"{call.url} was overwritten while it was read",
                    s3_code=error.s3_code,
                    status=416,
                )
        return await self.judged(call, error, response.head.headers)

    async def judged(
        self, call: Call, error: EngineError, headers: Mapping[str, str]
    ) -> EngineError:
        """``error``, after the clock and the lease have heard what it says of them."""
        if isinstance(error, S3Error):
            advise_on_checksums(error, call.signed)
            date = date_of(headers, "date")
            if error.s3_code == "RequestTimeTooSkewed" and date is not None:
                self._clock.learn(date)
            if error.status == 417 and "expect" in call.plain:
                self.expectations.deaf(call.target.origin)
                error.again = "plain"
            region = error.facts.get("bucket_region")
            if error.s3_code in WRONG_REGION and region is not None:
                if self.regions.follow(call.url.bucket, call.target.region, str(region)):
                    error.again = "region"
                    return error
            if call.credentials is not None:
                await judge(self.lease, call.credentials, error)
        return error

    async def aclose(self) -> None:
        """Close all connections; requests under way fail. Safe to call twice."""
        await self.pool.aclose()

    def __repr__(self) -> str:
        where = self.endpoints.s3
        # Only the host: an endpoint may have a path that is nobody's business.
        place = urlsplit(where).netloc.rpartition("@")[2] if where else self.endpoints.region
        return f"{place} requests={self.requests} {self.pool!r}"


@contextmanager
def naming(call: Call) -> Iterator[None]:
    """Errors of the network say which object they hit."""
    try:
        yield
    except (ConnectionFailed, ProtocolError) as error:
        raise_named(call, error)


def raise_named(call: Call, error: ConnectionFailed | ProtocolError) -> NoReturn:
    """Raise ``error``, or one like it that says which object it hit, and in which answer."""
    facts = dict(error.facts)
    if call.request_id:
        facts.setdefault("request_id", call.request_id)
    headline = error.headline
    if str(call.url) in headline:
        if len(facts) == len(error.facts):
            raise error
    else:
        headline = f"{call.operation} of {call.url}: {headline}"
    raise type(error)(headline, fix=error.fix, **facts) from error


def version_query(options: ObjectOptions) -> str:
    """The query that reads one version; empty for the current one."""
    if options.version_id is None:
        return ""
    return encode_query([("versionId", options.version_id)])
