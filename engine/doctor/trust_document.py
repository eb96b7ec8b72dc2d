"""From the text of a file to the trust policy in it. PURE.

It may be the policy itself, what ``aws iam get-role`` prints, or the document as IAM's API sends
it: URL-encoded JSON (RFC 3986).
https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html

What must not live here: what is wrong with the policy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

_ACCOUNT = re.compile(r"arn:[\w-]+:iam::(\d{12}):role/")
_DOCUMENT = "AssumeRolePolicyDocument"
_HOW = "Give the policy itself, or what aws iam get-role --role-name NAME prints"


@dataclass(frozen=True, slots=True)
class TrustDocument:
    """A policy, and the account of its role where the file names the role."""

    policy: Mapping[str, Any]
    account: str | None = None


class NotAPolicy(ValueError):
    """What is wrong with the file.

    Attributes:
        place: ``line 3 column 7``, or "".
    """

    def __init__(self, text: str, fix: str = "", place: str = "") -> None:
        super().__init__(text)
        self.text, self.fix, self.place = text, fix, place


def read_trust_document(text: str) -> TrustDocument:
    """Find the policy.

    Raises:
        NotAPolicy: There is none.
    """
    document = _read(text)
    if isinstance(document, str):  # a document that was printed with its quotes
        document = _read(document)
    if not isinstance(document, dict):
        raise NotAPolicy("not a policy: the document is no object", _HOW)
    role = document.get("Role", document)
    if "Role" in document and (not isinstance(role, dict) or _DOCUMENT not in role):
        raise NotAPolicy(f"a role without its {_DOCUMENT}: nothing to read", _HOW)
    if "Roles" in document:
        raise NotAPolicy("a list of roles: one policy at a time is read", _HOW)
    if _DOCUMENT not in role:
        return TrustDocument(document)
    policy = role[_DOCUMENT]
    if isinstance(policy, str):
        policy = _read(policy, f"{_DOCUMENT} is ")
    if not isinstance(policy, dict):
        raise NotAPolicy(f"{_DOCUMENT} is no object", _HOW)
    match = _ACCOUNT.match(str(role.get("Arn", "")))
    return TrustDocument(policy, match[1] if match else None)


def _read(text: str, what: str = "") -> Any:
    if text.lstrip().startswith("%7"):
        text = unquote(text.strip())
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = "" if what else f"line {error.lineno} column {error.colno}"
        raise NotAPolicy(f"{what}not JSON: {error.msg}", place=place) from None
    except RecursionError:
        raise NotAPolicy("not a policy: nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's readers take the last of two equal names; IAM refuses both."""
    seen = dict(pairs)
    for name in seen:
        if sum(name == other for other, _ in pairs) > 1:
            raise NotAPolicy(f"{name!r} stands twice in one object; IAM refuses that")
    return seen
