"""STS over our own client: what is sent, what errors mean, whose clock is right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.config import Endpoints
from engine.credentials.role import RoleSpec
from engine.errors import (
    AssumeRoleDenied,
    CredentialsError,
    RoleInvalid,
    SourceExpired,
    SourceUnavailable,
)
from engine.threads import ThreadDoor
from engine.types import Credentials
from tests.unit.origin import Origin, answers, run_origin

CALLER = Credentials("AKIDEXAMPLE000000", "SECRETSECRET")
ROLE = "arn:aws:iam::111122223333:role/writer"
ISSUED = (
    b"<AssumeRoleResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleResult>"
    b"<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
    b"<SessionToken>t</SessionToken><Expiration>2026-11-24T12:15:00Z</Expiration></Credentials>"
    b"</AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
    b"</AssumeRoleResponse>"
)


def refusal(code: str, message: str = "Words.") -> bytes:
    return (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
        "</Error><RequestId>r1</RequestId></ErrorResponse>"
    ).encode()


@asynccontextmanager
async def sts_of(origin: Origin, clock: LoopClock | None = None) -> AsyncIterator[StsClient]:
    endpoints = Endpoints(region="eu-west-1", sts=f"http://127.0.0.1:{origin.port}")
    sts = StsClient(endpoints, "s3engine/test", clock=clock or LoopClock(), threads=ThreadDoor())
    try:
        yield sts
    finally:
        await sts.aclose()


async def assume(sts: StsClient, **fields: Any) -> Credentials:
    role = RoleSpec(ROLE, **fields)
    return await sts.assume_role(CALLER, role.parameters("s3engine-1", role.duration))


async def test_every_field_is_sent_by_its_name() -> None:
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(200, ISSUED))
        issued = await assume(
            sts,
            external_id="acme-42",
            tags={"team": "a b=c", "job": ""},
            transitive_tags=("team",),
            policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
            source_identity="alice",
            provided_contexts=(("arn:aws:iam::aws:contextProvider/IdentityCenter", "x"),),
        )
        assert issued.session_token == "t" and issued.lifetime == 900.0
        (request,) = origin.requests
        fields = {k: v[0] for k, v in parse_qs(request.body.decode(), True).items()}
        assert fields["Action"] == "AssumeRole" and fields["ExternalId"] == "acme-42"
        assert fields["Tags.member.1.Value"] == "a b=c" and fields["Tags.member.2.Value"] == ""
        assert fields["TransitiveTagKeys.member.1"] == "team"
        assert fields["PolicyArns.member.1.arn"].endswith("ReadOnlyAccess")
        assert fields["ProvidedContexts.member.1.ContextAssertion"] == "x"
        assert "/eu-west-1/sts/aws4_request" in request.headers["authorization"]


async def test_a_web_identity_is_not_signed() -> None:
    body = ISSUED.replace(b"AssumeRole", b"AssumeRoleWithWebIdentity")
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(200, body))
        await sts.assume_role_with_web_identity(
            {"RoleArn": ROLE, "RoleSessionName": "x", "WebIdentityToken": "secret-token"}
        )
        assert "authorization" not in origin.requests[0].headers


async def test_who_the_caller_is() -> None:
    body = (
        b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn>"
        b"<UserId>U</UserId><Account>1</Account></GetCallerIdentityResult>"
        b"</GetCallerIdentityResponse>"
    )
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(200, body))
        found = await sts.get_caller_identity(CALLER)
        assert (found.account, found.arn) == ("1", "arn:aws:iam::1:user/a")


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (403, "AccessDenied", "", AssumeRoleDenied),
        (400, "ValidationError", "exceeds the MaxSessionDuration", RoleInvalid),
        (403, "RegionDisabledException", "", RoleInvalid),
        (403, "ExpiredToken", "", SourceExpired),
        (403, "InvalidClientTokenId", "", SourceExpired),
        (400, "Throttling", "Rate exceeded", SourceUnavailable),
        (500, "InternalFailure", "", SourceUnavailable),
    ],
)
async def test_what_an_error_means(
    status: int, code: str, message: str, kind: type[CredentialsError]
) -> None:
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(status, refusal(code, message)))
        with pytest.raises(kind) as caught:
            await assume(sts, external_id="Partner-Secret-42")
        assert caught.value.retryable == (kind is SourceUnavailable)
        assert "Partner-Secret-42" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html/>", b"<AssumeRoleResponse/>", b"<!DOCTYPE a><a/>"])
async def test_an_answer_without_credentials_is_refused(body: bytes) -> None:
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(200, body))
        with pytest.raises(CredentialsError):
            await assume(sts)


async def test_a_clock_that_is_off_is_set_by_the_server() -> None:
    """STS says only that the signature does not match; its Date says why. Once, not for ever."""
    clock = LoopClock()
    clock.learn(datetime.now(UTC) - timedelta(hours=1))
    async with run_origin() as origin, sts_of(origin, clock) as sts:
        origin.script += [answers(403, refusal("SignatureDoesNotMatch")), answers(200, ISSUED)]
        await assume(sts)
        first, second = (request.headers["x-amz-date"] for request in origin.requests)
        assert second.startswith("20261124T12") and not first.startswith("20261124T12")
        origin.script += [answers(403, refusal("SignatureDoesNotMatch"))]
        with pytest.raises(CredentialsError, match="signature"):
            await assume(sts)
        assert len(origin.requests) == 3


async def test_a_redirect_is_never_followed() -> None:
    async with run_origin() as origin, sts_of(origin) as sts:
        origin.script.append(answers(307, location="http://127.0.0.1:1/"))
        with pytest.raises(CredentialsError, match="redirect") as caught:
            await assume(sts)
        assert not caught.value.retryable
