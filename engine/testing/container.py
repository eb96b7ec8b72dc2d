"""The credentials endpoint that ECS and EKS Pod Identity give to a container.

What lives here: one path, its authorization token, the document, and a few ways to fail. What
must not: the server (metadata), or who may assume what (the gate).

https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, final

from engine.errors import UsageError
from engine.testing.metadata import MAX_REQUESTS, LocalService, Reply, ServedSet, stamp
from engine.types import Credentials

ECS = "ecs-tasks.amazonaws.com"
EKS = "pods.eks.amazonaws.com"
DEFAULT_LIFETIME = 21_600.0  # seconds that a task role's sessions live
_JSON = "application/json"


class ServiceSessions(Protocol):
    """Where the sessions come from: the gate."""

    def service_session(
        self,
        role_arn: str,
        service: str,
        session_name: str,
        lifetime: float,
        transitive_tags: Mapping[str, str] | None = None,
    ) -> Credentials:
        """A new session of a role for an AWS service."""

    def now(self) -> datetime:
        """The clock that Expiration is written by."""


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """One request as the endpoint saw it; whether its token was right, not which it was.

    Attributes:
        accept: The Accept header, or empty.
        with_token: Whether there was an Authorization header.
    """

    method: str
    path: str
    accept: str
    with_token: bool
    status: int


@final
class ContainerDouble(LocalService):
    """The container credentials endpoint on a free port of 127.0.0.1. A context manager.

    Args:
        sessions: The gate.

    Attributes:
        role_arn: The task's or pod's role, which must trust ``service``; None answers 404.
        service: ``ecs-tasks.amazonaws.com``, or ``pods.eks.amazonaws.com``.
        transitive_tags: Session tags that pass to every further role, as Pod Identity sets.
        token: What the Authorization header must be, to the letter; None asks for none.
        lifetime: Seconds that each set of credentials lives.
        margin: A new set appears when the old one has fewer seconds left; None is 5 minutes, or
            half of a set that is shorter than 10.
        frozen: True keeps serving the same set after its end.
        error_code: An error document with this code instead of keys, or None.
        error_status: The HTTP status that it comes with.
        with_account_id: Whether the document names the account.
        redirect_to: URL that every request is redirected to with 307, or None.
        delay: Seconds before every answer.
        failures_left: So many of the next requests get ``failure_status``, 500.
        rate_limit: Requests in any one second, or None; those beyond it get 429.
    """

    name = "s3engine-container"
    default_failure = 500

    def __init__(self, sessions: ServiceSessions) -> None:
        super().__init__(sessions.now)
        self._sessions = sessions
        self._log: deque[ContainerRequest] = deque(maxlen=MAX_REQUESTS)
        self._served = ServedSet(sessions.now)
        self.reset()

    def __repr__(self) -> str:
        return f"ContainerDouble({self.endpoint}, role={self.role_arn}, {len(self._log)} requests)"

    def reset(self) -> None:
        """No role, a new path and token, no faults, an empty log."""
        self.reset_faults()
        self.role_arn: str | None = None
        self.service = ECS
        self.transitive_tags: dict[str, str] = {}
        self.token: str | None = None
        self.rotate_token()
        self.lifetime = DEFAULT_LIFETIME
        self.margin: float | None = None
        self.frozen = False
        self.error_code: str | None = None
        self.error_status = 400
        self.with_account_id = False
        self._path = f"/v2/credentials/{secrets.token_hex(16)}"
        self._served.clear()
        with self._lock:
            self._log.clear()

    @property
    def relative_uri(self) -> str:
        """For AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, where a client's host can be set."""
        return self._path

    @property
    def full_uri(self) -> str:
        """For AWS_CONTAINER_CREDENTIALS_FULL_URI."""
        return self.endpoint + self._path

    def environment(self) -> dict[str, str]:
        """The variables that a container gets: the full URI and the token, if one is asked for."""
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.full_uri}
        if self.token is not None:
            variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = self.token
        return variables

    def rotate_token(self) -> str:
        """Ask for a new token from now on, as the kubelet does with a pod's; the token."""
        self.token = f"Basic {secrets.token_urlsafe(48)}=="
        return self.token

    def requests(self) -> list[ContainerRequest]:
        """All requests so far."""
        with self._lock:
            return list(self._log)

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """The answer to one request, which is also noted; ``headers`` have lower-case names."""
        given = headers.get("authorization")
        reply = self._decide(method, path, given)
        entry = ContainerRequest(
            method, path, headers.get("accept", ""), given is not None, reply.status
        )
        with self._lock:
            self._log.append(entry)
        return reply

    def _decide(self, method: str, path: str, given: str | None) -> Reply:
        fault = self.fault()
        if fault is not None:
            return fault
        if method != "GET":
            return _error(405, "MethodNotAllowed")
        if path != self._path or self.role_arn is None:
            return _error(404, "InvalidIdInRequest")
        if self.token is not None and not secrets.compare_digest(
            (given or "").encode(), self.token.encode()
        ):
            return _error(401, "AccessDeniedException")
        if self.error_code is not None:
            return _error(self.error_status, self.error_code)
        try:
            return Reply(text=self._document(self.role_arn), content_type=_JSON)
        except UsageError as error:  # the role is unknown or does not trust the service
            return _error(500, "InternalServerError", str(error))

    def _document(self, role_arn: str) -> str:
        current = self._served.get(
            lambda: self._sessions.service_session(
                role_arn, self.service, "task-1", self.lifetime, self.transitive_tags
            ),
            margin=self.margin,
            frozen=self.frozen,
        )
        assert current.expires_at is not None
        document = {
            "RoleArn": role_arn,
            "AccessKeyId": current.access_key_id,
            "SecretAccessKey": current.secret_access_key,
            "Token": current.session_token,
            "Expiration": stamp(current.expires_at),
        }
        if self.with_account_id:
            document["AccountId"] = role_arn.split(":")[4]
        return json.dumps(document)


def _error(status: int, code: str, message: str = "The double refuses this request") -> Reply:
    text = json.dumps({"code": code, "message": message})
    return Reply(status, text, _JSON)
