"""The parameters of STS requests, checked in STS's words.

What lives here: lengths, patterns and limits of each parameter, by botocore's model of STS. What
must not: state; whether a role exists and whom it trusts comes later (gate_sts_roles).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.testing.gate_errors import AwsError
from engine.testing.gate_iam import Grant

MIN_DURATION, MAX_DURATION, DEFAULT_DURATION = 900, 43200, 3600
MAX_CHAINED_DURATION = 3600
MAX_POLICY = 2048
MAX_TAGS = 50
MAX_POLICY_ARNS = 10
MAX_CONTEXTS = 5
# AWS does not publish how it packs policies and tags, only that there is a limit of its own. Here
# it is this many bytes after deflate.
MAX_PACKED = 2048

# Key, value and resource patterns of the model: \p{L}\p{Z}\p{N} and some signs.
_SPACES = " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_TAG_TEXT = rf"[\w{_SPACES}.:/=+\-@]"
_ROLE_ARN = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_SERIAL = re.compile(r"[\w+=/:,.@-]{9,256}", re.ASCII)
_CODE = re.compile(r"\d{6}", re.ASCII)
_TAG_KEY = re.compile(_TAG_TEXT + "{1,128}")
_TAG_VALUE = re.compile(_TAG_TEXT + "{0,256}")
_POLICY_TEXT = re.compile(r"[\t\n\r\x20-\xff]+")


@dataclass(frozen=True, slots=True)
class RoleRequest:
    """What every call that assumes a role asks, checked.

    Attributes:
        duration: Seconds.
        policy: The grants of the inline session policy, or None.
        policy_arns: Managed session policies.
        packed_percent: Of the packed limit, or None where nothing is packed.
    """

    role_arn: str
    session_name: str
    duration: int
    policy: tuple[Grant, ...] | None
    policy_arns: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()
    transitive_keys: tuple[str, ...] = ()
    external_id: str | None = field(default=None, repr=False)
    source_identity: str | None = None
    serial_number: str | None = None
    token_code: str | None = field(default=None, repr=False)
    packed_percent: int | None = None


def role_request(form: Mapping[str, str]) -> RoleRequest:
    """The parameters of AssumeRole.

    Raises:
        AwsError: ValidationError, or the code that a policy or the tags are refused with.
    """
    tags, keys = _tags(form)
    _check_contexts(form)
    source = _matching(form, "SourceIdentity", _NAME)
    if source is not None and source.lower().startswith("aws:"):
        raise _invalid(source, "sourceIdentity", "not begin with aws:")
    return RoleRequest(
        role_arn=_role_arn(form),
        session_name=_session_name(form),
        duration=duration(form, DEFAULT_DURATION, MAX_DURATION),
        policy=session_policy(form.get("Policy")),
        policy_arns=_policy_arns(form),
        tags=tags,
        transitive_keys=keys,
        external_id=_matching(form, "ExternalId", _EXTERNAL_ID),
        source_identity=source,
        serial_number=_matching(form, "SerialNumber", _SERIAL),
        token_code=_matching(form, "TokenCode", _CODE),
        packed_percent=_packed(form, tags),
    )


def federated_request(form: Mapping[str, str], *, session_name: str | None = None) -> RoleRequest:
    """The parameters that AssumeRoleWithWebIdentity and AssumeRoleWithSAML share.

    Args:
        form: The request.
        session_name: Where it does not come with the request: in the SAML assertion.

    Raises:
        AwsError: ValidationError, or the code that a policy is refused with.
    """
    return RoleRequest(
        role_arn=_role_arn(form),
        session_name=_session_name(form) if session_name is None else session_name,
        duration=duration(form, DEFAULT_DURATION, MAX_DURATION),
        policy=session_policy(form.get("Policy")),
        policy_arns=_policy_arns(form),
        packed_percent=_packed(form, ()),
    )


def token_text(form: Mapping[str, str], name: str, longest: int) -> str:
    """A token or an assertion: 4 characters to ``longest``.

    Raises:
        AwsError: ValidationError.
    """
    text = form.get(name, "")
    if not 4 <= len(text) <= longest:
        # The text itself is a secret, so it is not repeated.
        raise _invalid("***", _member(name), f"have length between 4 and {longest}")
    return text


def mfa_pair(form: Mapping[str, str]) -> tuple[str | None, str | None]:
    """SerialNumber and TokenCode of GetSessionToken.

    Raises:
        AwsError: ValidationError.
    """
    return _matching(form, "SerialNumber", _SERIAL), _matching(form, "TokenCode", _CODE)


def duration(form: Mapping[str, str], default: int, longest: int) -> int:
    """DurationSeconds.

    Raises:
        AwsError: ValidationError.
    """
    text = form.get("DurationSeconds", str(default))
    seconds = int(text) if text.isascii() and text.isdecimal() else 0
    if seconds < MIN_DURATION:
        raise _invalid(
            text, "durationSeconds", f"have value greater than or equal to {MIN_DURATION}"
        )
    if seconds > longest:
        raise _invalid(text, "durationSeconds", f"have value less than or equal to {longest}")
    return seconds


def session_policy(text: str | None) -> tuple[Grant, ...] | None:
    """The grants of a session policy: what its Allow statements name, conditions aside.

    Raises:
        AwsError: ValidationError, PackedPolicyTooLarge or MalformedPolicyDocument.
    """
    if text is None:
        return None
    if len(text) > MAX_POLICY:
        raise AwsError("PackedPolicyTooLarge")
    if not _POLICY_TEXT.fullmatch(text):
        raise _invalid("***", "policy", "satisfy its regular expression pattern")
    try:
        statements = _listed(json.loads(text)["Statement"])
        return tuple(
            (action, resource.removeprefix("arn:aws:s3:::"))
            for statement in statements
            if statement["Effect"] == "Allow"
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AwsError("MalformedPolicyDocument", "Syntax errors in policy.") from None


def _role_arn(form: Mapping[str, str]) -> str:
    arn = form.get("RoleArn", "")
    if not 20 <= len(arn) <= 2048 or not _ROLE_ARN.fullmatch(arn):
        raise AwsError("ValidationError", f"{arn or 'RoleArn'} is invalid")
    return arn


def _session_name(form: Mapping[str, str]) -> str:
    name = form.get("RoleSessionName", "")
    if not _NAME.fullmatch(name):
        raise _invalid(name, "roleSessionName", r"satisfy regular expression pattern: [\w+=,.@-]*")
    return name


def _matching(form: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str | None:
    value = form.get(name)
    if value is not None and not pattern.fullmatch(value):
        shown = "***" if name == "TokenCode" else value
        raise _invalid(shown, _member(name), "satisfy its regular expression pattern")
    return value


def _tags(form: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Tags and the keys of the transitive ones."""
    keys, values = _numbered(form, "Tags.member", ".Key"), _numbered(form, "Tags.member", ".Value")
    transitive = _numbered(form, "TransitiveTagKeys.member", "")
    if len(keys) > MAX_TAGS or len(transitive) > MAX_TAGS:
        raise AwsError(
            "ValidationError", f"Member must have length less than or equal to {MAX_TAGS}"
        )
    for key in (*keys.values(), *transitive.values()):
        if not _TAG_KEY.fullmatch(key) or key.lower().startswith("aws:"):
            raise _invalid(key, "tags.member.key", "satisfy its regular expression pattern")
    for number in keys:
        value = values.get(number)
        if value is None or not _TAG_VALUE.fullmatch(value):
            raise _invalid(
                value or "null", "tags.member.value", "satisfy its regular expression pattern"
            )
    known = [key.lower() for key in keys.values()]
    if len(set(known)) < len(known):
        raise AwsError(
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    return tuple((key, values[number]) for number, key in keys.items()), tuple(transitive.values())


def _policy_arns(form: Mapping[str, str]) -> tuple[str, ...]:
    arns = tuple(_numbered(form, "PolicyArns.member", ".arn").values())
    if len(arns) > MAX_POLICY_ARNS:
        raise AwsError(
            "ValidationError", f"Member must have length less than or equal to {MAX_POLICY_ARNS}"
        )
    for arn in arns:
        if not 20 <= len(arn) <= 2048:
            raise _invalid(arn, "policyArns.member.arn", "have length between 20 and 2048")
    if len(form.get("Policy", "")) + sum(map(len, arns)) > MAX_POLICY:
        raise AwsError("PackedPolicyTooLarge")
    return arns


def _check_contexts(form: Mapping[str, str]) -> None:
    providers = _numbered(form, "ProvidedContexts.member", ".ProviderArn")
    assertions = _numbered(form, "ProvidedContexts.member", ".ContextAssertion")
    if max(len(providers), len(assertions)) > MAX_CONTEXTS:
        raise AwsError(
            "ValidationError", f"Member must have length less than or equal to {MAX_CONTEXTS}"
        )
    wrong = [arn for arn in providers.values() if not 20 <= len(arn) <= 2048]
    if wrong or any(not 4 <= len(text) <= 2048 for text in assertions.values()):
        raise _invalid("***", "providedContexts", "have lengths within their limits")


def _packed(form: Mapping[str, str], tags: tuple[tuple[str, str], ...]) -> int | None:
    parts = [form.get("Policy", ""), *_numbered(form, "PolicyArns.member", ".arn").values()]
    parts += [text for pair in tags for text in pair]
    text = "\n".join(part for part in parts if part)
    if not text:
        return None
    percent = -(-len(zlib.compress(text.encode())) * 100 // MAX_PACKED)
    if percent > 100:
        raise AwsError(
            "PackedPolicyTooLarge", f"Serialized policy and tags are at {percent} % of the limit."
        )
    return percent


def _numbered(form: Mapping[str, str], list_name: str, field: str) -> dict[int, str]:
    """The members of a list in the request, by their number, in order."""
    pattern = re.compile(rf"{re.escape(list_name)}\.(\d+){re.escape(field)}", re.ASCII)
    found = ((pattern.fullmatch(name), value) for name, value in form.items())
    return dict(sorted((int(match[1]), value) for match, value in found if match))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _member(name: str) -> str:
    return name[0].lower() + name[1:]


def _invalid(value: str, name: str, constraint: str) -> AwsError:
    return AwsError(
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )
