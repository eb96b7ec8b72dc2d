"""What radosgw does otherwise than AWS, one test each; a client must survive all of it.

Sessions that have ended are in ``test_expiry``; both planes run the whole of ``tests/conformance``
at radosgw, by http and https.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from engine import AccessDenied, Credentials, Engine, S3Error
from tests.conformance.servers import radosgw_server
from tests.conformance.store import CRC, PLANES, checksum, open_store
from tests.interop.admin import REGION, Admin, Refused, policy
from tests.interop.command import s3engine
from tests.interop.scene import BUCKET, WRITER, Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def engine_of(scene: Scene, keys: Credentials, plane: str) -> Engine:
    return scene.engine(None, credentials=keys, data_plane=plane)


@pytest.mark.parametrize("plane", PLANES)
async def test_a_wrong_long_term_secret_is_a_denial(scene: Scene, plane: str) -> None:
    """AWS says SignatureDoesNotMatch; radosgw, with STS at S3's address, says AccessDenied."""
    wrong = replace(scene.etl, secret_access_key="not-the-secret")
    async with engine_of(scene, wrong, plane) as s3:
        with pytest.raises(AccessDenied) as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/wrong")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("plane", PLANES)
async def test_a_wrong_secret_of_a_session_is_named(scene: Scene, plane: str) -> None:
    async with scene.engine() as s3:
        session = await s3.lease.ready()
    wrong = replace(session, secret_access_key="not-the-secret")
    async with engine_of(scene, wrong, plane) as s3:
        with pytest.raises(S3Error) as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/wrong")
    assert caught.value.s3_code == "SignatureDoesNotMatch"
    assert "secret key is wrong" in caught.value.fix


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("token", [None, "broken"])
async def test_no_or_a_broken_session_token_is_a_denial(
    scene: Scene, plane: str, token: str | None
) -> None:
    async with scene.engine() as s3:
        session = await s3.lease.ready()
    async with engine_of(scene, replace(session, session_token=token), plane) as s3:
        with pytest.raises(S3Error) as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/token")
    assert caught.value.status == 403


@pytest.mark.parametrize("plane", PLANES)
async def test_complete_says_an_empty_etag_and_a_location_that_is_no_xml(
    scene: Scene, plane: str
) -> None:
    """The key stands raw in the answer's Location: what it holds must not break the reading."""
    owner = scene.radosgw.owner
    keys = Credentials(owner.access_key_id, owner.secret_access_key)
    server = replace(radosgw_server(scene.radosgw, tls=False), bucket="traps")
    Admin(scene.radosgw.endpoint, keys).add_bucket("traps")
    async with open_store(plane, server) as store:
        for key in ("a&b", "a b+c%20d", "ü/&amp;"):
            url = store.url(key)
            upload_id = await store.control.create_multipart_upload(url, CRC)
            receipts = await store.parts(url, upload_id, b"bytes")
            receipt = await store.control.complete_multipart_upload(
                url, upload_id, receipts, checksum(b"bytes"), 5
            )
            assert receipt.etag.strip('"') == ""
            info = await store.control.head_object(url)
            assert (info.size, info.etag.strip('"')[-2:]) == (5, "-1")


def test_iam_takes_compact_json_only(scene: Scene) -> None:
    """Spaces in a policy are refused; ``tests.interop.admin.policy`` writes none."""
    owner = Admin(scene.radosgw.endpoint, scene.owner)
    may = {
        "Effect": "Allow",
        "Principal": {"AWS": ["arn:aws:iam::111122223333:user/etl"]},
        "Action": ["sts:AssumeRole"],
    }
    compact = policy(may)
    spaced = json.dumps(json.loads(compact))
    assert spaced != compact
    fields = {"Action": "CreateRole", "Version": "2010-05-08", "Path": "/", "RoleName": "spaced"}
    body = urlencode({**fields, "AssumeRolePolicyDocument": spaced}).encode()
    with pytest.raises(Refused, match="MalformedPolicyDocument"):
        owner.call("POST", "/", body=body, service="iam")
    body = urlencode({**fields, "AssumeRolePolicyDocument": compact}, quote_via=quote).encode()
    owner.call("POST", "/", body=body, service="iam")


def test_the_doctor_does_without_getcalleridentity(scene: Scene, tmp_path: Path) -> None:
    """radosgw answers it with 405; the rest of the examination goes on."""
    done = s3engine(
        "doctor", f"s3://{BUCKET}/", "--role-arn", WRITER,
        env=scene.environment(scene.etl), folder=tmp_path,
    )  # fmt: skip
    assert done.code in (0, 1), done
    assert "Traceback" not in done.text
    assert "GetCallerIdentity" in done.text or "405" in done.text or "not known" in done.text
    lines = [line.split() for line in done.out.splitlines()]
    assert ["ok", "assume"] in [line[:2] for line in lines], done.out


async def test_the_sdk_s_own_trailers_are_refused_and_ours_are_none(
    scene: Scene, tmp_path: Path
) -> None:
    """Over https the SDK's default sends the checksum behind the body, which radosgw 16 refuses.

    Neither plane does: the checksum stands in the head."""
    aiobotocore = pytest.importorskip("aiobotocore.session")
    from aiobotocore.config import AioConfig
    from botocore.exceptions import ClientError

    owner = scene.radosgw.owner
    config = AioConfig(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_supported",
        retries={"total_max_attempts": 1},
    )
    made = aiobotocore.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=scene.radosgw.tls_endpoint,
        verify=scene.radosgw.ca_bundle,
        aws_access_key_id=owner.access_key_id,
        aws_secret_access_key=owner.secret_access_key,
        config=config,
    )
    Admin(
        scene.radosgw.endpoint, Credentials(owner.access_key_id, owner.secret_access_key)
    ).add_bucket("trailers")
    async with made as client:
        with pytest.raises(ClientError):
            await client.put_object(Bucket="trailers", Key="key", Body=b"bytes")
    keys = Credentials(owner.access_key_id, owner.secret_access_key)
    for plane in PLANES:
        async with Engine(
            credentials=keys,
            endpoint_url=scene.radosgw.tls_endpoint,
            ca_bundle=scene.radosgw.ca_bundle,
            data_plane=plane,
        ) as s3:
            result = await s3.upload(b"bytes", "s3://trailers/key")
            assert (result.size, result.verified) == (5, False)
