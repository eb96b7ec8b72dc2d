"""STS as the gate answers it: reading a request, who sent it, faults, and the answer's frame.

What lives here: the way of one STS request and the knobs that all calls share. What must not: who
gets which session (gate_sts_roles), or the syntax of parameters (gate_sts_request).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl

from multidict import CIMultiDict

from engine.testing import sigv4
from engine.testing.faults import FaultPlan
from engine.testing.gate_answer import Answer
from engine.testing.gate_auth import authenticate_sts, refuse_ended_sts
from engine.testing.gate_errors import STS_NAMESPACE, AwsError, sts_document
from engine.testing.gate_exchange import Exchange
from engine.testing.gate_federation import Federation
from engine.testing.gate_iam import Accounts, KeyRecord, account_of
from engine.testing.gate_link import Link
from engine.testing.gate_log import kept_parameters
from engine.testing.gate_s3 import early_faults
from engine.testing.gate_sts_roles import Issued, Issuer, identity

MAX_FORM = 256 * 1024  # bytes; a SAML assertion has up to 100,000 characters, percent-encoded
UNSIGNED = frozenset({"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"})
ISSUING = UNSIGNED | {"AssumeRole", "GetSessionToken"}


@dataclass(slots=True)
class Sts:
    """STS and its knobs.

    Attributes:
        delay: Seconds before every answer.
        fail_rate: Share of the calls for a session that end with InternalFailure.
        denied_with: Error code that every call for a session gets, or None.
        disabled: Pairs of account and Region glob for which STS is not activated.
        random: What ``fail_rate`` draws from.
    """

    accounts: Accounts
    faults: FaultPlan
    link: Link
    now: Callable[[], datetime]
    region: str | None
    federation: Federation = field(default_factory=Federation)
    delay: float = 0.0
    fail_rate: float = 0.0
    denied_with: str | None = None
    disabled: frozenset[tuple[str, str]] = frozenset()
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def reset(self) -> None:
        """No tokens, and all knobs but ``random`` as in the beginning."""
        self.federation.clear()
        self.delay = self.fail_rate = 0.0
        self.denied_with = None
        self.disabled = frozenset()

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
        exchange.parameters = kept_parameters(form)
        if exchange.action not in UNSIGNED:  # where a signature is not even looked at
            self._authenticate(exchange, document)
        exchange.faults = self.faults.due(exchange.action)
        await early_faults(exchange, self.link)
        if self.delay:
            await asyncio.sleep(self.delay)
        now = self.now()
        if exchange.action == "GetCallerIdentity":
            # Needs no permission, so a revoked session may ask as well.
            return _document(exchange, identity(_caller(exchange)), now)
        if exchange.action not in ISSUING:
            raise AwsError("InvalidAction", f"Could not find operation {exchange.action}")
        issued = self._issue(exchange, form, now)
        exchange.issued_key_id = issued.access_key_id
        return _document(exchange, issued.document, now)

    def _authenticate(self, exchange: Exchange, document: bytes) -> None:
        payload_hash = hashlib.sha256(document).hexdigest()
        now = self.now()
        exchange.record = authenticate_sts(
            exchange.request, payload_hash, self.accounts, self.region, now
        )
        exchange.access_key_id = exchange.record.access_key_id
        refuse_ended_sts(exchange.record, now)

    def _issue(self, exchange: Exchange, form: Mapping[str, str], now: datetime) -> Issued:
        record = exchange.record
        if record is not None and record.revoked:
            raise AwsError("AccessDenied", "An explicit deny revoked this session")
        if self.denied_with is not None:
            raise AwsError(self.denied_with)
        if self.fail_rate and self.random.random() < self.fail_rate:
            raise AwsError("InternalFailure")
        self._check_region(exchange, form)
        issuer = Issuer(self.accounts, self.federation)
        if exchange.action == "AssumeRoleWithWebIdentity":
            return issuer.with_web_identity(form, now)
        if exchange.action == "AssumeRoleWithSAML":
            return issuer.with_saml(form, now)
        if exchange.action == "GetSessionToken":
            return issuer.session_token(_caller(exchange), form, now)
        return issuer.assume_role(_caller(exchange), form, now)

    def _check_region(self, exchange: Exchange, form: Mapping[str, str]) -> None:
        """STS must be activated in the account that the session will be of."""
        account = account_of(form.get("RoleArn", ""))
        if exchange.action == "GetSessionToken":
            account = _caller(exchange).principal.account
        region = self.region or ""
        with contextlib.suppress(ValueError):  # unsigned calls name no Region
            header = exchange.request.headers.get("Authorization", "")
            region = sigv4.parse_authorization(header).region
        if any(a == account and fnmatchcase(region, glob) for a, glob in self.disabled):
            raise AwsError(
                "RegionDisabledException",
                f"STS is not activated in this region for account:{account}. Your account "
                "administrator can activate STS in this region using the IAM Console.",
            )


def refusal(exchange: Exchange, error: AwsError) -> Answer:
    """An error as STS writes it."""
    headers = CIMultiDict({"Content-Type": "text/xml", **error.headers})
    data = sts_document(error, exchange.request_id)
    return Answer(error.status, headers, data, error_code=error.code)


def _caller(exchange: Exchange) -> KeyRecord:
    assert exchange.record is not None
    return exchange.record


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
