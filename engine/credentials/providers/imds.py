"""The role of the EC2 instance, through IMDSv2. Version 1 is never asked.

Refresh rule: the service gives the same set until at least 5 minutes before its end; the broker
asks again as the end comes nearer. A set that is over, or as good as over, and that the service
still gives is used on (static stability): S3 takes it while the service has trouble.

Rules: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import final

from engine._wire.ask import Ask, SmallAnswer, asking
from engine._wire.endpoint import parse_endpoint
from engine._wire.sigv4 import encode_path
from engine.clock import LoopClock
from engine.config import RefreshPolicy, Timeouts
from engine.credentials.context import SourceContext
from engine.credentials.documents import KeyDocument, parse_time, read_keys
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
from engine.settings import IMDS_IPV4, SharedSettings
from engine.threads import ThreadDoor
from engine.types import Credentials

DEFAULT_ENDPOINT = IMDS_IPV4
# Seconds a token lives: the most that IMDS gives. One is got for each fetch all the same, which
# is once in hours; keeping it would only add a way to be wrong.
TOKEN_TTL = 21_600
# The service is one hop away. All of AWS's SDKs wait one second, once: off EC2 nobody answers.
DEFAULT_TIMEOUT = 1.0
DEFAULT_ATTEMPTS = 1
# How long a set that is over is used on: 15 minutes and 2 to 10 more, so that a fleet does not
# ask at the same time. As botocore does (``InstanceMetadataFetcher._evaluate_expiration``).
EXTENSION = 900.0
EXTENSION_JITTER = (120.0, 600.0)

_TOKEN_PATH = "/latest/api/token"
_ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
_WHAT = "the instance metadata service"
_NOT_SET_UP = {
    403: "The metadata service is switched off for this instance",
    404: "No role is attached to this instance",
}


@final
class ImdsProvider(CredentialProvider):
    """Keys of the instance's role.

    Before the first set came, no answer means that this is not EC2: SourceMissing, at once. From
    then on it means that the service has trouble: SourceUnavailable, asked again.

    Args:
        endpoint: ``http://[fd00:ec2::254]`` for IPv6.
        timeout: Seconds for a connection, and for an answer.
        attempts: How often the service is asked in one fetch.
        random: Of the extension.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        door: ThreadDoor | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        attempts: int = DEFAULT_ATTEMPTS,
        random: Random | None = None,
        user_agent: str = "s3engine",
    ) -> None:
        self._endpoint = endpoint
        self._origin, self._prefix = parse_endpoint(endpoint)
        self._door = door or ThreadDoor()
        self._timeouts = Timeouts(connect=timeout, first_byte=timeout, stall=timeout)
        self._attempts = attempts
        self._random = random or Random()
        self._user_agent = user_agent
        self._clock = LoopClock()
        self._role = ""
        self._answered = False
        self._used_on_key = ""

    async def fetch(self) -> Credentials:
        for attempt in range(1, self._attempts + 1):
            try:
                credentials = await self._ask_all()
            except (ConnectionFailed, ProtocolError) as error:
                if attempt == self._attempts:
                    raise self._silent(error.headline) from None
            except SourceUnavailable:
                if attempt == self._attempts:
                    raise
            else:
                self._answered = True
                return credentials
        raise AssertionError("no attempt was made")

    async def _ask_all(self) -> Credentials:
        async with asking(self._origin, self._timeouts, self._door) as ask:
            try:
                token = await self._token(ask)
                names = await self._get(ask, _ROLE_PATH, token)
                if names.status == 401:  # forgotten between the two, as by its restart
                    token = await self._token(ask)
                    names = await self._get(ask, _ROLE_PATH, token)
                self._check(names, _ROLE_PATH)
                self._role = names.body.decode("utf-8", "replace").split("\n", 1)[0].strip()
                path = _ROLE_PATH + encode_path(self._role)
                answer = await self._get(ask, path, token)
                if answer.status == 401:
                    answer = await self._get(ask, path, await self._token(ask))
                self._check(answer, path)
            except RedirectRefused as error:
                raise CredentialsError(error.headline, fix=error.fix) from None
        return self._credentials(answer)

    async def _token(self, ask: Ask) -> str:
        ttl = {"x-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL), **self._headers()}
        answer = await ask("PUT", self._prefix + _TOKEN_PATH, ttl)
        self._check(answer, _TOKEN_PATH, "PUT")
        return answer.body.decode("latin-1").strip()

    async def _get(self, ask: Ask, path: str, token: str) -> SmallAnswer:
        headers = {"x-aws-ec2-metadata-token": token, **self._headers()}
        return await ask("GET", self._prefix + path, headers)

    def _headers(self) -> Mapping[str, str]:
        return {"accept": "*/*", "user-agent": self._user_agent}

    def _check(self, answer: SmallAnswer, path: str, method: str = "GET") -> None:
        """Raises CredentialsError for any answer but 200."""
        if answer.status == 200:
            return
        headline = f"{_WHAT} answered {method} {path} with {answer.status}"
        fix = _NOT_SET_UP.get(answer.status, "")
        if fix and not self._answered:
            raise SourceMissing(headline, fix=fix)
        raise SourceUnavailable(headline, fix=fix)

    def _silent(self, reason: str) -> CredentialsError:
        kind = SourceUnavailable if self._answered else SourceMissing
        return kind(
            f"no usable answer from {_WHAT} at {self._endpoint}",
            fix="Not on EC2, or the service is off, or a container needs a hop limit of 2 "
            "(aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2): with 1 "
            "the answer that holds the token never reaches it",
            reason=reason,
        )

    def _credentials(self, answer: SmallAnswer) -> Credentials:
        try:
            document = read_keys(answer.body, _WHAT)
            # A 200 may carry an error instead of keys.
            if document.code not in (None, "Success") or not document.token:
                raise CredentialsError(f"{_WHAT} has no keys", answer=document.reason)
            credentials = document.credentials(_WHAT, issued_at=answer.date)
        except CredentialsError as error:
            raise SourceUnavailable(error.headline, answer=error.facts.get("answer")) from None
        return self._used_on(credentials, document)

    def _used_on(self, credentials: Credentials, document: KeyDocument) -> Credentials:
        """The set, with a later end where it is over or as good as over.

        The service has a newer set at least 5 minutes before the end, so one that is in the
        broker's last, mandatory window and still given means that the service has trouble.
        """
        if credentials.expires_at is None:
            return credentials
        now = credentials.issued_at or self._clock.now()
        left = (credentials.expires_at - now).total_seconds()
        if left > _last_window(credentials.expires_at, document):
            return credentials
        seconds = EXTENSION + self._random.uniform(*EXTENSION_JITTER)
        if self._used_on_key != credentials.access_key_id:  # once a set
            self._used_on_key = credentials.access_key_id
            logging.getLogger("engine").warning(
                "%s gives a set at its end (%.0f s left); it is used on", _WHAT, left
            )
        return replace(credentials, expires_at=now + timedelta(seconds=seconds), issued_at=now)

    def describe(self) -> str:
        return f"instance role {self._role or '(unknown yet)'} (IMDSv2)"


def _last_window(expires_at: datetime, document: KeyDocument) -> float:
    """Seconds before the end from which on requests would wait for a newer set."""
    begun = parse_time(document.last_updated or "")
    lifetime = (expires_at - begun).total_seconds() if begun else 0.0
    return RefreshPolicy().mandatory(max(0.0, lifetime))


def from_environment(context: SourceContext) -> ImdsProvider:
    """The factory of ``ec2``. Raises SourceMissing where AWS_EC2_METADATA_DISABLED says so."""
    environ = context.environ
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise SourceMissing(
            f"{_WHAT} is switched off by AWS_EC2_METADATA_DISABLED",
            fix="Unset it, or use another --source",
        )
    shared = SharedSettings.read(environ, context.profile)
    timeout = shared.text("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout")
    attempts = shared.text("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts")
    return ImdsProvider(
        context.endpoints.imds or DEFAULT_ENDPOINT,
        door=context.door,
        timeout=_positive("AWS_METADATA_SERVICE_TIMEOUT", timeout, DEFAULT_TIMEOUT),
        attempts=int(
            _positive("AWS_METADATA_SERVICE_NUM_ATTEMPTS", attempts, float(DEFAULT_ATTEMPTS))
        ),
        random=context.random,
        user_agent=context.user_agent,
    )


def _positive(name: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if (
        not math.isfinite(value)
        or value <= 0
        or (name.endswith("ATTEMPTS") and value != int(value))
    ):
        raise UsageError(f"{name} is {text!r}", fix="It is a number above 0")
    return value
