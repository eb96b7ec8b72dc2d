"""Answers on their way to the client: speed of the link, log entry, and the faults of the answer.

What lives here: the one place that writes a response. What must not: how the answer came about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import NoReturn

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from engine.testing.faults import Fault
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_link import Link
from engine.testing.gate_log import RequestLog


class Dropped(Exception):
    """The connection was closed on purpose; there is nothing left to answer."""


@dataclass(slots=True)
class Answer:
    """An answer that was not sent yet.

    Attributes:
        body: Bytes, or moto's response that is still to be read.
        length: Content-Length; for HEAD more than the body has. None for answers without one.
    """

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes | aiohttp.ClientResponse = b""
    length: int | None = None
    error_code: str = ""

    def close(self) -> None:
        """Give moto's connection back where the answer is not sent."""
        if isinstance(self.body, aiohttp.ClientResponse):
            self.body.close()


def drop(request: web.BaseRequest) -> NoReturn:
    """Close the connection at once, with a reset where data is still unread.

    Raises:
        Dropped: Always.
    """
    if request.transport is not None:
        request.transport.abort()
    raise Dropped


async def send(
    exchange: Exchange, answer: Answer, now: datetime, link: Link, log: RequestLog
) -> web.StreamResponse:
    """Write ``answer`` and note it in the log.

    Raises:
        Dropped: A fault closed the connection.
    """
    request = exchange.request
    if exchange.fault("swallow"):
        answer.close()
        exchange.error_code = answer.error_code
        drop(request)
    exchange.status, exchange.error_code = answer.status, answer.error_code
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.headers.setdefault("Date", format_datetime(now, usegmt=True))
    response.headers.setdefault("Server", "AmazonS3")
    length = answer.length
    if length is None and isinstance(answer.body, bytes):
        length = len(answer.body)
    if length is not None and answer.status not in (204, 304):
        response.content_length = length
    if not request.content.is_eof():
        # The rest of the body may never come (Expect: 100-continue), so where the next request
        # begins could not be known. S3 closes as well.
        response.force_close()
    cut = exchange.fault("truncate")
    exchange.bytes_out = 0 if request.method == "HEAD" else length or 0
    if cut is not None:
        exchange.bytes_out = min(exchange.bytes_out, cut.at)
    planned = exchange.bytes_out
    # Before the last byte: whoever has the whole answer must find it in the log.
    log.put(exchange.number, exchange.entry(), last=False)
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            exchange.bytes_out = 0
            pieces = _limited(_flipped(_pieces(answer.body, link), exchange.fault("flip")), cut)
            async for piece in pieces:
                await link.take(len(piece))
                await response.write(piece)
                exchange.bytes_out += len(piece)
        if cut is not None:
            if request.transport is not None:
                request.transport.close()  # after what is still in its buffer
            raise Dropped
        await response.write_eof()
    except aiohttp.ClientPayloadError:
        drop(request)
    finally:
        answer.close()
        if exchange.bytes_out != planned:
            log.put(exchange.number, exchange.entry(), last=False)
    return response


async def _pieces(body: bytes | aiohttp.ClientResponse, link: Link) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), link.piece):
            yield body[start : start + link.piece]
        return
    while True:
        piece = await (body.content.read(link.piece) if link.bandwidth else body.content.readany())
        if not piece:
            return
        yield piece


async def _flipped(pieces: AsyncIterator[bytes], flip: Fault | None) -> AsyncIterator[bytes]:
    offset = 0
    async for piece in pieces:
        data = piece
        if flip is not None and offset <= flip.at < offset + len(piece):
            spoiled = bytearray(piece)
            spoiled[flip.at - offset] ^= 1 << flip.bit
            data = bytes(spoiled)
        offset += len(piece)
        yield data


async def _limited(pieces: AsyncIterator[bytes], cut: Fault | None) -> AsyncIterator[bytes]:
    left = None if cut is None else cut.at
    async for piece in pieces:
        if left is None:
            yield piece
            continue
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)
