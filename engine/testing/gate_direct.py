"""A test's own way to moto, past the gate: what is really stored, without a log entry or a fault.

What lives here: a few synchronous calls, safe from any thread. What must not: anything that a
transfer under test uses.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from engine.errors import EngineError
from engine.testing.gate_forward import MOTO_AUTHORIZATION

_TIMEOUT = 60.0


class MotoRefused(EngineError):
    """moto answered a direct call with an error."""

    code = "X002"


class OpenUpload(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class MotoClient:
    """Calls moto at ``port``."""

    port: int
    region: str

    def call(
        self, method: str, raw_target: str, body: bytes | None = None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """One request; headers and body of the answer.

        Raises:
            MotoRefused: Not a 2xx answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        headers = {"Authorization": MOTO_AUTHORIZATION.format(region=self.region)}
        try:
            connection.request(method, raw_target, body, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise MotoRefused(
                f"moto answered {response.status} to {method} {raw_target}",
                body=data[:300].decode(errors="replace"),
            )
        return response.headers, data

    def reset(self) -> None:
        """Empty moto of everything."""
        self.call("POST", "/moto-api/reset")

    def create_bucket(self, bucket: str) -> None:
        """Make a bucket."""
        document = None
        if self.region != "us-east-1":
            text = f"<LocationConstraint>{self.region}</LocationConstraint>"
            document = f"<CreateBucketConfiguration>{text}</CreateBucketConfiguration>".encode()
        self.call("PUT", f"/{bucket}", document)

    def put_object(self, bucket: str, key: str, data: bytes) -> str:
        """Store an object; its ETag."""
        headers, _ = self.call("PUT", object_path(bucket, key), data)
        return headers["ETag"]

    def get_object(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return self.call("GET", object_path(bucket, key))[1]

    def list_keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys in S3's order."""
        keys: list[str] = []
        token = ""
        while True:
            query = f"list-type=2&encoding-type=url&prefix={quote(prefix, safe='')}"
            if token:
                query += f"&continuation-token={quote(token, safe='')}"
            root = ElementTree.fromstring(self.call("GET", f"/{bucket}?{query}")[1])
            keys += [unquote(e.text or "") for e in root.iterfind("{*}Contents/{*}Key")]
            token = root.findtext("{*}NextContinuationToken") or ""
            if not token:
                return keys

    def open_uploads(self, bucket: str) -> list[OpenUpload]:
        """All open multipart uploads."""
        root = ElementTree.fromstring(self.call("GET", f"/{bucket}?uploads")[1])
        return [
            OpenUpload(e.findtext("{*}Key") or "", e.findtext("{*}UploadId") or "")
            for e in root.iterfind("{*}Upload")
        ]


def object_path(bucket: str, key: str) -> str:
    """``/bucket/key``, percent-encoded as S3 wants it."""
    return f"/{bucket}/{quote(key.encode(), safe='/-_.~')}"
