"""The instance metadata service of EC2, version 2 only.

What lives here: tokens, the role's name, its credentials, the Region, and a few ways to fail.
What must not: version 1. A client that falls back to it must be seen to fail.

The credentials are the same set until their ``margin`` is reached; EC2 promises new ones "at
least 5 minutes" before the end, so a client that asks earlier must not loop.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import ClassVar, Protocol
from urllib.parse import urlsplit

from engine.types import Credentials

MIN_TTL, MAX_TTL = 1, 21_600
DEFAULT_LIFETIME = 21_600.0  # seconds that EC2's role sessions live
SOCKET_TIMEOUT = 30.0
_CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
_REGION = "/latest/meta-data/placement/region"
_IDENTITY = "/latest/dynamic/instance-identity/document"


class SessionSource(Protocol):
    """Where the sessions come from: the gate."""

    def instance_session(self, role_arn: str, lifetime: float) -> Credentials:
        """A new session of an instance role."""

    def now(self) -> datetime:
        """The clock that Expiration is written by."""


@dataclass(frozen=True, slots=True)
class ImdsRequest:
    """One request as the service saw it; whether it had a token, not which."""

    method: str
    path: str
    with_token: bool
    status: int


class ImdsDouble:
    """IMDSv2 on a free port of 127.0.0.1, in its own threads. A context manager.

    Args:
        sessions: The gate.
        region: What the placement says.

    Attributes:
        role_arn: The instance's role, or None for an instance without one.
        lifetime: Seconds that each set of credentials lives.
        margin: A new set appears when the old one has fewer seconds left; None is half of them.
        max_token_ttl: Tokens live no longer than this, whatever was asked.
        redirect_to: URL that every request is redirected to with 307, or None.
        delay: Seconds before every answer.
        enabled: False answers 403 to all, as an instance with IMDS switched off.
        frozen: True keeps serving the same set after its end (static stability).
        failures_left: So many of the next requests get 503.
    """

    def __init__(self, sessions: SessionSource, *, region: str = "us-east-1") -> None:
        self._sessions = sessions
        self.region = region
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._log: list[ImdsRequest] = []
        self._current: Credentials | None = None
        self._server: http.server.ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.reset()

    def __repr__(self) -> str:
        return f"ImdsDouble({self.endpoint}, role={self.role_arn}, {len(self._log)} requests)"

    def __enter__(self) -> ImdsDouble:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open the port and serve."""
        service = self

        class Handler(_Handler):
            imds = service

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="s3engine-imds", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def reset(self) -> None:
        """No role, no tokens, no faults, an empty log."""
        self.role_arn: str | None = None
        self.lifetime = DEFAULT_LIFETIME
        self.margin: float | None = None
        self.max_token_ttl = float(MAX_TTL)
        self.redirect_to: str | None = None
        self.delay = 0.0
        self.enabled = True
        self.frozen = False
        self.failures_left = 0
        with self._lock:
            self._tokens.clear()
            self._log.clear()
            self._current = None

    @property
    def port(self) -> int:
        """The port, or 0 while stopped."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    @property
    def endpoint(self) -> str:
        """For AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[ImdsRequest]:
        """All requests so far."""
        with self._lock:
            return list(self._log)

    def forget_tokens(self) -> None:
        """Make every token invalid, as a restart of the service does."""
        with self._lock:
            self._tokens.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """Status and body of one request; also notes it."""
        token = headers.get("X-aws-ec2-metadata-token")
        status, text = self._decide(method, path, headers, token)
        with self._lock:
            self._log.append(ImdsRequest(method, path, token is not None, status))
        return status, text

    def _decide(
        self, method: str, path: str, headers: Mapping[str, str], token: str | None
    ) -> tuple[int, str]:
        if self.redirect_to is not None:
            return 307, ""
        if not self.enabled:
            return 403, ""
        with self._lock:
            if self.failures_left > 0:
                self.failures_left -= 1
                return 503, ""
        if path == "/latest/api/token":
            return self._new_token(headers) if method == "PUT" else (405, "")
        if method != "GET":
            return 405, ""
        with self._lock:
            if token is None or self._tokens.get(token, 0.0) <= time.monotonic():
                return 401, ""
        return self._metadata(path)

    def _new_token(self, headers: Mapping[str, str]) -> tuple[int, str]:
        if "X-Forwarded-For" in headers:
            return 403, ""
        text = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not text.isdecimal() or not MIN_TTL <= int(text) <= MAX_TTL:
            return 400, ""
        token = secrets.token_urlsafe(40) + "=="
        with self._lock:
            self._tokens[token] = time.monotonic() + min(float(text), self.max_token_ttl)
        return 200, token

    def _metadata(self, path: str) -> tuple[int, str]:
        name = self.role_arn.rpartition("/")[2] if self.role_arn else ""
        if path == _REGION:
            return 200, self.region
        if path == _IDENTITY:
            return 200, json.dumps({"region": self.region})
        if name and path in (_CREDENTIALS, _CREDENTIALS.rstrip("/")):
            return 200, name
        if name and path == _CREDENTIALS + name:
            return 200, self._document()
        return 404, ""

    def _document(self) -> str:
        assert self.role_arn is not None
        with self._lock:
            now = self._sessions.now()
            current = self._current
            if current is None or (not self.frozen and self._due(current, now)):
                current = self._sessions.instance_session(self.role_arn, self.lifetime)
                self._current = current
        assert current.expires_at is not None and current.issued_at is not None
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": _stamp(current.issued_at),
                "Type": "AWS-HMAC",
                "AccessKeyId": current.access_key_id,
                "SecretAccessKey": current.secret_access_key,
                "Token": current.session_token,
                "Expiration": _stamp(current.expires_at),
            }
        )

    def _due(self, current: Credentials, now: datetime) -> bool:
        if current.expires_at is None:
            return False
        margin = (current.lifetime or 0.0) / 2 if self.margin is None else self.margin
        return (current.expires_at - now).total_seconds() < margin


class _Handler(http.server.BaseHTTPRequestHandler):
    imds: ClassVar[ImdsDouble]
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_TIMEOUT

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if length.isdecimal():
            self.rfile.read(int(length))
        if self.imds.delay:
            time.sleep(self.imds.delay)
        path = urlsplit(self.path).path
        status, text = self.imds.answer(self.command, path, dict(self._canonical()))
        with contextlib.suppress(ConnectionError):  # a client whose patience ended has gone
            self.send_response(status)
            if status == 307:
                self.send_header("Location", f"{self.imds.redirect_to}")
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

    def _canonical(self) -> list[tuple[str, str]]:
        known = (
            "X-aws-ec2-metadata-token",
            "X-aws-ec2-metadata-token-ttl-seconds",
            "X-Forwarded-For",
        )
        return [(name, self.headers[name]) for name in known if name in self.headers]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error belongs to the tests."""


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
