"""Masks for what must not be read: secrets in text, ids in messages.

The first line of defence is never to put a secret into a text; this is the second.
"""

from __future__ import annotations

import re

# Words after which Redshift SQL, JDBC URLs, headers and STS forms carry a secret: quoted, or after
# = or :. A quote that never closes takes the rest with it.
_SQL_SECRET = re.compile(
    r"(?i)\b(password|pwd|credentials|access_key_id|secret_access_key|session_token|token"
    r"|master_symmetric_key)(\s*[=:]\s*|\s+as\s+|\s+)"
    r"('(?:[^'\\]|''|\\.)*'?|\"[^\"]*\"?|(?<=[=:])[^\s;&,]+|(?<=[=:]\s)[^\s;&,]+)"
)
_HEADER_SECRET = re.compile(r"(?im)^(authorization|x-amz-security-token)\s*:.*$")
_AWS_KEY_ID = re.compile(r"\b(A[KS]IA)[A-Z0-9]{10,}([A-Z0-9]{2})\b")
_PRESIGNED = re.compile(r"(?i)(X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"']+")
_TOKEN_XML = re.compile(r"(?is)<Token-\d+>.*?</Token-\d+>")


def redact(text: str) -> str:
    """``text`` with every value that looks like a secret replaced by ``***``."""
    text = _TOKEN_XML.sub("<Token>***</Token>", text)
    text = _PRESIGNED.sub(r"\1***", text)
    text = _HEADER_SECRET.sub(r"\1: ***", text)
    text = _SQL_SECRET.sub(r"\1\2***", text)
    return _AWS_KEY_ID.sub(r"\1***\2", text)


def mask_key_id(access_key_id: str) -> str:
    """``AKIA***7Q``: enough to tell keys apart, too little to use."""
    return f"{access_key_id[:4]}***{access_key_id[-2:]}" if len(access_key_id) > 8 else "***"


def mask_external_id(external_id: str | None) -> str:
    """``x***2``. An external id is not a secret for AWS, and still nobody else's business."""
    if not external_id:
        return "none"
    return f"{external_id[0]}***{external_id[-1]}"
