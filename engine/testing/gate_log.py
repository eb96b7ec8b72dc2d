"""The gate's request log: what came in, as whom, and how it ended.

What lives here: the frozen entry, the thread-safe list of them and the optional JSON-lines file.
What must not: a secret, a session token or a signature; the headers kept are an allow list.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

# Everything else that starts with x-amz- is kept too, except what holds a secret.
_KEPT = frozenset({"range", "if-match", "if-none-match", "host", "user-agent", "content-length"})
_SECRET = ("token", "customer-key", "customer-algorithm", "signature")
# Of an STS request's parameters these are left out, and the external id is masked.
_SECRET_PARAMETERS = frozenset({"WebIdentityToken", "SAMLAssertion", "TokenCode"})
# A day of tests at full speed; beyond it the oldest half goes, so that memory has a limit.
MAX_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as the gate saw it.

    Attributes:
        at: The gate's clock when the request head had arrived.
        action: AWS's name of the operation, such as ``UploadPart``.
        key: The decoded key; empty for the bucket itself.
        query: The raw query string.
        headers: Lower-case names; only those that carry no secret.
        principal: ARN of the caller, or empty where it was not authenticated.
        status: HTTP status, or 0 where the connection was closed without an answer.
        error_code: AWS's error code, or empty.
        fault: The kind of fault that was injected, or empty.
        bytes_in: Bytes of the request body that were read.
        bytes_out: Bytes of the response body that were sent.
        service: ``s3`` or ``sts``.
        expires_at: The Expiration that the caller was told; None for keys that have none.
        issued_key_id: The access key id that STS gave out in the answer, or empty.
        parameters: An STS request's, without tokens and codes.
    """

    at: datetime
    method: str
    action: str
    bucket: str
    key: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    access_key_id: str
    principal: str
    upload_id: str
    part_number: int | None
    status: int
    error_code: str
    fault: str
    bytes_in: int
    bytes_out: int
    service: str = "s3"
    expires_at: datetime | None = None
    issued_key_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def expired(self) -> bool:
        """Whether the caller's session had ended, as far as it was told, when this arrived."""
        return self.expires_at is not None and self.at >= self.expires_at

    @property
    def failed(self) -> bool:
        """Whether the client did not get a 2xx answer."""
        return not 200 <= self.status < 300


def kept_parameters(form: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters of an STS request that may be logged."""
    kept = {name: value for name, value in form.items() if name not in _SECRET_PARAMETERS}
    if "ExternalId" in kept:
        kept["ExternalId"] = "***"
    return MappingProxyType(kept)


def kept_headers(items: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The headers that may be logged, names in lower case."""
    kept = {}
    for name, value in items:
        lower = name.lower()
        secret = any(word in lower for word in _SECRET)
        if lower in _KEPT or (lower.startswith("x-amz-") and not secret):
            kept[lower] = value
    return MappingProxyType(kept)


class RequestLog:
    """A thread-safe list of requests.

    Args:
        path: A JSON-lines file that gets every finished entry too, or None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[int, LoggedRequest] = {}
        self._next = 0
        self._forgotten = 0

    def __repr__(self) -> str:
        return f"RequestLog({len(self._entries)} entries)"

    def __len__(self) -> int:
        return len(self._entries)

    def open(self) -> int:
        """A number for a request that has begun; ``put`` takes it."""
        with self._lock:
            self._next += 1
            return self._next

    def put(self, number: int, entry: LoggedRequest, *, last: bool) -> None:
        """Set or replace the entry of one request.

        An entry is set before the end of an answer is sent, so that who has the whole answer
        also finds the entry; it is replaced where the answer then ended early.
        """
        with self._lock:
            if number > self._forgotten:
                self._entries[number] = entry
            if len(self._entries) > MAX_ENTRIES:
                for old in sorted(self._entries)[: MAX_ENTRIES // 2]:
                    del self._entries[old]
            if last and self._path is not None:
                record = {**asdict(_plain(entry)), "at": entry.at.isoformat()}
                if entry.expires_at is not None:
                    record["expires_at"] = entry.expires_at.isoformat()
                with self._path.open("a", encoding="utf-8", errors="replace") as file:
                    file.write(json.dumps(record) + "\n")

    def entries(self) -> list[LoggedRequest]:
        """All entries in the order in which the requests began."""
        with self._lock:
            return [entry for _, entry in sorted(self._entries.items())]

    def where(self, **equal: object) -> list[LoggedRequest]:
        """Entries whose attributes equal all of ``equal`` (``action="UploadPart"``, ...)."""
        return [
            entry
            for entry in self.entries()
            if all(getattr(entry, name) == value for name, value in equal.items())
        ]

    def clear(self) -> None:
        """Forget all requests that have begun. The file, if any, keeps them."""
        with self._lock:
            self._forgotten = self._next
            self._entries.clear()

    def keys_by_upload(self) -> dict[str, set[str]]:
        """For each upload id the access key ids that have worked on it with success."""
        out: dict[str, set[str]] = {}
        for entry in self.entries():
            if entry.upload_id and 200 <= entry.status < 300:
                out.setdefault(entry.upload_id, set()).add(entry.access_key_id)
        return out


def _plain(entry: LoggedRequest) -> LoggedRequest:
    values = {name: getattr(entry, name) for name in LoggedRequest.__dataclass_fields__}
    values["headers"], values["parameters"] = dict(entry.headers), dict(entry.parameters)
    return LoggedRequest(**values)
