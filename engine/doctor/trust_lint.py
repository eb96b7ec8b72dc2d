"""A trust policy read without any call: what in it lets in whom it should not, or nobody. PURE.

The rules are those of the confused deputy, and of what IAM refuses or takes without a word:
https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html

What must not live here: reading files, printing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from typing import Any

from engine.doctor.trust_actions import (
    action_complaints,
    allows,
    listed,
    misfit,
    shuts_out_everyone,
    ways_in,
)
from engine.doctor.trust_conditions import (
    external_id_complaints,
    external_id_misses,
    is_limited,
    is_own_organisation,
    wants_external_id,
)
from engine.doctor.trust_document import NotAPolicy, read_trust_document
from engine.doctor.trust_principals import (
    ACCOUNT_OF,
    EVERYONE,
    FEDERATED,
    ROOT_OF,
    SERVICES_WITHOUT_SOURCE,
    is_account,
    is_unique_id,
    principal_complaint,
)


class Level(Enum):
    """How bad it is: an error ends the lint with exit code 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong.

    Attributes:
        statement: Index in the policy, from 1; 0 for the document.
        place: ``line 3 column 7`` where the text itself is not to be read, else ``""``.
    """

    level: Level
    text: str
    fix: str = ""
    statement: int = 0
    place: str = ""


_STATEMENT_KEYS = ("Sid", "Effect", "Principal", "Action", "Condition", "NotPrincipal", "NotAction")
_POLICY_KEYS = ("Version", "Id", "Statement")
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html
_VERSION = "2012-10-17"
_OLD_VERSION = "2008-10-17"


def lint_trust_policy(
    text: str, *, account: str | None = None, tags: bool = False, external_id: str | None = None
) -> tuple[Complaint, ...]:
    """Everything wrong with a trust policy, in its order.

    Args:
        text: The policy, or what ``aws iam get-role`` prints.
        account: Of the role; with it the principals of other accounts are told from its own.
        tags: The sessions will carry tags.
        external_id: The one that will be sent; shown masked.
    """
    try:
        document = read_trust_document(text)
    except NotAPolicy as error:
        return (Complaint(Level.ERROR, error.text, error.fix, place=error.place),)
    policy, account = document.policy, account or document.account
    found = list(_document(policy))
    statements = listed(policy.get("Statement", []))
    for number, statement in enumerate(statements, 1):
        if not isinstance(statement, dict):
            found.append(Complaint(Level.ERROR, "no object", statement=number))
            continue
        found += [replace(c, statement=number) for c in _statement(statement, account)]
    objects = [s if isinstance(s, dict) else {} for s in statements]
    if external_id and external_id.strip():
        found += [
            Complaint(Level(level), text, fix, number)
            for number, level, text, fix in external_id_misses(objects, external_id)
        ]
    found += _nobody(objects)
    if tags and not any(allows(statement, "sts:TagSession") for statement in objects):
        found.append(
            Complaint(
                Level.ERROR,
                "sessions get tags, and no statement allows sts:TagSession",
                'Let "Action" be ["sts:AssumeRole", "sts:TagSession"]',
            )
        )
    return tuple(found)


def _nobody(statements: list[dict[str, Any]]) -> Iterator[Complaint]:
    """A policy that nobody gets in by, where no statement has said so itself."""
    ways = {way for statement in statements for way in ways_in(statement)}
    if ways:
        for number, statement in enumerate(statements, 1):
            if shuts_out_everyone(statement, ways):
                yield Complaint(
                    Level.ERROR,
                    "Deny of everyone without a Condition: nobody may assume the role, whatever "
                    "else is allowed",
                    "Take it out, or say by a Condition whom it is for",
                    number,
                )
    elif not statements:
        return  # told of the document
    elif all(statement.get("Effect") == "Deny" for statement in statements):
        yield Complaint(
            Level.ERROR,
            "only Deny: nobody may assume the role, for what is not allowed is denied anyway",
            'Add a statement with "Effect": "Allow"',
        )
    elif not any(_has_error(statement) for statement in statements):
        yield Complaint(
            Level.ERROR,
            "no statement lets anybody assume the role",
            'Let "Action" be "sts:AssumeRole", and name in Principal who may',
        )


def _has_error(statement: dict[str, Any]) -> bool:
    return any(complaint.level is Level.ERROR for complaint in _statement(statement, None))


def _document(policy: Mapping[str, Any]) -> Iterator[Complaint]:
    yield from _unknown(policy, _POLICY_KEYS)
    version = policy.get("Version")
    if version in (None, _OLD_VERSION):
        yield Complaint(
            Level.WARNING,
            f"Version is not {_VERSION}",
            f'Write "Version": "{_VERSION}"; without it IAM reads the policy by its oldest rules',
        )
    elif version != _VERSION:
        yield Complaint(
            Level.ERROR,
            f"Version is {version!r}: IAM takes {_VERSION} and {_OLD_VERSION} only",
            f'Write "Version": "{_VERSION}"; it is the version of the language, not of the policy',
        )
    if not policy.get("Statement"):
        yield Complaint(Level.ERROR, "no Statement: nobody may assume the role")


def _unknown(value: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[Complaint]:
    for name in value:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else ""
            yield Complaint(Level.ERROR, f"{name!r} has no place in a trust policy", hint)


def _statement(statement: Mapping[str, Any], account: str | None) -> Iterator[Complaint]:
    yield from _unknown(statement, _STATEMENT_KEYS)
    effect = statement.get("Effect")
    if effect not in ("Allow", "Deny"):
        yield Complaint(Level.ERROR, f"Effect is {effect!r}", "Write Allow or Deny")
    for level, text, fix in action_complaints(statement):
        yield Complaint(Level(level), text, fix)
    if effect == "Deny":
        return
    if "NotPrincipal" in statement:
        yield Complaint(
            Level.ERROR,
            "Allow with NotPrincipal lets in everyone but those named, of any account",
            "Name who may assume the role in Principal",
        )
        return
    if "Principal" not in statement:
        yield Complaint(Level.ERROR, "no Principal: nobody is let in")
        return
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, dict):
        yield Complaint(Level.ERROR, "Condition is no object")
        conditions = {}
    for level, text, fix in external_id_complaints(conditions):
        yield Complaint(Level(level), text, fix)
    yield from _principals(statement["Principal"], conditions, account)
    wrong = misfit(statement)
    if wrong is not None:
        yield Complaint(Level(wrong[0]), *wrong[1:])


def _principals(
    principal: Any, conditions: Mapping[str, Any], account: str | None
) -> Iterator[Complaint]:
    if principal == "*":
        yield _everyone(conditions)
        return
    if not isinstance(principal, dict):
        yield Complaint(Level.ERROR, f"Principal {principal!r} is no object")
        return
    for kind, value in principal.items():
        names = listed(value)
        if not names:
            yield Complaint(Level.ERROR, f"Principal {kind} is empty")
        for name in names:
            yield from _principal(kind, name, conditions, account)


def _principal(
    kind: str, name: Any, conditions: Mapping[str, Any], account: str | None
) -> Iterator[Complaint]:
    if kind == "AWS" and name == EVERYONE:
        yield _everyone(conditions)
        return
    wrong = principal_complaint(kind, name)
    if wrong is not None:
        level, text, fix = wrong
        yield Complaint(Level(level), text, fix)
        if level == "error" or (kind == "AWS" and is_unique_id(name)):
            return  # nobody is let in: nothing to guard
    if kind == "AWS":
        yield from _account_principal(name, conditions, account)
    elif kind == "Service":
        yield from _service(name, conditions)
    elif kind == "Federated":
        yield from _federated(name, conditions)


def _everyone(conditions: Mapping[str, Any]) -> Complaint:
    if is_limited(conditions):
        return Complaint(
            Level.WARNING,
            "Principal is everyone, and only a Condition limits it",
            "Name the principals; a condition that is lost later opens the role to the world",
        )
    return Complaint(
        Level.ERROR,
        "Principal is everyone: any AWS account may assume the role",
        'Name who may: "Principal": {"AWS": "arn:aws:iam::111122223333:user/name"}',
    )


def _account_principal(
    name: str, conditions: Mapping[str, Any], account: str | None
) -> Iterator[Complaint]:
    match = ACCOUNT_OF.match(name)
    owner = name if is_account(name) else (match[1] if match else "")
    whole = is_account(name) or ROOT_OF.fullmatch(name) is not None
    other = account is None or owner != account
    if whole:
        yield Complaint(
            Level.NOTE,
            f"{name} is the whole account {owner}, not its root user: everyone there who is "
            "allowed sts:AssumeRole",
            "Name the user or role where it is known",
        )
    if not other or wants_external_id(conditions) or is_own_organisation(conditions):
        return
    open_to_all = whole and not is_limited(conditions)
    unless = "" if account else f" (unless {owner} is the role's own account: give --role-arn)"
    yield Complaint(
        Level.ERROR if open_to_all and account else Level.WARNING,
        f"confused deputy: {name} is of another account and no external id is asked for{unless}",
        'Add "Condition": {"StringEquals": {"sts:ExternalId": "..."}} where that account works '
        "for more than one customer",
    )


def _service(name: str, conditions: Mapping[str, Any]) -> Iterator[Complaint]:
    if name in SERVICES_WITHOUT_SOURCE or is_limited(conditions):
        return
    yield Complaint(
        Level.WARNING,
        f"confused deputy: {name} may use the role for anybody's resources",
        'Add "Condition": {"StringEquals": {"aws:SourceAccount": "111122223333"}} or aws:SourceArn '
        "where the service sends it",
    )


def _federated(name: str, conditions: Mapping[str, Any]) -> Iterator[Complaint]:
    match = FEDERATED.fullmatch(name)
    if match is None:
        return
    wanted = "saml:aud" if match[1] == "saml" else f"{match[2]}:sub"
    keys = {key.lower() for test in conditions.values() if isinstance(test, dict) for key in test}
    if wanted.lower() in keys:
        return
    yield Complaint(
        Level.WARNING if match[1] == "saml" else Level.ERROR,
        f"everyone whom {match[2]} vouches for may assume the role: no condition on {wanted}",
        f'Add "Condition": {{"StringEquals": {{"{wanted}": "..."}}}}',
    )
