"""The instance metadata service of EC2: version 2, and version 1 only when a test wants it.

What lives here: tokens, the role's name, its credentials, the Region, and the ways in which the
service is known to fail. What must not: the server (metadata). Version 1 is off by default: a
client that falls back to it must be seen to fail.

The credentials are the same set until their ``margin`` is reached; EC2 promises new ones "at
least 5 minutes" before the end, so a client that asks earlier must not loop.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, final

from engine.errors import UsageError
from engine.testing.metadata import MAX_REQUESTS, LocalService, Reply, ServedSet, stamp
from engine.types import Credentials

MIN_TTL, MAX_TTL = 1, 21_600
DEFAULT_LIFETIME = 21_600.0  # seconds that EC2's role sessions live
_TOKEN = "/latest/api/token"
_CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
_REGION = "/latest/meta-data/placement/region"
_IDENTITY = "/latest/dynamic/instance-identity/document"
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"


class SessionSource(Protocol):
    """Where the sessions come from: the gate."""

    def instance_session(self, role_arn: str, lifetime: float) -> Credentials:
        """A new session of an instance role."""

    def now(self) -> datetime:
        """The clock that Expiration is written by."""


@dataclass(frozen=True, slots=True)
class ImdsRequest:
    """One request as the service saw it; whether it had a token, not which.

    Attributes:
        status: HTTP status; 0 where no answer was ever sent.
    """

    method: str
    path: str
    with_token: bool
    status: int


@final
class ImdsDouble(LocalService):
    """IMDS on a free port of 127.0.0.1, in its own threads. A context manager.

    Args:
        sessions: The gate.
        region: What the placement says.

    Attributes:
        role_arn: The instance's role, or None for an instance without one.
        lifetime: Seconds that each set of credentials lives.
        margin: A new set appears when the old one has fewer seconds left; None is 5 minutes, or
            half of a set that is shorter than 10.
        max_token_ttl: Tokens live no longer than this, whatever was asked.
        redirect_to: URL that every request is redirected to with 307, or None.
        delay: Seconds before every answer.
        enabled: False answers 403 to all, as an instance with IMDS switched off.
        allow_v1: True answers a GET without a token too, as version 1 does.
        hop_limit_exceeded: True never answers a PUT: its answer would have to pass more network
            hops than are allowed, as from a container with the limit of 1.
        error_code: 200 with this ``Code`` in the document instead of keys, or None.
        frozen: True keeps serving the same set after its end (static stability).
        failures_left: So many of the next requests get ``failure_status``, 503.
        rate_limit: Requests in any one second, or None; those beyond it get 429.
    """

    name = "s3engine-imds"
    default_failure = 503

    def __init__(self, sessions: SessionSource, *, region: str = "us-east-1") -> None:
        super().__init__(sessions.now)
        self._sessions = sessions
        self.region = region
        self._tokens: dict[str, float] = {}
        self._log: deque[ImdsRequest] = deque(maxlen=MAX_REQUESTS)
        self._served = ServedSet(sessions.now)
        self.reset()

    def __repr__(self) -> str:
        return f"ImdsDouble({self.endpoint}, role={self.role_arn}, {len(self._log)} requests)"

    def reset(self) -> None:
        """No role, no tokens, no faults, an empty log."""
        self.reset_faults()
        self.role_arn: str | None = None
        self.lifetime = DEFAULT_LIFETIME
        self.margin: float | None = None
        self.max_token_ttl = float(MAX_TTL)
        self.enabled = True
        self.allow_v1 = False
        self.hop_limit_exceeded = False
        self.error_code: str | None = None
        self.frozen = False
        self._served.clear()
        with self._lock:
            self._tokens.clear()
            self._log.clear()

    def requests(self) -> list[ImdsRequest]:
        """All requests so far."""
        with self._lock:
            return list(self._log)

    def forget_tokens(self) -> None:
        """Make every token invalid, as a restart of the service does."""
        with self._lock:
            self._tokens.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """The answer to one request, which is also noted; ``headers`` have lower-case names."""
        token = headers.get("x-aws-ec2-metadata-token")
        reply = self._decide(method, path, headers, token)
        status = 0 if reply.hang else reply.status
        with self._lock:
            self._log.append(ImdsRequest(method, path, token is not None, status))
        return reply

    def _decide(
        self, method: str, path: str, headers: Mapping[str, str], token: str | None
    ) -> Reply:
        if self.hop_limit_exceeded and method == "PUT":
            return Reply(hang=True)
        fault = self.fault()
        if fault is not None:
            return fault
        if not self.enabled:
            return Reply(403)
        if path == _TOKEN:
            return self._new_token(headers) if method == "PUT" else Reply(405)
        if method != "GET":
            return Reply(405)
        with self._lock:
            known = token is not None and self._tokens.get(token, 0.0) > time.monotonic()
        if not known and not (self.allow_v1 and token is None):
            return Reply(401)
        return self._metadata(path)

    def _new_token(self, headers: Mapping[str, str]) -> Reply:
        if "x-forwarded-for" in headers:
            return Reply(403)
        text = headers.get(_TTL_HEADER.lower(), "")
        if not text.isdecimal() or not MIN_TTL <= int(text) <= MAX_TTL:
            return Reply(400)
        token = secrets.token_urlsafe(40) + "=="
        with self._lock:
            self._tokens[token] = time.monotonic() + min(float(text), self.max_token_ttl)
        return Reply(text=token, headers={_TTL_HEADER: text})

    def _metadata(self, path: str) -> Reply:
        name = self.role_arn.rpartition("/")[2] if self.role_arn else ""
        if path == _REGION:
            return Reply(text=self.region)
        if path == _IDENTITY:
            return Reply(text=json.dumps({"region": self.region}))
        if name and path in (_CREDENTIALS, _CREDENTIALS.rstrip("/")):
            return Reply(text=name)
        if name and path == _CREDENTIALS + name:
            return Reply(text=self._document())
        return Reply(404)

    def _document(self) -> str:
        if self.error_code is not None:
            return self._error(self.error_code, "The double was told to answer this")
        role_arn = self.role_arn
        assert role_arn is not None
        try:
            current = self._served.get(
                lambda: self._sessions.instance_session(role_arn, self.lifetime),
                margin=self.margin,
                frozen=self.frozen,
            )
        except UsageError as error:  # the role is unknown or does not trust EC2
            return self._error("AssumeRoleUnauthorizedAccess", str(error))
        assert current.expires_at is not None and current.issued_at is not None
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": stamp(current.issued_at),
                "Type": "AWS-HMAC",
                "AccessKeyId": current.access_key_id,
                "SecretAccessKey": current.secret_access_key,
                "Token": current.session_token,
                "Expiration": stamp(current.expires_at),
            }
        )

    def _error(self, code: str, message: str) -> str:
        return json.dumps({"Code": code, "Message": message, "LastUpdated": stamp(self.now())})
