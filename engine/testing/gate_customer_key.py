"""SSE-C at the gate: which key each object and upload was written with, and who may go on.

What lives here: S3's rules on the three header fields of a customer's key. What must not: a key;
only its MD5 is kept. https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from urllib.parse import unquote

from engine.testing.gate_answer import Answer
from engine.testing.gate_errors import AwsError
from engine.testing.gate_exchange import Exchange

_PREFIX = "X-Amz-Server-Side-Encryption-Customer-"
_OF_SOURCE = "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
_READS = frozenset({"GetObject", "HeadObject"})
_KEY_BYTES = 32


class CustomerKeys:
    """MD5s of customers' keys, by object and by open upload. Used in the gate's loop only."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], str] = {}
        self._uploads: dict[str, str] = {}

    def clear(self) -> None:
        """Forget all."""
        self._objects.clear()
        self._uploads.clear()

    def check(self, exchange: Exchange) -> None:
        """Whether the request brings the key that it needs, over TLS, and no other.

        Raises:
            AwsError: InvalidRequest, InvalidArgument, or AccessDenied for another key.
        """
        given = _given(exchange.request.headers)
        if given is not None and not exchange.request.secure:
            raise AwsError(
                "InvalidRequest",
                "Requests specifying Server Side Encryption with Customer provided keys must be "
                "made over a secure connection.",
            )
        if exchange.action in _COPIES:
            source = unquote(exchange.request.headers["X-Amz-Copy-Source"].partition("?")[0])
            bucket, _, key = source.removeprefix("/").partition("/")
            theirs = _given(exchange.request.headers, _OF_SOURCE)
            if theirs != self._objects.get((bucket, key)):
                raise AwsError("InvalidRequest", "The copy source's customer key is not the right")
        if exchange.action in _READS:
            wanted = self._objects.get((exchange.bucket, exchange.key))
            if wanted is not None and given is not None and wanted != given:
                raise AwsError("AccessDenied")
        elif exchange.action in ("UploadPart", "UploadPartCopy"):
            wanted = self._uploads.get(exchange.upload_id)
        else:
            return
        if wanted != given:
            raise AwsError(
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct "
                "parameters must be provided to retrieve the object.",
            )

    def note(self, exchange: Exchange, answer: Answer) -> None:
        """Keep what a successful write was written with."""
        if answer.status != 200:
            return
        place = (exchange.bucket, exchange.key)
        given = _given(exchange.request.headers)
        if exchange.action == "CreateMultipartUpload" and given is not None:
            self._uploads[exchange.new_upload_id] = given
        elif exchange.action in ("PutObject", "CopyObject"):
            self._keep(place, given)
        elif exchange.action == "CompleteMultipartUpload":
            self._keep(place, self._uploads.pop(exchange.upload_id, None))

    def _keep(self, place: tuple[str, str], digest: str | None) -> None:
        if digest is None:
            self._objects.pop(place, None)
        else:
            self._objects[place] = digest


def _given(headers: Mapping[str, str], prefix: str = _PREFIX) -> str | None:
    """The MD5 of the key that came along; None without one."""
    algorithm = headers.get(f"{prefix}Algorithm")
    text = headers.get(f"{prefix}Key")
    told = headers.get(f"{prefix}Key-MD5")
    if algorithm is text is told is None:
        return None
    try:
        key = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        key = b""
    digest = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if algorithm != "AES256" or len(key) != _KEY_BYTES or told != digest:
        raise AwsError("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    return digest
