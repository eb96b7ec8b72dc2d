"""The conditions of a trust policy: does one really ask for an external id? PURE.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
What must not live here: who is let in (``trust_principals.py``), what for (``trust_actions.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.redact import mask_external_id

EXTERNAL_ID = "sts:externalid"
# Conditions that say whose a principal is, or for whose sake a service calls.
_LIMITS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceorgid",
        "aws:sourceorgpaths",
    }
)
_ORGANISATION = frozenset({"aws:principalorgid", "aws:principalorgpaths"})
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
_VALID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_COMPARE = '"StringEquals": {"sts:ExternalId": "..."}'

Wrong = tuple[str, str, str]
"""Level, text, fix."""


def wants_external_id(conditions: Mapping[str, Any]) -> bool:
    """Whether the role is not to be had without one certain external id."""
    return any(_really_asks(test, values) for test, values in _tests(conditions, {EXTERNAL_ID}))


def is_limited(conditions: Mapping[str, Any]) -> bool:
    """Whether a condition says whose principals, or whose resources, are meant."""
    return any(
        _is_positive(test) and any(set(value) - set("*?") for value in values)
        for test, values in _tests(conditions, _LIMITS)
    )


def is_own_organisation(conditions: Mapping[str, Any]) -> bool:
    """Whether only principals of one organisation are let in: no third party."""
    return any(
        _is_positive(test) and any(set(value) - set("*?") for value in values)
        for test, values in _tests(conditions, _ORGANISATION)
    )


def external_id_complaints(conditions: Mapping[str, Any]) -> Iterator[Wrong]:
    """What is wrong with the conditions on the external id."""
    fix = f"Compare it by {_COMPARE}"
    for test, values in _tests(conditions, {EXTERNAL_ID}):
        name = test.lower()
        if name.endswith("ifexists"):
            yield "error", f"{test} on sts:ExternalId holds where none is sent", fix
        elif name.startswith("forallvalues:"):
            yield "error", f"{test} on sts:ExternalId holds where none is sent", fix
        elif name == "null" or "not" in name:
            yield "error", f"{test} on sts:ExternalId takes nearly any external id", fix
        elif "like" in name and any(not set(value) - set("*?") for value in values):
            yield "error", f"{test} on sts:ExternalId with {values[0]!r} takes any external id", fix
        elif "like" in name and any("*" in value or "?" in value for value in values):
            yield "warning", f"{test} on sts:ExternalId with a wildcard takes many", fix
        elif not values:
            yield "error", f"{test} on sts:ExternalId has no value", fix
        yield from _values(values, name)


def external_id_misses(
    statements: Sequence[Mapping[str, Any]], sent: str
) -> Iterator[tuple[int, str, str, str]]:
    """Number of the statement, level, text and fix where ``sent`` is not what is asked for.

    A policy may let in several parties, each by an id of its own: one that fits is enough.
    """
    asking: list[tuple[int, Mapping[str, Any]]] = []
    for number, statement in enumerate(statements, 1):
        conditions = statement.get("Condition")
        if statement.get("Effect") == "Allow" and isinstance(conditions, dict):
            if any(_tests(conditions, {EXTERNAL_ID})):
                asking.append((number, conditions))
    shown = mask_external_id(sent)
    if not asking:
        yield (
            0,
            "warning",
            f"external id {shown} is to be sent, and no statement asks for one",
            f"Add {_COMPARE}, or send none",
        )
    if any(_takes(conditions, sent) for _, conditions in asking):
        return
    for number, conditions in asking:
        tests = list(_tests(conditions, {EXTERNAL_ID}))
        values = [value for test, values in tests if _is_positive(test) for value in values]
        wanted = ", ".join(map(mask_external_id, values)) or "others"
        alike = sent.strip().casefold() in [value.strip().casefold() for value in values]
        yield (
            number,
            "error",
            f"wants another external id: {wanted}, not {shown}",
            "They differ in case or blanks only; both count"
            if alike
            else "Send the one that the role's owner gave (--external-id), or have it put here",
        )


def _takes(conditions: Mapping[str, Any], external_id: str) -> bool:
    """Whether all conditions on the external id hold where this one is sent."""
    return all(
        _holds(test.lower(), values, external_id)
        for test, values in _tests(conditions, {EXTERNAL_ID})
    )


def _holds(test: str, values: list[str], sent: str) -> bool:
    """One test, where an external id is sent."""
    operator = test.removeprefix("foranyvalue:").removeprefix("forallvalues:")
    operator = operator.removesuffix("ifexists")
    if operator == "null":
        return all(value.lower() == "false" for value in values)
    if "like" in operator:
        found = any(_like(value, sent) for value in values)
    elif "ignorecase" in operator:
        found = sent.lower() in [value.lower() for value in values]
    else:
        found = sent in values
    return found is not ("not" in operator)


def _like(glob: str, text: str) -> bool:
    pattern = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def _values(values: list[str], test: str) -> Iterator[Wrong]:
    if test == "null":
        return
    if "like" not in test and any(not _VALID.fullmatch(value) for value in values):
        yield (
            "error",
            "an external id in the policy is one that STS does not take, so nobody can send it",
            "2 to 1,224 letters, digits and _+=,.@:/-",
        )


def _really_asks(test: str, values: list[str]) -> bool:
    if not _is_positive(test) or not values:
        return False
    wild = "like" in test.lower()
    return not (wild and any(not set(value) - set("*?") for value in values))


def _is_positive(test: str) -> bool:
    """Whether the test fails where the key is missing, and names what is allowed. ForAllValues
    does not, and so is none of those below."""
    name = test.lower().removeprefix("foranyvalue:")
    return not name.endswith("ifexists") and name.startswith(
        ("stringequals", "stringlike", "arnequals", "arnlike")
    )


def _tests(
    conditions: Mapping[str, Any], keys: set[str] | frozenset[str]
) -> Iterator[tuple[str, list[str]]]:
    """Operator and values of every test of one of ``keys``; names of keys have no case."""
    for test, block in conditions.items():
        if not isinstance(block, dict):
            continue
        for key, value in block.items():
            if str(key).lower() in keys:
                listed = value if isinstance(value, list) else [value]
                yield test, [str(item) for item in listed]
