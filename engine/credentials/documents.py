"""The JSON documents that sources answer with, read in one way.

A credential_process, the container endpoint and the instance metadata service all give
AccessKeyId, SecretAccessKey, a token and an end. PURE: bytes in, values out; nothing of a document
is ever put into an error but its error code and message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from engine.errors import CredentialsError
from engine.redact import redact
from engine.types import Credentials


class KeyDocument(msgspec.Struct, rename="pascal", frozen=True):
    """The fields of all three; which of them must be there is the source's affair."""

    version: Any = None
    code: str | None = None
    message: str | None = None
    # The container endpoints write these two small.
    error_code: str | None = msgspec.field(default=None, name="code")
    error_message: str | None = msgspec.field(default=None, name="message")
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str | None = None
    token: str | None = None
    expiration: str | None = None
    last_updated: str | None = None

    def __repr__(self) -> str:
        return "<KeyDocument>"

    @property
    def reason(self) -> str:
        """What an error document says of itself."""
        texts = (self.code or self.error_code, self.message or self.error_message)
        return redact(": ".join(text for text in texts if text))[:300]

    def credentials(self, what: str, *, issued_at: datetime | None = None) -> Credentials:
        """The set of keys.

        Args:
            what: The source, for errors.

        Raises:
            CredentialsError: No keys, or an end that is no time.
        """
        if not self.access_key_id or not self.secret_access_key:
            raise CredentialsError(f"{what} gave no keys", answer=self.reason)
        return Credentials(
            self.access_key_id,
            self.secret_access_key,
            self.session_token or self.token or None,
            expires_at=self._end(what),
            issued_at=issued_at,
        )

    def _end(self, what: str) -> datetime | None:
        if not self.expiration:
            return None
        found = parse_time(self.expiration)
        if found is None:
            raise CredentialsError(f"{what} gave an end that is no time: {self.expiration[:40]!r}")
        return found


def read_keys(body: bytes, what: str) -> KeyDocument:
    """Raises CredentialsError where ``body`` is not a JSON object of texts."""
    try:
        return msgspec.json.decode(body, type=KeyDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without the decoder's words: they may quote what was sent.
        raise CredentialsError(f"{what} gave no JSON document of keys") from None


def parse_time(text: str) -> datetime | None:
    """ISO 8601 with any zone; UTC where it names none, as AWS's tools write it. None for others."""
    text = text.strip()
    if text.endswith("UTC"):  # so older versions of the AWS CLI wrote it
        text = text[:-3] + "Z"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
