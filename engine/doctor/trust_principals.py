"""The forms of principals in a trust policy, and which of them are mistakes. PURE."""

from __future__ import annotations

import re
from typing import Any

EVERYONE = "*"
# An account by its number alone, or the ARN of its root: the same to IAM.
ROOT_OF = re.compile(r"arn:(?:aws|aws-cn|aws-us-gov):iam::(\d{12}):root")
ACCOUNT_OF = re.compile(r"arn:(?:aws|aws-cn|aws-us-gov):(?:iam|sts)::(\d{12}):")
# Provider ARN -> its kind and its name.
FEDERATED = re.compile(r"arn:[\w-]+:iam::\d{12}:(oidc|saml)-provider/(.+)")
# Services that hand a role to what the account itself attaches it to, and send no source.
SERVICES_WITHOUT_SOURCE = frozenset(
    {
        "ec2.amazonaws.com",
        "ec2.amazonaws.com.cn",
        "pods.eks.amazonaws.com",
        "redshift.amazonaws.com",
    }
)
_KINDS = ("AWS", "Service", "Federated", "CanonicalUser")
_ARN = re.compile(
    r"arn:(?:aws|aws-cn|aws-us-gov):(?:iam|sts)::(\d{12}):"
    r"(?:root|user/[^*?]+|role/[^*?]+|assumed-role/[^*?/]+/[^*?/]+|federated-user/[^*?]+)"
)
_ANY_ARN = re.compile(r"arn:[^:]*:[^:]*:[^:]*:([^:]*):(.*)")
_UNIQUE_ID = re.compile(r"A(?:IDA|ROA)[A-Z0-9]{12,}")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?")

Wrong = tuple[str, str, str]
"""Level, text, fix."""


def is_account(name: str) -> bool:
    """Whether it is an account's number."""
    return re.fullmatch(r"[0-9]{12}", name) is not None


def is_unique_id(name: str) -> bool:
    """Whether it is what IAM shows in place of a user or role that was deleted."""
    return _UNIQUE_ID.fullmatch(name) is not None


def principal_complaint(kind: str, name: Any) -> Wrong | None:
    """What is wrong with the form of one principal."""
    if kind not in _KINDS:
        return "error", f"Principal of kind {kind!r}", f"Write one of {', '.join(_KINDS)}"
    if not isinstance(name, str):
        return "error", f"Principal {name!r} is no text", ""
    if kind == "AWS":
        return _aws(name)
    if kind == "Service" and not _SERVICE.fullmatch(name):
        return "error", f"{name!r} is no service", "Write it as ec2.amazonaws.com"
    return None


def _aws(name: str) -> Wrong | None:
    if is_account(name):
        return None
    if is_unique_id(name):
        return (
            "warning",
            f"{name} is the id of a user or role that was deleted; nobody is let in by it",
            "Name the one that took its place",
        )
    if _ARN.fullmatch(name):
        if ":assumed-role/" not in name:
            return None
        role = re.sub(r":sts:(:\d{12}):assumed-role/([^/]+)/.*", r":iam:\1:role/\2", name)
        return (
            "warning",
            f"{name} is one session: the next one, by another name, is not let in",
            f"Name the role: {role}",
        )
    match = _ANY_ARN.fullmatch(name)
    if match is None:
        return (
            "error",
            f"{name!r} is neither an account nor an ARN",
            "An account has twelve digits; a user is arn:aws:iam::111122223333:user/name",
        )
    if not is_account(match[1]):
        return "error", f"{name}: {match[1]!r} is no account", "An account has twelve digits"
    if "*" in match[2] or "?" in match[2]:
        return (
            "error",
            f"{name}: IAM takes no wildcard inside of a principal",
            "Name the account, and limit it by a Condition on aws:PrincipalArn",
        )
    return (
        "error",
        f"{name} is no user, role, session or root",
        "Groups and other resources cannot be principals",
    )
