"""No secret in any log at any level, those of the libraries underneath included."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import re
from pathlib import Path

import pytest

from engine import EngineError, MiB, NotFound, RoleSpec, S3Url, TransferConfig
from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.credentials import Broker
from engine.credentials.providers.static import StaticProvider
from engine.errors import S3Error
from engine.options import CustomerKey, ObjectOptions
from engine.planes.aws import AwsControlPlane
from engine.planes.aws_data import AwsDataPlane
from engine.threads import ThreadDoor
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from tests.acceptance.secrets import secrets_of
from tests.integration.conftest import Scene, scene

__all__ = ["scene"]

SDK = ("botocore", "aiobotocore", "aioboto3", "boto3")
EXTERNAL_ID = "canary-external-id-42"
AUTHORIZATION = re.compile(r"Credential=A[KS]IA|Signature[=:]\s*[0-9a-f]{64}")


@pytest.mark.slow
async def test_a_debug_log_of_everything_holds_no_secret(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sessions got, refused, expired and denied; one request and parts; every verb."""
    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "aiohttp", "urllib3", "asyncio", "tenacity", "engine"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    role = scene.role_with("partner", external_id=EXTERNAL_ID)
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB)
    async with scene.engine(role=RoleSpec(role, external_id=EXTERNAL_ID), config=config) as s3:
        await s3.upload(bytes(6 * MiB), scene.url("parts"))
        scene.aws.gate.expire_sessions(role)
        await s3.upload(b"bytes", scene.url("one"))
        await s3.download(scene.url("parts"), tmp_path / "parts")
        scene.aws.gate.revoke_sessions(role)
        assert len([info async for info in s3.list(scene.url(""))]) == 2
        await s3.delete([scene.url("one")])
        scene.aws.gate.faults.add(kind="error_in_200", action="HeadObject", code="InternalError")
        scene.aws.gate.expire_sessions(role)
        scene.aws.gate.deny_sts("AccessDenied")
        with pytest.raises(EngineError):
            await s3.head(scene.url("parts"))
    wrong = RoleSpec(role, external_id=EXTERNAL_ID + "-wrong")
    async with scene.engine(role=wrong) as s3:
        with pytest.raises(EngineError):
            await s3.head(scene.url("parts"))
    said = [logging.Formatter().format(record) for record in caplog.records]
    names = {record.name.partition(".")[0] for record in caplog.records}
    print(f"{len(said)} records of {sorted(names)}")
    assert "asyncio" in names
    secrets = [*secrets_of(scene.aws), EXTERNAL_ID]
    assert len(secrets) > 10
    for text in said:
        assert [secret for secret in secrets if secret in text] == [], text
        assert not AUTHORIZATION.search(text), text


@pytest.mark.slow
async def test_a_customers_key_and_an_error_of_the_sdk_are_masked_in_its_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore logs parameters, and tracebacks of what went wrong on the way."""
    for name in (None, *SDK, "aiohttp", "urllib3", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    secret = os.urandom(32)
    forms = (base64.b64encode(secret).decode(), secret.hex(), repr(secret)[2:-1])
    options = ObjectOptions(customer_key=CustomerKey(secret))
    endpoints = Endpoints(s3=scene.aws.endpoint, timeouts=Timeouts(first_byte=1.0))
    scene.aws.gate.faults.add(kind="drop", action="GetObject", times=None)
    async with Broker(StaticProvider(scene.keys), clock=LoopClock()) as broker:
        plane = AwsDataPlane(
            endpoints,
            broker.lease,
            clock=LoopClock(),
            threads=ThreadDoor(),
            user_agent="s3engine/test",
        )
        url = S3Url(scene.bucket, "key")
        for call in (
            lambda: plane.put_object(url, BytesSource(b"bytes"), None, options=options),
            lambda: plane.get_range(
                url, MemorySink(5), 0, range=None, etag=None, algorithm=None, options=options
            ),
        ):
            with contextlib.suppress(EngineError):
                await call()  # over plain http S3 takes no such key; the log is what matters
        try:
            raise OSError(f"proxy http://user:{forms[0][:20].replace('/', '_')}@host:1 refused")
        except OSError:
            logging.getLogger("botocore.httpsession").debug("sending failed", exc_info=True)
        await plane.aclose()
    said = [logging.Formatter().format(record) for record in caplog.records]
    assert any("SSECustomerKey" in text or "customer-key" in text for text in said)
    assert any("OSError: proxy http://***@host" in text for text in said)
    for text in said:
        assert [form for form in forms if form in text] == [], text


SSO_KEY, SSO_TOKEN = "k3yOfIdentityCenter/0123456789abcdefghij", "t0kenOfIdentityCenter"


@pytest.mark.slow
async def test_what_botocore_logs_of_the_second_plane_is_masked(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs tokens and signatures with the requests."""
    for name in (None, *SDK):
        caplog.set_level(logging.DEBUG, logger=name)
    role = scene.role_with("host", trust=["ec2.amazonaws.com"])
    session = scene.aws.gate.instance_session(role, 900)
    endpoints = Endpoints(s3=scene.aws.endpoint)
    async with Broker(StaticProvider(session), clock=LoopClock()) as broker:
        plane = AwsControlPlane(
            endpoints, broker.lease, clock=LoopClock(), user_agent="s3engine/test"
        )
        assert await plane.list_page(S3Url(scene.bucket), None) == ([], None)
        with pytest.raises(NotFound):
            await plane.head_object(S3Url(scene.bucket, "key"))
        answer = b'{"roleCredentials":{"secretAccessKey":"%s","sessionToken":"%s"}}'
        body = answer % (SSO_KEY.encode(), SSO_TOKEN.encode())
        logging.getLogger("botocore.parsers").debug("Response body:\n%s", body)
        headers = {"x-amz-sso_bearer_token": SSO_TOKEN}
        logging.getLogger("botocore.endpoint").debug("Sending %s", headers)
        await plane.aclose()
    said = [logging.Formatter().format(record) for record in caplog.records]
    assert any("X-Amz-Security-Token" in text for text in said), "the requests are in the log"
    assert any("roleCredentials" in text for text in said)
    for text in said:
        secrets = (*secrets_of(scene.aws), SSO_KEY, SSO_TOKEN)
        assert [secret for secret in secrets if secret in text] == [], text
        assert not AUTHORIZATION.search(text), text
    loggers = [name for name in tuple(logging.root.manager.loggerDict) if name.startswith(SDK)]
    assert len(loggers) > 10
    assert [name for name in loggers if logging.getLogger(name).filters] == [], "gone with it"


async def test_a_bare_400_to_head_is_not_followed_by_a_hunt_for_the_region(scene: Scene) -> None:
    """botocore's own way: HeadBucket, then the HEAD again, with the session that has ended."""
    role = scene.role_with("host", trust=["ec2.amazonaws.com"])
    session = scene.aws.gate.instance_session(role, 900)
    scene.aws.gate.faults.add(kind="status", action="HeadObject", status=400, code="Unknown")
    endpoints = Endpoints(s3=scene.aws.endpoint)
    async with Broker(StaticProvider(session), clock=LoopClock()) as broker:
        plane = AwsControlPlane(
            endpoints, broker.lease, clock=LoopClock(), user_agent="s3engine/test"
        )
        with pytest.raises(S3Error):
            await plane.head_object(S3Url(scene.bucket, "key"))
        await plane.aclose()
    assert [entry.action for entry in scene.aws.gate.log.where(service="s3")] == [
        "HeadObject",
        "GetObject",
    ]
