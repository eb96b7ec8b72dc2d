"""Every secret that an AWS double has given out, in the forms in which it might be seen.

What must not live here: where they are looked for.
"""

from __future__ import annotations

from urllib.parse import quote, quote_plus

from engine.testing.aws import AwsDouble


def secrets_of(aws: AwsDouble) -> list[str]:
    """Secret keys and session tokens of all users and sessions so far, also percent-encoded."""
    found: set[str] = set()
    for record in tuple(aws.gate.accounts._keys.values()):
        for text in (record.secret_access_key, record.session_token):
            if text:
                found |= {text, quote(text, safe=""), quote_plus(text)}
    return sorted(found)
