"""Web identity tokens and SAML assertions as an identity provider would issue them.

What lives here: issuing, and knowing again what was issued. What must not: STS's decision about
them (gate_sts_roles), or a real signature; the gate knows its own tokens by heart instead.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from engine.errors import UsageError

AUDIENCE = "sts.amazonaws.com"
SAML_AUDIENCE = "urn:amazon:webservices"
SAML_USABLE = timedelta(minutes=5)  # AWS: "must be redeemed within 5 minutes of issuance"
MAX_ISSUED = 100_000  # tokens and assertions that are remembered; beyond it the oldest go


@dataclass(frozen=True, slots=True)
class WebToken:
    """What a web identity token says."""

    subject: str
    issuer: str
    audience: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SamlAssertion:
    """What a SAML assertion says.

    Attributes:
        session_not_on_or_after: The end of every session got with it, or None.
    """

    role_arn: str
    provider_arn: str
    subject: str
    session_name: str
    issued_at: datetime
    session_not_on_or_after: datetime | None


class Federation:
    """All tokens and assertions issued so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._web: dict[str, WebToken] = {}
        self._saml: dict[str, SamlAssertion] = {}
        self._rejected: set[str] = set()

    def __repr__(self) -> str:
        return f"Federation({len(self._web)} web tokens, {len(self._saml)} assertions)"

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._web.clear()
            self._saml.clear()
            self._rejected.clear()

    def new_web_token(
        self, subject: str, issuer: str, audience: str, lifetime: float, now: datetime
    ) -> str:
        """A token in the form of a JWT; it may have ended already (``lifetime`` <= 0)."""
        expires_at = now + timedelta(seconds=lifetime)
        claims = {
            "iss": issuer,
            "sub": subject,
            "aud": [audience],
            "iat": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        head = _base64url({"alg": "RS256", "typ": "JWT", "kid": "gate"})
        text = f"{head}.{_base64url(claims)}.{secrets.token_urlsafe(256)}"
        with self._lock:
            _remember(self._web, text, WebToken(subject, issuer, audience, expires_at))
        return text

    def new_saml_assertion(self, assertion: SamlAssertion) -> str:
        """The whole response of an identity provider, in base64."""
        text = base64.b64encode(_saml_response(assertion).encode()).decode()
        with self._lock:
            _remember(self._saml, text, assertion)
        return text

    def reject(self, token: str) -> None:
        """Let the identity provider reject a token or an assertion from now on.

        Raises:
            UsageError: It was not issued here.
        """
        with self._lock:
            if token not in self._web and token not in self._saml:
                raise UsageError("this token was not issued by the gate")
            self._rejected.add(token)

    def web_token(self, text: str) -> WebToken | None:
        """What the token says, or None for one that was not issued here."""
        return self._web.get(text)

    def saml_assertion(self, text: str) -> SamlAssertion | None:
        """What the assertion says, or None; line breaks within the base64 do not matter."""
        return self._saml.get("".join(text.split()))

    def rejected(self, text: str) -> bool:
        """Whether the identity provider rejects it."""
        return "".join(text.split()) in self._rejected


def oidc_provider_arn(account: str, issuer: str) -> str:
    """The ARN by which an account knows an issuer."""
    return f"arn:aws:iam::{account}:oidc-provider/{issuer.removeprefix('https://')}"


def saml_provider_arn(account: str, name: str) -> str:
    """The ARN by which an account knows a SAML identity provider."""
    return f"arn:aws:iam::{account}:saml-provider/{name}"


def _remember(known: dict[str, Any], text: str, meaning: WebToken | SamlAssertion) -> None:
    if len(known) >= MAX_ISSUED:
        known.pop(next(iter(known)))
    known[text] = meaning


def _base64url(document: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def _saml_response(assertion: SamlAssertion) -> str:
    issued = _stamp(assertion.issued_at)
    until = _stamp(assertion.issued_at + SAML_USABLE)
    end = assertion.session_not_on_or_after
    session_end = "" if end is None else f" SessionNotOnOrAfter={quoteattr(_stamp(end))}"
    attributes = {
        "https://aws.amazon.com/SAML/Attributes/Role": (
            f"{assertion.role_arn},{assertion.provider_arn}"
        ),
        "https://aws.amazon.com/SAML/Attributes/RoleSessionName": assertion.session_name,
    }
    values = "".join(
        f"<saml:Attribute Name={quoteattr(name)}><saml:AttributeValue>{escape(value)}"
        "</saml:AttributeValue></saml:Attribute>"
        for name, value in attributes.items()
    )
    number = secrets.token_hex(16)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Version="2.0" '
        f'ID="_r{number}" IssueInstant="{issued}" '
        'Destination="https://signin.aws.amazon.com/saml"><samlp:Status><samlp:StatusCode '
        'Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
        f'<saml:Assertion ID="_a{number}" Version="2.0" IssueInstant="{issued}">'
        "<saml:Issuer>https://idp.example/</saml:Issuer><saml:Subject><saml:NameID>"
        f"{escape(assertion.subject)}</saml:NameID><saml:SubjectConfirmation "
        'Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData '
        f'NotOnOrAfter="{until}" Recipient="https://signin.aws.amazon.com/saml"/>'
        "</saml:SubjectConfirmation></saml:Subject>"
        f'<saml:Conditions NotBefore="{issued}" NotOnOrAfter="{until}"><saml:AudienceRestriction>'
        f"<saml:Audience>{SAML_AUDIENCE}</saml:Audience></saml:AudienceRestriction>"
        f'</saml:Conditions><saml:AuthnStatement AuthnInstant="{issued}"{session_end}/>'
        f"<saml:AttributeStatement>{values}</saml:AttributeStatement></saml:Assertion>"
        "</samlp:Response>"
    )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
