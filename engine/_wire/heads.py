"""Request heads by template: signed as ``Signer.sign_head`` does, many of a kind a second. PURE.

Requests of one kind differ in their path, their query and one header at most (a checksum), so all
else of the text that is signed is put together once a second. What must not live here: which
requests there are, a second opinion on how a signature is made.

Rules of this file
- A template belongs to one kind of request, one set of credentials and one second. ``head`` looks
  at both each time: a new lease, a new day and a corrected clock make a new template by themselves.
- What may stay unsigned (Range, If-Match, Content-Length) is given as ``plain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import final

from engine._wire.http11 import build_request
from engine._wire.sigv4 import Mac, Signer, check_target, check_value
from engine.errors import UsageError
from engine.types import Credentials

# Stands for the value that differs while a template is made; made longer where it is in a header.
_HOLE = "the-value"


_NOTHING: Mapping[str, str] = MappingProxyType({})


@final
class HeadTemplate:
    """Heads of one kind of request.

    Args:
        signer: Of the region; for S3.
        signed: Headers that are signed and always the same, ``host`` among them.
        plain: Headers that are not signed and always the same.
        hole: Name of a signed header that differs; empty for none.
    """

    def __init__(
        self,
        signer: Signer,
        method: str,
        signed: Mapping[str, str],
        plain: Mapping[str, str],
        hole: str = "",
    ) -> None:
        assert signer.service == "s3", "elsewhere the path is signed otherwise"
        self._signer = signer
        self._method = method
        self._signed = dict(signed)
        self._plain = dict(plain)
        self._hole = hole
        self._credentials: Credentials | None = None
        self._second: datetime | None = None
        self._mac: Mac | None = None
        self._canonical = ("", "")
        self._lines = ("", "")
        self._to_sign = ""

    def head(
        self,
        credentials: Credentials,
        now: datetime,
        path: str,
        query: str = "",
        value: str = "",
        plain: Mapping[str, str] = _NOTHING,
    ) -> bytes:
        """The head of one request, with its blank line.

        Args:
            now: Aware, in UTC, as servers see it.
            path: Encoded (``encode_path``).
            query: From ``encode_query``.
            value: Of the header that differs; without blanks.
            plain: Headers of this request that are not signed.

        Raises:
            UsageError: A value, path or query with bytes that HTTP does not allow.
        """
        second = now.replace(microsecond=0)
        if credentials is not self._credentials or second != self._second:
            self._make(credentials, second)
        assert self._mac is not None and bool(value) == bool(self._hole)
        target = f"{path}?{query}" if query else path
        check_target(target)
        if value:
            check_value(self._hole, value)
            if " " in value or "\t" in value:
                raise UsageError(f"the value of the header {self._hole!r} has blanks")
        before, after = self._canonical
        canonical = f"{self._method}\n{path}\n{query}\n{before}{value}{after}"
        digest = sha256(canonical.encode("ascii")).hexdigest()
        signature = self._mac.hexdigest(f"{self._to_sign}{digest}".encode("ascii"))
        lines = f"{signature}\r\n"
        for name, text in plain.items():
            check_value(name, text)
            lines += f"{name}: {text}\r\n"
        before, after = self._lines
        head = f"{self._method} {target} HTTP/1.1\r\n{before}{value}{after}{lines}\r\n"
        return head.encode("ascii")

    def _make(self, credentials: Credentials, second: datetime) -> None:
        hole, headers = _HOLE, {**self._plain, **self._signed}
        keys = (credentials.access_key_id, credentials.session_token or "")
        texts = (*headers, *headers.values(), *keys, self._hole, self._signer.region)
        while any(hole in text for text in texts):
            hole += "-"
        signed = {**self._signed, self._hole: hole} if self._hole else self._signed
        prepared = self._signer.prepare(credentials, signed, now=second)
        ready = prepared.headers | self._plain | {"authorization": prepared.authorization}
        # Its own check of every name and value; the blank line and the first one are not ours.
        lines = build_request(self._method, "/", ready).decode("ascii")
        lines = lines.partition("\r\n")[2].removesuffix("\r\n\r\n")
        self._mac, self._to_sign = prepared.mac, prepared.to_sign
        self._canonical = _cut(prepared.canonical, hole, self._hole)
        self._lines = _cut(lines, hole, self._hole)
        self._credentials, self._second = credentials, second

    def __repr__(self) -> str:
        return f"<HeadTemplate {self._method} {self._hole}>"


def _cut(text: str, hole: str, name: str) -> tuple[str, str]:
    """What stands before and behind the hole."""
    before, _, after = text.partition(hole) if name else (text, "", "")
    return before, after
