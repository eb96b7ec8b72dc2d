"""Masks for what must not be read: secrets in text, ids in messages.

The first line of defence is never to put a secret into a text; this is the second. Where it is
not sure it masks too much.
"""

from __future__ import annotations

import re
from functools import cache

# A backslash escapes in Redshift's literals, in JSON and in Python's repr alike. A quote that
# never closes takes the rest with it.
_QUOTED = r"""[be]?'(?:[^'\\]|''|\\.?)*'?|[be]?"(?:[^"\\]|""|\\.?)*"?"""


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """What is looked for, and what takes its place. Built when there is a text to mask."""
    # Words after which Redshift SQL, JDBC URLs, environments, JSON and STS forms carry a secret;
    # they may stand at the end of a longer name (aws_secret_access_key). Without = or : only a
    # quoted text is a value.
    named = re.compile(
        r"(password|passwd|pwd|credentials|access_?key_?id|secret_?access_?key|secret_?key"
        r"|client_?secret|customer_?key|assertion|token|token_?code|mfa_?code|device_?code"
        r"|code_?verifier|external[_-]?id|master_symmetric_key)"
        r"(?!\\?[\"']?\s*[:=]\s*\\?\"(?:\.\.\.|REPLACE-))"  # a placeholder in an example
        rf"(?:(\\?[\"']?\s*=\s*)(?:(?:{_QUOTED})?[^\s;&]*)"
        rf"|(\\?[\"']?\s*:\s*)(?:{_QUOTED}|[^\s;&]+)"
        rf"|(\s+(?:as\s+)?)(?:{_QUOTED}))",
        re.IGNORECASE | re.DOTALL,
    )
    header = re.compile(
        r"(authorization|x-amz-security-token|customer-key)"
        rf"([\"']\s*[:,]\s*|\s*:\s*)(?:{_QUOTED}|[^\r\n]*)",
        re.IGNORECASE,
    )
    # The user and password of a proxy, an endpoint or a database.
    userinfo = re.compile(r"""(://)[^/\s:@"'<>]*:[^/\s"'<>]*@""")
    key_id = re.compile(r"\b(A[KS]IA)[A-Z0-9]{10,}([A-Z0-9]{2})\b")
    signed = re.compile(r"(?i)((?:Signature|Security-Token|Credential)=)[^&\s\"',]+")
    xml = re.compile(
        r"<((?:Session)?Token(?:-\d+)?|SecretAccessKey)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL
    )
    return (
        (xml, r"<\1>***</\1>"),
        (header, r"\1\2***"),
        (signed, r"\1***"),
        (userinfo, r"\1***@"),
        (named, r"\1\2\3\4***"),
        (key_id, r"\1***\2"),
    )


def redact(text: str) -> str:
    """``text`` with every value that looks like a secret replaced by ``***``."""
    for pattern, mask in _patterns():
        text = pattern.sub(mask, text)
    return text


def mask_key_id(access_key_id: str) -> str:
    """``AKIA***7Q``: enough to tell keys apart, too little to use."""
    return f"{access_key_id[:4]}***{access_key_id[-2:]}" if len(access_key_id) > 8 else "***"


def mask_external_id(external_id: str | None) -> str:
    """``x***2``. An external id is not a secret for AWS, and still nobody else's business."""
    if not external_id:
        return "none"
    if len(external_id) < 6:
        return "***"  # two characters would be most of it
    return f"{external_id[0]}***{external_id[-1]}"
