"""The conditions of a trust policy: does one really ask for an external id? PURE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

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
    fix = 'Compare it by "StringEquals": {"sts:ExternalId": "..."}'
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
