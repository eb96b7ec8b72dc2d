"""What the planes really send is signed as botocore signs it, byte for byte, and servers take it.

``tests/unit/_wire/test_sigv4.py`` compares the signers; here every verb's request is taken from
the socket, with all that stands in its head, and signed again by botocore.
"""

from __future__ import annotations

import datetime as dt
from hashlib import sha256
from unittest.mock import patch

import anyio
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from engine._wire.documents import is_writable
from engine._wire.sigv4 import Signer, encode_path
from engine.errors import EngineError
from engine.options import ObjectOptions
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, PartReceipt, UploadId
from tests.conformance.servers import Server
from tests.conformance.store import CRC, Store, checksum, open_store
from tests.interop.admin import Admin
from tests.interop.scene import Scene
from tests.unit.origin import Exchange, Request, error_xml, run_origin

pytestmark = pytest.mark.slow

REGION = "eu-west-1"
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=60
)
# A blank at an end of a header's value is not part of it (RFC 9110, 5.5).
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.strip)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
KEYS = st.builds(
    Credentials,
    st.text("AKIDXYZ0123456789", min_size=16, max_size=20),
    st.text("abcXYZ0123456789+/", min_size=40, max_size=40),
    st.one_of(st.none(), st.text("abcXYZ0+/=", min_size=1, max_size=400)),
)
OPTIONS = st.builds(
    ObjectOptions,
    content_type=st.none() | VALUES.filter(bool),
    metadata=st.dictionaries(NAMES, VALUES, max_size=3),
    tags=st.dictionaries(TEXT, TEXT, max_size=3),
)


def signed_by_botocore(request: Request, keys: Credentials) -> str:
    """The Authorization of a request that came in, as botocore would have made it."""
    named = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    headers = {name: request.headers[name] for name in named.split(";")}
    sum_of_body, at = headers.pop("x-amz-content-sha256"), headers.pop("x-amz-date")
    headers.pop("x-amz-security-token", None)
    again = AWSRequest(
        method=request.method,
        url=f"http://{headers['host']}{request.target}",
        headers=headers,
        data=request.body,
    )
    is_signed = sum_of_body != "UNSIGNED-PAYLOAD"
    again.context["client_config"] = Config(s3={"payload_signing_enabled": is_signed})
    boto = BotoCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    when = dt.datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    with patch("botocore.auth.get_current_datetime", return_value=when):
        S3SigV4Auth(boto, "s3", REGION).add_auth(again)
    assert again.headers["X-Amz-Content-SHA256"] == sum_of_body
    return str(again.headers["Authorization"])


async def every_verb(store: Store, key: str, options: ObjectOptions) -> None:
    """One request of each; what the answers are is nobody's business here."""
    url, body, upload_id = store.url(key), BytesSource(b"bytes"), UploadId("u/p+l=oad")
    part = PartReceipt(1, 0, 5, '"e"', checksum(b"bytes"), 0)
    data, control = store.data, store.control
    for call in (
        lambda: data.put_object(url, body, CRC, options=options),
        lambda: data.upload_part(url, upload_id, 7, body, 0, 5, CRC, options=options),
        lambda: data.get_range(
            url, MemorySink(5), 0, range=ByteRange(0, 5), etag='"e"', algorithm=CRC
        ),
        lambda: control.head_object(url),
        lambda: control.list_page(url, "t/o+k=en"),
        lambda: control.create_multipart_upload(url, CRC, options=options),
        lambda: control.complete_multipart_upload(
            url, upload_id, [part], checksum(b"bytes"), 5, options=options
        ),
        lambda: control.abort_multipart_upload(url, upload_id),
        lambda: control.list_parts(url, upload_id),
        lambda: control.list_uploads(url, ("a b/+", "u/p+l=oad")),
        lambda: control.delete_objects([url]),
    ):
        try:
            await call()
        except EngineError:
            pass


async def refuse(exchange: Exchange) -> None:
    """Take the whole request, name its headers as ours are named, and say no."""
    request = exchange.request
    request.headers = {name.lower(): value for name, value in request.headers.items()}
    await exchange.read_body()
    body = b"" if request.method == "HEAD" else error_xml("InvalidRequest")
    await exchange.answer(400, body)


async def requests_of(
    plane: str, keys: Credentials, key: str, options: ObjectOptions
) -> list[Request]:
    async with run_origin() as origin:
        origin.script.extend([refuse] * 20)
        server = Server(f"http://127.0.0.1:{origin.port}", keys, "bucket", region=REGION)
        async with open_store(plane, server) as store:
            await every_verb(store, key, options)
        return origin.requests


ODD = example(
    keys=Credentials("AKID" * 5, "secret/+" * 5, "token+/="),
    key="//a/./../b c+d%2F~!*'()ü日\x01",
    options=ObjectOptions(metadata={"a": "two  blanks"}, tags={"a b": "c+d&e"}),
)


def check_every_request(plane: str, keys: Credentials, key: str, options: ObjectOptions) -> None:
    requests = anyio.run(requests_of, plane, keys, key, options)
    assert len({request.method for request in requests}) == 5, "all verbs came through"
    for request in requests:
        assert request.headers["authorization"] == signed_by_botocore(request, keys), request


@settings(max_examples=100)
@given(keys=KEYS, key=TEXT, options=OPTIONS)
@ODD
def test_the_wire_signs_every_request_as_botocore_does(
    keys: Credentials, key: str, options: ObjectOptions
) -> None:
    check_every_request("wire", keys, key, options)


@settings(max_examples=4)  # each opens two clients of the SDK
@given(keys=KEYS, key=TEXT, options=OPTIONS)
@ODD
def test_the_sdk_signs_what_we_give_it(keys: Credentials, key: str, options: ObjectOptions) -> None:
    pytest.importorskip("aiobotocore")
    check_every_request("aws", keys, key, options)


@pytest.fixture(scope="module")
def bucket(scene: Scene) -> str:
    owner = scene.radosgw.owner
    keys = Credentials(owner.access_key_id, owner.secret_access_key)
    Admin(scene.radosgw.endpoint, keys).add_bucket("signatures")
    return "signatures"


@pytest.mark.interop
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=TEXT, options=OPTIONS)
def test_radosgw_takes_every_signature(
    scene: Scene, bucket: str, plane: str, key: str, options: ObjectOptions
) -> None:
    """It answers 403 to one that is not right."""
    # Where S3 counts the characters of a tag, it counts bytes.
    assume(all(len(k.encode()) <= 128 and len(v.encode()) <= 256 for k, v in options.tags.items()))

    async def there_and_back() -> None:
        owner = scene.radosgw.owner
        keys = Credentials(owner.access_key_id, owner.secret_access_key)
        server = Server(scene.radosgw.endpoint, keys, bucket)
        async with open_store(plane, server) as store:
            url = store.url(key)
            await store.data.put_object(url, BytesSource(b"bytes"), CRC, options=options)
            if is_writable(key):  # radosgw says the prefix back, in XML that nobody can read
                page, _ = await store.control.list_page(url, None)
                assert key in {info.url.key for info in page}
            sink = MemorySink(5)
            got = await store.data.get_range(
                url, sink, 0, range=ByteRange(0, 5), etag=None, algorithm=CRC
            )
            assert bytes(sink.data) == b"bytes"
            assert {**got.object.metadata} == {**options.metadata}
            await store.control.delete_objects([url])

    anyio.run(there_and_back)


@given(
    at=st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2099, 12, 31)),
    keys=KEYS,
    region=st.sampled_from([REGION, "us-east-1", "cn-north-1", "us-gov-west-1"]),
    key=TEXT,
    body=st.none() | st.binary(max_size=64),
    blanks=st.text("a \t", max_size=12),
)
def test_at_any_time_in_any_region_with_any_body(
    at: dt.datetime, keys: Credentials, region: str, key: str, body: bytes | None, blanks: str
) -> None:
    """Dates have microseconds here, and a signature has seconds."""
    when = at.replace(tzinfo=dt.UTC)
    path = encode_path(f"/bucket/{key}")
    headers = {"host": "s3.example:9000", "x-amz-meta-a": f"x{blanks}y"}
    ours = Signer(region).sign_head(
        keys,
        "PUT",
        path,
        headers,
        now=when,
        payload_hash="UNSIGNED-PAYLOAD" if body is None else sha256(body).hexdigest(),
    )
    again = AWSRequest("PUT", f"http://s3.example:9000{path}", headers, body or b"")
    again.context["client_config"] = Config(s3={"payload_signing_enabled": body is not None})
    boto = BotoCredentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    with patch("botocore.auth.get_current_datetime", return_value=when):
        S3SigV4Auth(boto, "s3", region).add_auth(again)
    theirs = {name.lower(): value for name, value in again.headers.items()}
    assert ours == theirs
