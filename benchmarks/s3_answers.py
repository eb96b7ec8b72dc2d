"""What the measuring origin answers: S3's verbs as far as transfer clients use them. PURE.

What lives here: a request taken apart, its answer as bytes or as a span of a file, and the counts
by which a run is checked. What must not: sockets, delays, signatures (nobody is refused, so that
the origin costs as little as it can).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

ETAG = '"0123456789abcdef0123456789abcdef"'
_MODIFIED = "2026-01-02T03:04:05.000Z"
_MODIFIED_HTTP = "Fri, 02 Jan 2026 03:04:05 GMT"
_PAGE = 1_000
_MAX_PROBLEMS = 10
_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Stored(NamedTuple):
    """An object that can be fetched: a span of one of the spec's files."""

    file: int
    offset: int
    size: int
    crc64nvme: str


class Request(NamedTuple):
    """A request head. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> Request:
        """``raw`` ends before the blank line."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        path, _, query = target.partition("?")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return cls(method, path, query, headers)

    @property
    def content_length(self) -> int:
        """Bytes of the body; -1 where its end is not known beforehand."""
        if "transfer-encoding" in self.headers:
            return -1
        return int(self.headers.get("content-length", "0"))


@dataclass(slots=True)
class Answer:
    """Head and small body, then perhaps a span of a file."""

    data: bytes
    stored: Stored | None = None
    offset: int = 0
    length: int = 0


@dataclass(slots=True)
class Counts:
    """What came and went since the last look."""

    operations: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0
    connections: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        """Something that no correct client does; a run with one of these is void."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)


class Bucket:
    """The objects that exist from the start, and the uploads under way. Nothing is stored."""

    def __init__(self, objects: dict[str, Stored]) -> None:
        self.counts = Counts()
        self._objects = objects
        self._keys = sorted(objects)
        self._uploads: dict[str, dict[str, int]] = {}
        self._made_uploads = 0
        self._date = (0, "")

    def answer(self, request: Request, body_bytes: int) -> Answer:
        """The answer to a request whose body of ``body_bytes`` has been read over."""
        headers = request.headers
        query = parse_qs(request.query, keep_blank_values=True) if request.query else {}
        bucket, _, key = request.path[1:].partition("/")
        key = unquote(key)
        if request.method == "PUT":
            return self._put(query, headers, body_bytes)
        if request.method == "GET" and "list-type" in query:
            return self._list(bucket, query)
        if request.method in ("GET", "HEAD"):
            return self._get(request.method, key, headers)
        if request.method == "POST":
            return self._multipart(key, query, headers)
        if request.method == "DELETE":
            self.counts.operations["delete"] += 1
            self._uploads.pop(_first(query, "uploadId"), None)
            return self._head(204)
        self.counts.problem(f"unexpected: {request.method} {request.path}?{request.query}")
        return self._xml(501, "<Error><Code>NotImplemented</Code></Error>")

    def _put(self, query: dict[str, list[str]], headers: dict[str, str], size: int) -> Answer:
        # Framing of an aws-chunked body is not data.
        self.counts.bytes_in += int(headers.get("x-amz-decoded-content-length", size))
        if query:
            self.counts.operations["upload_part"] += 1
            parts = self._uploads.get(_first(query, "uploadId"))
            if parts is None:
                self.counts.problem("a part of no upload")
                return self._xml(404, "<Error><Code>NoSuchUpload</Code></Error>")
            parts[_first(query, "partNumber")] = size
        else:
            self.counts.operations["put_object"] += 1
        echo = {k: v for k, v in headers.items() if k.startswith("x-amz-checksum-")}
        return self._head(200, {"etag": ETAG, **echo, "content-length": "0"})

    def _get(self, method: str, key: str, headers: dict[str, str]) -> Answer:
        self.counts.operations["head" if method == "HEAD" else "get"] += 1
        stored = self._objects.get(key)
        if stored is None and method == "HEAD" and not key:
            return self._head(200, {"x-amz-bucket-region": "us-east-1", "content-length": "0"})
        if stored is None:
            return self._xml(404, "<Error><Code>NoSuchKey</Code></Error>")
        fields = {
            "etag": ETAG,
            "last-modified": _MODIFIED_HTTP,
            "accept-ranges": "bytes",
            "content-type": "binary/octet-stream",
        }
        first, length = _span(headers.get("range", ""), stored.size)
        if "range" in headers:
            fields["content-range"] = f"bytes {first}-{first + length - 1}/{stored.size}"
        elif headers.get("x-amz-checksum-mode") == "ENABLED":
            # As S3 does it: the checksum is of the whole object, so a range does not get it.
            fields["x-amz-checksum-crc64nvme"] = stored.crc64nvme
            fields["x-amz-checksum-type"] = "FULL_OBJECT"
        fields["content-length"] = str(length)
        answer = self._head(206 if "range" in headers else 200, fields)
        if method == "GET":
            self.counts.bytes_out += length
            answer.stored, answer.offset, answer.length = stored, stored.offset + first, length
        return answer

    def _multipart(self, key: str, query: dict[str, list[str]], headers: dict[str, str]) -> Answer:
        if "uploads" in query:
            self.counts.operations["create"] += 1
            self._made_uploads += 1
            upload_id = f"upload-{self._made_uploads}"
            self._uploads[upload_id] = {}
            text = f"<Bucket>b</Bucket><Key>{key}</Key><UploadId>{upload_id}</UploadId>"
            name = "InitiateMultipartUploadResult"
            return self._xml(200, f"<{name} {_XMLNS}>{text}</{name}>")
        self.counts.operations["complete"] += 1
        parts = self._uploads.pop(_first(query, "uploadId"), None)
        size = headers.get("x-amz-mp-object-size")
        if parts is None:
            self.counts.problem("complete of no upload")
            return self._xml(404, "<Error><Code>NoSuchUpload</Code></Error>")
        if size is not None and int(size) != sum(parts.values()):
            self.counts.problem(f"an object of {size} bytes in parts of {sum(parts.values())}")
        crc = headers.get("x-amz-checksum-crc64nvme")
        echo = f"<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>" if crc else ""
        kind = "<ChecksumType>FULL_OBJECT</ChecksumType>" if crc else ""
        text = f"<Bucket>b</Bucket><Key>{key}</Key><ETag>{ETAG}</ETag>{echo}{kind}"
        name = "CompleteMultipartUploadResult"
        return self._xml(200, f"<{name} {_XMLNS}>{text}</{name}>")

    def _list(self, bucket: str, query: dict[str, list[str]]) -> Answer:
        self.counts.operations["list"] += 1
        prefix, after = _first(query, "prefix"), _first(query, "continuation-token")
        keys = [key for key in self._keys if key.startswith(prefix) and key > after]
        page, more = keys[:_PAGE], len(keys) > _PAGE
        rows = "".join(
            f"<Contents><Key>{key}</Key><LastModified>{_MODIFIED}</LastModified>"
            f"<ETag>{ETAG}</ETag><Size>{self._objects[key].size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        following = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        return self._xml(
            200,
            f"<ListBucketResult {_XMLNS}><Name>{bucket}</Name><Prefix>{prefix}</Prefix>"
            f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{rows}</ListBucketResult>",
        )

    def _xml(self, status: int, text: str) -> Answer:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        answer = self._head(
            status, {"content-type": "application/xml", "content-length": str(len(body))}
        )
        answer.data += body
        return answer

    def _head(self, status: int, fields: dict[str, str] | None = None) -> Answer:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True))
        lines = [f"HTTP/1.1 {status} X", f"date: {self._date[1]}", "x-amz-request-id: BENCH"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        return Answer("\r\n".join([*lines, "\r\n"]).encode("latin-1"))


def _first(query: dict[str, list[str]], name: str) -> str:
    return query.get(name, [""])[0]


def _span(text: str, size: int) -> tuple[int, int]:
    """First byte and length of a Range header's span; the whole object without one."""
    if not text.startswith("bytes="):
        return 0, size
    first, _, last = text[6:].partition("-")
    if not first:
        return max(0, size - int(last)), min(size, int(last))
    stop = min(int(last) + 1, size) if last else size
    return int(first), stop - int(first)
