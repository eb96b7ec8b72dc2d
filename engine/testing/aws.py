"""AWS for tests: moto, the gate and, when asked for, the local credential services.

What lives here: putting them together and taking them apart. What must not: their behaviour.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from engine.testing.container import ContainerDouble
from engine.testing.gate import Gate
from engine.testing.gate_iam import AccessKey
from engine.testing.imds import ImdsDouble
from engine.testing.moto import MotoProcess
from engine.testing.sigv4 import UNSIGNED_PAYLOAD, sign
from engine.types import Credentials

ACCOUNT = "111122223333"
"""The account that the ready-made user and buckets belong to."""

_REQUEST_TIMEOUT = 60.0


class RawAnswer(NamedTuple):
    """An HTTP answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class AwsDouble:
    """A whole small AWS on 127.0.0.1. A context manager.

    Args:
        region: Region of signatures and buckets.
        ssl_context: A server's context; with it the gate speaks TLS.
        log_path: A JSON-lines file for the gate's request log.

    Attributes:
        gate: S3 and STS.
        account: The account that ``admin`` belongs to.
        admin: A user of that account who may do everything.
        start_seconds: How long the start took; nearly all of it is moto's.
    """

    def __init__(
        self,
        *,
        region: str = "us-east-1",
        ssl_context: ssl.SSLContext | None = None,
        log_path: Path | None = None,
    ) -> None:
        self.region = region
        self.account = ACCOUNT
        self.start_seconds = 0.0
        self.gate: Gate
        self.admin: AccessKey
        self._ssl = ssl_context
        self._log_path = log_path
        self._imds: ImdsDouble | None = None
        self._container: ContainerDouble | None = None
        self._stack = contextlib.ExitStack()

    def __repr__(self) -> str:
        return f"AwsDouble({getattr(self, 'gate', 'not started')}, imds={self._imds})"

    def __enter__(self) -> AwsDouble:
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
        """Start moto and the gate.

        Raises:
            MotoFailed: moto does not start.
            GateFailed: The gate does not start.
        """
        began = time.monotonic()
        try:
            moto = self._stack.enter_context(MotoProcess())
            gate = Gate(
                moto.port, region=self.region, ssl_context=self._ssl, log_path=self._log_path
            )
            self.gate = self._stack.enter_context(gate)
        except BaseException:
            self._stack.close()
            raise
        self.admin = self._new_admin()
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """Stop everything that was started. Safe to call twice."""
        self._imds = self._container = None
        self._stack.close()

    def reset(self) -> None:
        """As freshly started, ``admin`` with a new key; the processes and ports stay."""
        self.gate.reset()
        if self._imds is not None:
            self._imds.reset()
        if self._container is not None:
            self._container.reset()
        self.admin = self._new_admin()

    @property
    def endpoint(self) -> str:
        """URL of S3 and STS."""
        return self.gate.endpoint

    @property
    def imds(self) -> ImdsDouble:
        """The instance metadata service; started at first use."""
        if self._imds is None:
            self._imds = self._stack.enter_context(ImdsDouble(self.gate, region=self.region))
        return self._imds

    @property
    def container(self) -> ContainerDouble:
        """The credentials endpoint of a container; started at first use."""
        if self._container is None:
            self._container = self._stack.enter_context(ContainerDouble(self.gate))
        return self._container

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        credentials: Credentials | None = None,
        payload_hash: str = UNSIGNED_PAYLOAD,
        at: datetime | None = None,
        client_tls: ssl.SSLContext | None = None,
    ) -> RawAnswer:
        """One signed S3 request through the gate, on a connection of its own.

        Args:
            method: The HTTP verb.
            target: Path and query, percent-encoded.
            body: Bytes to send.
            headers: Further headers; they are signed.
            credentials: Whose signature; ``admin``'s where left out.
            payload_hash: What x-amz-content-sha256 says.
            at: Time of the signature; the gate's clock where left out.
            client_tls: How to verify the gate, where it speaks TLS.
        """
        used = credentials or self.admin.credentials
        signed = sign(
            method,
            self.endpoint + target,
            headers or {},
            payload_hash,
            used,
            self.region,
            "s3",
            at or self.gate.now(),
        )
        if client_tls is None:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.gate.port, timeout=_REQUEST_TIMEOUT
            )
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.gate.port, timeout=_REQUEST_TIMEOUT, context=client_tls
            )
        try:
            connection.request(method, target, body, signed)
            response = connection.getresponse()
            return RawAnswer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def _new_admin(self) -> AccessKey:
        return self.gate.add_user(self.account, "admin", allow=(("*", "*"),))
