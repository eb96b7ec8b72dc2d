"""Keys from the container endpoint: an ECS task's role, EKS pod identity, or a broker like ours.

Refresh rule: asked at every renewal; the file with the authorization token is read again each
time, because the platform rotates it.

Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import final
from urllib.parse import urlsplit

import anyio

from engine._wire.ask import SmallAnswer, asking
from engine._wire.endpoint import Origin
from engine.config import Timeouts
from engine.credentials.context import SourceContext
from engine.credentials.documents import read_keys
from engine.credentials.token_file import read_token_file
from engine.errors import (
    ConnectionFailed,
    CredentialsError,
    ProtocolError,
    RedirectRefused,
    SourceMissing,
    SourceUnavailable,
    UsageError,
)
from engine.protocols import CredentialProvider
from engine.threads import ThreadDoor
from engine.types import Credentials

RELATIVE_VARIABLE = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
FULL_VARIABLE = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
TOKEN_FILE_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
ECS_AGENT = "http://169.254.170.2"
# Without TLS keys may come from this machine only: loopback, ECS's agent, EKS's (both families).
PLAIN_HOSTS = ("localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23")
# Seconds and tries of botocore's ``ContainerMetadataFetcher``.
TIMEOUT = 2.0
ATTEMPTS = 3
PAUSE = 1.0
_MAX_TOKEN_BYTES = 64 * 1024
_PORTS = {"http": 80, "https": 443}
_WHAT = "the container endpoint"


@final
class ContainerProvider(CredentialProvider):
    """Keys of the container's role.

    Args:
        uri: Whole, with its query.
        environ: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, else AWS_CONTAINER_AUTHORIZATION_TOKEN,
            is read from it at every fetch.

    Raises:
        UsageError: A URI that is none, or that keys must not come from.
    """

    def __init__(
        self,
        uri: str,
        environ: Mapping[str, str],
        door: ThreadDoor,
        *,
        ca_bundle: str | None = None,
        user_agent: str = "s3engine",
    ) -> None:
        self._origin, self._target = _endpoint(uri)
        self._environ = environ
        self._door = door
        self._ca_bundle = ca_bundle
        self._user_agent = user_agent
        self._timeouts = Timeouts(connect=TIMEOUT, first_byte=TIMEOUT, stall=TIMEOUT)

    async def fetch(self) -> Credentials:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask_once()
            except SourceUnavailable:
                if attempt == ATTEMPTS:
                    raise
            await anyio.sleep(PAUSE)
        raise AssertionError("no attempt was made")

    async def _ask_once(self) -> Credentials:
        headers = {"accept": "application/json", "user-agent": self._user_agent}
        token = await self._authorization()
        if token is not None:
            headers["authorization"] = token
        try:
            async with asking(
                self._origin, self._timeouts, self._door, ca_bundle=self._ca_bundle
            ) as ask:
                return _credentials(await ask("GET", self._target, headers))
        except RedirectRefused as error:
            raise CredentialsError(error.headline, fix=error.fix) from None
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(
                f"no usable answer from {_WHAT} at {self._origin}", reason=error.headline
            ) from None

    async def _authorization(self) -> str | None:
        path = self._environ.get(TOKEN_FILE_VARIABLE)
        token = self._environ.get(TOKEN_VARIABLE)
        if path:
            try:
                token = await self._door.run(_read_token, path)
            except (OSError, ValueError) as error:
                raise CredentialsError(
                    f"the authorization token of {_WHAT} cannot be read from {path}",
                    fix=f"Check {TOKEN_FILE_VARIABLE}",
                    reason=getattr(error, "strerror", None) or "not a text file",
                ) from None
        if token and ("\r" in token or "\n" in token):
            raise CredentialsError(
                f"the authorization token of {_WHAT} holds a line break",
                fix="It goes into a header as it is, and would end it; write it without one",
            )
        return token or None

    def describe(self) -> str:
        return f"container role ({self._origin})"


def from_environment(context: SourceContext) -> ContainerProvider:
    """The factory of ``ecs``: the relative URI wins over the full one, as everywhere else.

    Raises:
        SourceMissing: Neither is set.
        UsageError: It is no URI, or one that keys must not come from.
    """
    uri = container_uri(context.environ)
    if uri is None:
        raise SourceMissing(
            f"{RELATIVE_VARIABLE} and {FULL_VARIABLE} are not set",
            fix="ECS and EKS set one of them; elsewhere use another --source",
        )
    return ContainerProvider(
        uri,
        context.environ,
        context.door,
        ca_bundle=context.endpoints.ca_bundle,
        user_agent=context.user_agent,
    )


def container_uri(environ: Mapping[str, str]) -> str | None:
    """The whole URI that the environment gives, or None.

    Raises:
        UsageError: A relative URI that is no path: it could name another host.
    """
    relative = environ.get(RELATIVE_VARIABLE)
    if not relative:
        return environ.get(FULL_VARIABLE) or None
    if not relative.startswith("/"):
        raise UsageError(
            f"{RELATIVE_VARIABLE} is not a path", fix="It starts with a slash: /v2/credentials/..."
        )
    return ECS_AGENT + relative


def _endpoint(uri: str) -> tuple[Origin, str]:
    # The URI is not repeated in errors: some platforms put a secret into its path.
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(f"{FULL_VARIABLE} is not a URL") from None
    if parts.scheme not in _PORTS or not host or parts.username or parts.password or parts.fragment:
        raise UsageError(
            f"{FULL_VARIABLE} is not a URL that keys may come from",
            fix="Write it as http://127.0.0.1:port/path or https://host/path",
        )
    if parts.scheme == "http" and not _is_here(host):
        raise UsageError(
            f"keys must not come from {host} by plain http",
            fix=f"Use https, a loopback address, or one of {', '.join(PLAIN_HOSTS)}",
        )
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    return Origin(parts.scheme, host, _PORTS[parts.scheme] if port is None else port), target


def _is_here(host: str) -> bool:
    if host in PLAIN_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(answer: SmallAnswer) -> Credentials:
    """Raises SourceUnavailable for all that is no living set of keys."""
    status = "" if answer.status == 200 else f"{_WHAT} answered with {answer.status}"
    try:
        document = read_keys(answer.body, _WHAT)
        if status:
            raise CredentialsError(status, answer=document.reason)
        credentials = document.credentials(_WHAT, issued_at=answer.date)
    except CredentialsError as error:
        raise SourceUnavailable(
            status or error.headline, answer=error.facts.get("answer")
        ) from None
    lifetime = credentials.lifetime
    if lifetime is not None and lifetime <= 0:
        raise SourceUnavailable(f"{_WHAT} gave a set that has ended")
    return credentials


def _read_token(path: str) -> str:
    return read_token_file(path, limit=_MAX_TOKEN_BYTES, encoding="ascii")
