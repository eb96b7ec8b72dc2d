"""The actions of a trust policy: which may stand there, and which let somebody in. PURE.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecuritytokenservice.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from engine.doctor.trust_principals import FEDERATED, is_unique_id

ASSUME = "sts:AssumeRole"
WEB_IDENTITY = "sts:AssumeRoleWithWebIdentity"
SAML = "sts:AssumeRoleWithSAML"
_ASSUMING = (ASSUME, WEB_IDENTITY, SAML)
# The last three only go with one of the others; by themselves they let nobody in.
KNOWN = (*_ASSUMING, "sts:TagSession", "sts:SetSourceIdentity", "sts:SetContext")

Wrong = tuple[str, str, str]
"""Level, text, fix."""


def listed(value: Any) -> list[Any]:
    """``value`` as a list: IAM takes one for the other."""
    return value if isinstance(value, list) else [value]


def allows(statement: Mapping[str, Any], action: str) -> bool:
    """Whether this is an Allow of ``action``."""
    return statement.get("Effect") == "Allow" and covers(statement, action)


def covers(statement: Mapping[str, Any], action: str) -> bool:
    """Whether ``action`` is among the statement's."""
    return any(
        isinstance(glob, str) and _matches(glob, action)
        for glob in listed(statement.get("Action", []))
    )


def action_complaints(statement: Mapping[str, Any]) -> Iterator[Wrong]:
    """What is wrong with the actions of one statement."""
    if "NotAction" in statement:
        yield "error", "NotAction in a trust policy", f'Write "Action": "{ASSUME}"'
        return
    actions = listed(statement.get("Action", []))
    if not actions:
        yield "error", "no Action", f'Write "Action": "{ASSUME}"'
    for action in actions:
        wrong = _wrong(action)
        if wrong is not None:
            yield wrong


def misfit(statement: Mapping[str, Any]) -> Wrong | None:
    """An Allow whose actions are others than those its principals can call."""
    principal = statement.get("Principal")
    if statement.get("Effect") != "Allow" or not isinstance(principal, Mapping):
        return None
    named = [action for action in _ASSUMING if covers(statement, action)]
    wanted = dict.fromkeys(
        _action_of(kind, name) for kind, value in principal.items() for name in listed(value)
    )
    if not named or not wanted or not wanted.keys().isdisjoint(named):
        return None
    return (
        "error",
        f"Principal of kind {', '.join(map(str, principal))} cannot call {', '.join(named)}: "
        "nobody is let in",
        f"Let Action be {', '.join(wanted)}",
    )


def ways_in(statement: Mapping[str, Any]) -> tuple[str, ...]:
    """The calls by which this statement lets somebody in, conditions aside."""
    if misfit(statement):
        return ()
    principal = statement.get("Principal")
    if isinstance(principal, Mapping):
        names = [name for value in principal.values() for name in listed(value)]
        if all(isinstance(name, str) and is_unique_id(name) for name in names):
            return ()
    elif principal is None and "NotPrincipal" not in statement:
        return ()
    return tuple(action for action in _ASSUMING if allows(statement, action))


def shuts_out_everyone(statement: Mapping[str, Any], ways: Collection[str]) -> bool:
    """Whether it is a Deny that nobody gets by who comes by one of ``ways``."""
    everyone = statement.get("Principal")
    if isinstance(everyone, Mapping):
        everyone = "*" if "*" in listed(everyone.get("AWS")) else None
    return (
        statement.get("Effect") == "Deny"
        and everyone == "*"
        and not statement.get("Condition")
        and all(covers(statement, way) for way in ways)
    )


def _wrong(action: Any) -> Wrong | None:
    if not isinstance(action, str) or not action.lower().startswith("sts:"):
        close = get_close_matches(f"sts:{action}".lower(), _BY_FOLDED, n=1, cutoff=0.8)
        return (
            "error",
            f"Action {action!r}: a trust policy may name actions of STS only",
            f"Did you mean {_BY_FOLDED[close[0]]}?"
            if close
            else "What the role may do belongs into its identity policies",
        )
    if not any(_matches(action, known) for known in KNOWN):
        close = get_close_matches(action.lower().strip(), _BY_FOLDED, n=1)
        hint = f"Did you mean {_BY_FOLDED[close[0]]}?" if close else f"Name {ASSUME}"
        return "error", f"Action {action!r} is none of a trust policy: it lets nobody in", hint
    if "*" in action or "?" in action:
        return (
            "warning",
            f"Action {action!r} allows more than to assume the role",
            f"Name {ASSUME}, and sts:TagSession or sts:SetSourceIdentity where used",
        )
    return None


def _action_of(kind: str, name: Any) -> str:
    """The call by which a principal assumes a role."""
    if kind != "Federated":
        return ASSUME
    match = FEDERATED.fullmatch(name) if isinstance(name, str) else None
    return SAML if match is not None and match[1] == "saml" else WEB_IDENTITY


def _matches(glob: str, action: str) -> bool:
    """By IAM's wildcards, which are ``*`` and ``?`` and no others; actions have no case."""
    pattern = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, action, re.IGNORECASE | re.DOTALL) is not None


_BY_FOLDED = {known.lower(): known for known in KNOWN}
