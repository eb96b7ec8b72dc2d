"""The gate breaks what it is told to break, and its log tells what happened and no secret."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from awscrt import checksums
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError

from engine.testing.aws import ACCOUNT, AwsDouble
from engine.testing.faults import FaultKind
from engine.testing.sigv4 import UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, sign
from engine.types import Credentials
from tests.unit.testing.sdk import client, refused

EVERYTHING = (("*", "*"),)


def assumed(sts: Any, arn: str, **arguments: Any) -> Credentials:
    reply = sts.assume_role(RoleArn=arn, RoleSessionName="test", **arguments)["Credentials"]
    return Credentials(
        reply["AccessKeyId"], reply["SecretAccessKey"], reply["SessionToken"], reply["Expiration"]
    )


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def test_faults_that_answer(aws: AwsDouble) -> None:
    gate, s3 = aws.gate, client(aws, "s3")
    put = {"Bucket": "bkt", "Key": "k", "Body": b"hello"}
    rule = gate.faults.add(kind="status", action="PutObject", nth=2, times=2, retry_after=1)
    codes = []
    for _ in range(4):
        try:
            codes.append(s3.put_object(**put)["ResponseMetadata"]["HTTPStatusCode"])
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
            assert error.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert (codes, rule.seen, rule.fired) == ([200, "SlowDown", "SlowDown", 200], 4, 2)
    gate.faults.add(kind="expired", action="GetObject")
    assert refused(s3.get_object, Bucket="bkt", Key="k") == ("ExpiredToken", 400)
    gate.faults.add(kind="redirect", action="GetObject", location="http://127.0.0.2:1/x")
    status, headers, _ = aws.request("GET", "/bkt/k")
    assert (status, headers["Location"]) == (307, "http://127.0.0.2:1/x")
    gate.faults.add(kind="error_in_200", action="GetObject", code="InternalError")
    status, _, body = aws.request("GET", "/bkt/k")
    assert (status, b"<Code>InternalError</Code>" in body) == (200, True)
    gate.faults.add(kind="delay", action="GetObject", seconds=0.1)
    began = time.monotonic()
    assert aws.request("GET", "/bkt/k")[2] == b"hello"
    assert time.monotonic() - began >= 0.1


def test_faults_that_break_the_connection(aws: AwsDouble) -> None:
    gate, s3 = aws.gate, client(aws, "s3")
    put = {"Bucket": "bkt", "Key": "k", "Body": b"hello" * 100}
    kinds: list[tuple[FaultKind, list[str]]] = [("drop", []), ("swallow", ["k"])]
    for kind, kept in kinds:
        gate.faults.add(kind=kind, action="PutObject")
        with pytest.raises(ConnectionClosedError):
            s3.put_object(**put)
        assert gate.list_keys("bkt") == kept
    gate.faults.add(kind="truncate", action="GetObject", at=7)
    with pytest.raises((ResponseStreamingError, http.client.IncompleteRead)):
        aws.request("GET", "/bkt/k")
    entries = [(e.action, e.fault, e.status, e.bytes_out) for e in gate.log.entries()]
    assert entries == [
        ("PutObject", "drop", 0, 0),
        ("PutObject", "swallow", 0, 0),
        ("GetObject", "truncate", 200, 7),
    ]


def test_faults_that_lie(aws: AwsDouble) -> None:
    gate = aws.gate
    gate.faults.add(kind="flip", action="PutObject", at=1)
    assert (
        aws.request("PUT", "/bkt/k", b"abc", {"x-amz-checksum-crc64nvme": crc64(b"abc")})[0] == 200
    )
    assert gate.get_object("bkt", "k") == b"acc"
    answer = aws.request("GET", "/bkt/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert answer.body == b"acc"
    assert answer.headers["x-amz-checksum-crc64nvme"] == crc64(b"abc")
    gate.faults.add(kind="flip", action="GetObject", at=0)
    assert aws.request("GET", "/bkt/k")[2] == b"`cc"
    gate.faults.add(
        kind="call", action="GetObject", call=lambda: gate.put_object("bkt", "k", b"new")
    )
    assert aws.request("GET", "/bkt/k")[2] == b"new"


def test_no_secret_is_in_the_log_or_in_a_repr(aws: AwsDouble) -> None:
    gate = aws.gate
    role = gate.add_role(ACCOUNT, "r", trust=[aws.admin.arn], allow=EVERYTHING)
    session = assumed(client(aws, "sts"), role)
    client(aws, "s3", session).list_objects_v2(Bucket="bkt")
    record = gate.accounts.key(session.access_key_id)
    text = repr([[e, dict(e.headers)] for e in gate.log.entries()])
    text += repr((gate, aws, record, gate.log, aws.admin, session))
    assert session.access_key_id in text
    for secret in (session.secret_access_key, str(session.session_token)):
        assert secret not in text
    assert aws.admin.secret_access_key not in text
    assert not re.search(r"Signature=", text)


def test_the_link_is_limited_in_both_directions(aws: AwsDouble) -> None:
    aws.gate.bandwidth = 1_000_000
    data = bytes(100_000)
    began = time.monotonic()
    assert aws.request("PUT", "/bkt/k", data)[0] == 200
    assert aws.request("GET", "/bkt/k")[2] == data
    assert time.monotonic() - began >= 0.15


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    script = (
        "import engine.testing.pytest_plugin, sys; "
        "print([m for m in ('aiohttp', 'moto', 'awscrt', 'engine.testing.gate', 'asyncpg') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_moto_ends_with_its_parent() -> None:
    script = (
        "import os, sys\n"
        "from engine.testing.moto import MotoProcess\n"
        "moto = MotoProcess(); moto.start(); print(moto.port, flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    port = int(done.stdout)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return
        finally:
            connection.close()
        time.sleep(0.02)
    pytest.fail("moto outlived its parent")


def test_a_client_that_goes_away_is_a_log_entry(aws: AwsDouble) -> None:
    with socket.create_connection(("127.0.0.1", aws.gate.port)) as connection:
        signed = sign(
            "PUT",
            aws.endpoint + "/bkt/k",
            {},
            UNSIGNED_PAYLOAD,
            aws.admin.credentials,
            aws.region,
            "s3",
            datetime.now(UTC),
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        text = f"PUT /bkt/k HTTP/1.1\r\n{head}Content-Length: 10\r\n\r\nabc"
        connection.sendall(text.encode())
    deadline = time.monotonic() + 5
    while not aws.gate.log.where(error_code="ConnectionLost") and time.monotonic() < deadline:
        time.sleep(0.01)
    entry = aws.gate.log.entries()[0]
    assert (entry.status, entry.error_code, entry.bytes_in) == (0, "ConnectionLost", 3)
    assert aws.gate.list_keys("bkt") == []


def test_an_early_refusal_does_not_spoil_the_connection(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    aws.gate.faults.add(kind="status", action="PutObject", times=3)
    for _ in range(3):
        with pytest.raises(ClientError):
            s3.put_object(Bucket="bkt", Key="k", Body=b"x" * 100_000)
    s3.put_object(Bucket="bkt", Key="k", Body=b"x" * 100_000)
    assert aws.gate.get_object("bkt", "k") == b"x" * 100_000


def test_tls_and_the_trailers_that_boto3_sends_over_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with AwsDouble(ssl_context=context) as aws:
        aws.gate.create_bucket("bkt", aws.account)
        s3 = client(aws, "s3", verify=str(tmp_path / "ca.pem"))
        s3.put_object(Bucket="bkt", Key="k", Body=b"hello" * 1000)
        entry = aws.gate.log.where(action="PutObject")[0]
        assert entry.headers["x-amz-content-sha256"] == UNSIGNED_TRAILER
        assert aws.gate.get_object("bkt", "k") == b"hello" * 1000
        assert s3.get_object(Bucket="bkt", Key="k")["Body"].read() == b"hello" * 1000
        s3.close()


def test_the_clock_of_the_gate_is_in_its_answers(aws: AwsDouble) -> None:
    aws.gate.clock_offset = 7200
    date = parsedate_to_datetime(aws.request("GET", "/bkt").headers["Date"])
    assert abs((date - datetime.now(UTC)).total_seconds() - 7200) < 3
