"""STS as the gate answers it: AssumeRole and GetCallerIdentity.

What lives here: the checks of an AssumeRole request in STS's words, and its XML. What must not:
who trusts whom (gate_iam).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from multidict import CIMultiDict

from engine.testing.faults import FaultPlan
from engine.testing.gate_answer import Answer
from engine.testing.gate_auth import authenticate_sts
from engine.testing.gate_errors import STS_NAMESPACE, AwsError, sts_document
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_iam import Accounts, Grant, KeyRecord, may_assume
from engine.testing.gate_link import Link
from engine.testing.gate_s3 import early_faults

MIN_DURATION, MAX_DURATION, DEFAULT_DURATION = 900, 43200, 3600
MAX_CHAINED_DURATION = 3600
MAX_FORM = 256 * 1024  # bytes; the policy is at most 2,048 characters, tokens are in the header
MAX_POLICY = 2048
_ROLE_ARN = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_TAG_KEY = re.compile(r"[\w .:/=+\-@]{1,128}")


@dataclass(slots=True)
class Sts:
    """STS and its knobs.

    Attributes:
        delay: Seconds before every answer.
        fail_rate: Share of AssumeRole calls that end with InternalFailure.
        denied_with: Error code that every AssumeRole gets, or None.
        random: What ``fail_rate`` draws from.
    """

    accounts: Accounts
    faults: FaultPlan
    link: Link
    now: Callable[[], datetime]
    region: str | None
    delay: float = 0.0
    fail_rate: float = 0.0
    denied_with: str | None = None
    random: random.Random = field(default_factory=lambda: random.Random(0))

    async def answer(self, exchange: Exchange) -> Answer:
        """Answer one request.

        Raises:
            AwsError: The request is refused.
            Dropped: A fault closed the connection.
        """
        request = exchange.request
        document = await request.content.read(MAX_FORM)
        while len(document) < MAX_FORM and (more := await request.content.read(MAX_FORM)):
            document += more
        exchange.bytes_in = len(document)
        form = dict(parse_qsl(document.decode(errors="replace"), keep_blank_values=True))
        exchange.action = form.get("Action", "Unknown")
        payload_hash = hashlib.sha256(document).hexdigest()
        exchange.record = authenticate_sts(
            request, payload_hash, self.accounts, self.region, self.now()
        )
        exchange.access_key_id = exchange.record.access_key_id
        exchange.faults = self.faults.due(exchange.action)
        await early_faults(exchange, self.link)
        if self.delay:
            await asyncio.sleep(self.delay)
        now = self.now()
        if exchange.action == "AssumeRole":
            inner = self._assume_role(exchange.record, form, now)
        elif exchange.action == "GetCallerIdentity":
            inner = _identity(exchange.record)
        else:
            raise AwsError("InvalidAction", f"Could not find operation {exchange.action}")
        return _document(exchange, inner, now)

    def _assume_role(self, caller: KeyRecord, form: Mapping[str, str], now: datetime) -> str:
        if self.denied_with is not None:
            raise AwsError(self.denied_with)
        if self.fail_rate and self.random.random() < self.fail_rate:
            raise AwsError("InternalFailure")
        arn, name, duration = _checked(form)
        limit = _session_policy(form.get("Policy"))
        principal = caller.principal
        role = self.accounts.role(arn)
        refused = role is None or not may_assume(principal, role)
        if role is None or refused or role.external_id not in (None, form.get("ExternalId")):
            # One answer for all reasons: AWS does not tell whether a role exists.
            raise AwsError(
                "AccessDenied",
                f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: "
                f"{arn}",
            )
        if principal.role_arn is not None and duration > MAX_CHAINED_DURATION:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed "
                "by role chaining.",
            )
        if duration > role.max_duration:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )
        issued = self.accounts.new_session(role, name, duration, now, limit)
        record = self.accounts.key(issued.access_key_id)
        assert record is not None and issued.expires_at is not None
        return (
            "<Credentials>"
            f"<AccessKeyId>{issued.access_key_id}</AccessKeyId>"
            f"<SecretAccessKey>{escape(issued.secret_access_key)}</SecretAccessKey>"
            f"<SessionToken>{escape(issued.session_token or '')}</SessionToken>"
            f"<Expiration>{issued.expires_at.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
            "</Credentials><AssumedRoleUser>"
            f"<AssumedRoleId>{escape(record.principal.user_id)}</AssumedRoleId>"
            f"<Arn>{escape(record.principal.arn)}</Arn>"
            "</AssumedRoleUser><PackedPolicySize>6</PackedPolicySize>" + _source_identity(form)
        )


def refusal(exchange: Exchange, error: AwsError) -> Answer:
    """An error as STS writes it."""
    headers = CIMultiDict({"Content-Type": "text/xml", **error.headers})
    data = sts_document(error, exchange.request_id)
    return Answer(error.status, headers, data, error_code=error.code)


def _checked(form: Mapping[str, str]) -> tuple[str, str, int]:
    """Role ARN, session name and duration of a request whose syntax is right."""
    arn = form.get("RoleArn", "")
    if not _ROLE_ARN.fullmatch(arn):
        raise AwsError("ValidationError", f"{arn or 'RoleArn'} is invalid")
    name = form.get("RoleSessionName", "")
    if not _SESSION_NAME.fullmatch(name):
        raise _invalid(name, "roleSessionName", r"satisfy regular expression pattern: [\w+=,.@-]*")
    text = form.get("DurationSeconds", str(DEFAULT_DURATION))
    duration = int(text) if text.isdecimal() else 0
    if duration < MIN_DURATION:
        raise _invalid(
            text, "durationSeconds", f"have value greater than or equal to {MIN_DURATION}"
        )
    if duration > MAX_DURATION:
        raise _invalid(text, "durationSeconds", f"have value less than or equal to {MAX_DURATION}")
    external_id = form.get("ExternalId")
    if external_id is not None and not _EXTERNAL_ID.fullmatch(external_id):
        raise _invalid(external_id, "externalId", "satisfy its regular expression pattern")
    for field_name, value in form.items():
        if re.fullmatch(r"Tags\.member\.\d+\.Key", field_name) and not _TAG_KEY.fullmatch(value):
            raise _invalid(value, field_name, "satisfy its regular expression pattern")
    if "Tags.member.51.Key" in form or "PolicyArns.member.11.arn" in form:
        raise AwsError("ValidationError", "Member must have length less than or equal to its limit")
    return arn, name, duration


def _session_policy(text: str | None) -> tuple[Grant, ...] | None:
    """The grants of a session policy: what its Allow statements name, conditions aside."""
    if text is None:
        return None
    if len(text) > MAX_POLICY:
        raise AwsError("PackedPolicyTooLarge")
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


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _invalid(value: str, name: str, constraint: str) -> AwsError:
    return AwsError(
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )


def _source_identity(form: Mapping[str, str]) -> str:
    value = form.get("SourceIdentity")
    return f"<SourceIdentity>{escape(value)}</SourceIdentity>" if value else ""


def _identity(record: KeyRecord) -> str:
    principal = record.principal
    return (
        f"<Arn>{escape(principal.arn)}</Arn><UserId>{escape(principal.user_id)}</UserId>"
        f"<Account>{principal.account}</Account>"
    )


def _document(exchange: Exchange, inner: str, now: datetime) -> Answer:
    action = exchange.action
    text = (
        f'<{action}Response xmlns="{STS_NAMESPACE}"><{action}Result>{inner}</{action}Result>'
        f"<ResponseMetadata><RequestId>{exchange.request_id}</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )
    # The same reading of the clock as in Expiration: their difference is the lifetime.
    date = format_datetime(now, usegmt=True)
    return Answer(200, CIMultiDict({"Content-Type": "text/xml", "Date": date}), text.encode())
