"""Error documents of S3 and STS. PURE; expat without a tree.

What lives here: XML in, frozen values out. What must not: a document type (refused, as entities
could blow up), an element that may carry a secret (only names on a list are kept).
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol
from xml.parsers import expat

from msgspec import Struct, field

from engine.errors import ProtocolError
from engine.redact import redact

# An error document has about 500 bytes; SignatureDoesNotMatch with its canonical request 4 KiB.
MAX_ERROR_BYTES = 64 * 1024
_MAX_DEPTH = 16
_MAX_VALUE = 1024
# Documents go to expat in pieces. A tag that is still open so many bytes behind its begin has more
# attributes than any answer of S3, and each would become an object before we hear of the first.
_PIECE = 64 * 1024
_MAX_TAG = 128 * 1024
# S3 and STS write UTF-8. What a document says of itself is not asked: Python has codecs that expat
# cannot work with, and an unknown one would be an error of another kind.
_ENCODING = "utf-8"

# Elements worth showing. A list of what is kept and not of what is dropped: <Token-0>,
# <AWSAccessKeyId>, <StringToSign> and whatever comes next stay out.
_FACTS = {
    "Region": "region",
    "Endpoint": "endpoint",
    "BucketName": "bucket_name",
    "Condition": "condition",
    "ArgumentName": "argument_name",
    "RangeRequested": "range_requested",
    "ActualObjectSize": "actual_object_size",
    "RequestTime": "request_time",
    "ServerTime": "server_time",
    "MaxAllowedSkewMilliseconds": "max_allowed_skew_milliseconds",
    "UploadId": "upload_id",
    "PartNumber": "part_number",
    "ProposedSize": "proposed_size",
    "MaxSizeAllowed": "max_size_allowed",
    "MinSizeAllowed": "min_size_allowed",
    "Header": "header",
    "StorageClass": "storage_class",
}
_KEPT = {"Code", "Message", "RequestId", *_FACTS}


class ErrorDocument(Struct, frozen=True):
    """What an error document says. Empty strings where it says nothing."""

    code: str = ""
    message: str = ""
    request_id: str = ""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def parse_error(body: bytes | bytearray | memoryview) -> ErrorDocument:
    """Read ``<Error>`` (S3) or ``<ErrorResponse><Error>`` (STS and its kin).

    Raises:
        ProtocolError: Not XML, no error document, a document type, or over the size limit.
    """
    if len(body) > MAX_ERROR_BYTES:
        raise ProtocolError(f"an error document of {len(body)} bytes (limit {MAX_ERROR_BYTES})")
    reader = _Reader()
    run_expat(reader, bytes(body), "an error document", namespaces=" ")
    if reader.root not in ("Error", "ErrorResponse", "Response"):
        raise ProtocolError(f"not an error document: <{reader.root[:60]}>")
    values = reader.values
    facts = {_FACTS[name]: value for name, value in values.items() if name in _FACTS}
    return ErrorDocument(
        code=values.get("Code", ""),
        message=values.get("Message", ""),
        request_id=values.get("RequestId", ""),
        facts=MappingProxyType(facts),
    )


class ElementReader(Protocol):
    """Told what a document holds, in its order."""

    def start(self, name: str, _attributes: Mapping[str, str]) -> None: ...
    def end(self, name: str) -> None: ...
    def text(self, data: str) -> None: ...


def run_expat(
    reader: ElementReader, body: bytes, what: str, *, namespaces: str | None = None
) -> None:
    """Tell ``reader`` all of ``body``.

    Args:
        what: The document, for messages.
        namespaces: Stands between a namespace and a name; None takes names as they are written.

    Raises:
        ProtocolError: Not XML, with a document type, as entities could blow up, or with a tag that
            does not end.
    """
    parser = expat.ParserCreate(_ENCODING, namespaces)

    def refuse_doctype(*_: object) -> None:
        raise ProtocolError(f"{what} with a document type")

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        taken = 0
        while len(body) - taken > _PIECE:
            parser.Parse(body[taken : taken + _PIECE], False)
            taken += _PIECE
            if taken - parser.CurrentByteIndex > _MAX_TAG:
                raise ProtocolError(f"{what} with a tag over {_MAX_TAG} bytes")
        parser.Parse(body[taken:], True)
    except expat.ExpatError as error:
        raise ProtocolError(f"{what} that is not XML: {error}") from None


class _Reader:
    """Collects the text of the elements on the list; the first of each name wins."""

    def __init__(self) -> None:
        self.root = ""
        self.values: dict[str, str] = {}
        self._depth = 0
        self._text: list[str] | None = None

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self._depth += 1
        if self._depth == 1:
            self.root = local
        if self._depth > _MAX_DEPTH:
            raise ProtocolError(f"an error document over {_MAX_DEPTH} levels deep")
        self._text = [] if local in _KEPT and local not in self.values else None

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._text is not None:
            value = redact("".join(self._text).strip())[:_MAX_VALUE]
            self.values[name.rpartition(" ")[2]] = " ".join(value.split())
        self._text = None

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)
