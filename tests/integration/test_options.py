"""What objects are stored and read with: as S3 keeps it, and what is refused before S3 hears it."""

from __future__ import annotations

import base64
import os
import pickle
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine import (
    AccessDenied,
    ClientEncrypted,
    Credentials,
    CustomerKey,
    Encryption,
    Engine,
    Manifest,
    ManifestEntry,
    MiB,
    ObjectArchived,
    ObjectOptions,
    S3Error,
    S3Url,
    StoreLimits,
    TransferConfig,
    UsageError,
)
from engine.testing.aws import AwsDouble
from tests.integration.conftest import Scene

PARTS = TransferConfig(
    multipart_threshold=5 * MiB, multipart_download_threshold=5 * MiB, part_size=5 * MiB
)
ALL = ObjectOptions(
    content_type="text/csv",
    cache_control="max-age=60",
    content_disposition='attachment; filename="a.csv"',
    content_encoding="identity",
    content_language="de",
    storage_class="STANDARD_IA",
    metadata={"Source": "unit 7", "empty": ""},
    tags={"team": "data + co", "stage": "a=b"},
    encryption=Encryption("aws:kms", key_id="alias/stage", context={"job": "7"}, bucket_key=True),
    expected_bucket_owner="111122223333",
    requester_pays=True,
)


def stored(scene: Scene, key: str) -> dict[str, str]:
    """The head of an object as the store has it."""
    answer = scene.aws.request("HEAD", f"/{scene.bucket}/{key}")
    return {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize("size", [10, 5 * MiB + 1])
async def test_all_that_an_object_is_stored_with_arrives(
    scene: Scene, tmp_path: Path, size: int
) -> None:
    """The same for a PUT and for parts; owner and payer go along with every request."""
    data = os.urandom(size)
    async with scene.engine(config=PARTS, options=ALL) as s3:
        await s3.upload(data, scene.url("key"))
        info = await s3.head(scene.url("key"))
        await s3.download(scene.url("key"), tmp_path / "key")
        listed = [found async for found in s3.list(scene.url(""))]
    head = stored(scene, "key")
    assert head["content-type"] == "text/csv"
    assert head["cache-control"] == "max-age=60"
    assert head["content-disposition"] == 'attachment; filename="a.csv"'
    assert head["content-language"] == "de"
    assert head["x-amz-storage-class"] == "STANDARD_IA"
    assert head["x-amz-server-side-encryption"] == "aws:kms"
    assert (head["x-amz-meta-source"], head["x-amz-meta-empty"]) == ("unit 7", "")
    assert info.metadata == {"source": "unit 7", "empty": ""}
    assert info.storage_class == listed[0].storage_class == "STANDARD_IA"
    tags = scene.aws.request("GET", f"/{scene.bucket}/key?tagging=").body
    assert b"<Value>data + co</Value>" in tags and b"<Value>a=b</Value>" in tags
    begun = scene.log("CreateMultipartUpload" if size > MiB else "PutObject")[0].headers
    assert begun["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/stage"
    assert begun["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert begun["x-amz-server-side-encryption-context"] == "eyJqb2IiOiI3In0="
    ours = [entry for entry in scene.aws.gate.log.entries() if entry.principal.count("assumed")]
    assert {entry.headers.get("x-amz-request-payer") for entry in ours} == {"requester"}
    assert {entry.headers.get("x-amz-expected-bucket-owner") for entry in ours} == {"111122223333"}
    parts = [entry for entry in ours if entry.action in ("UploadPart", "GetObject")]
    assert all("x-amz-storage-class" not in entry.headers for entry in parts)


async def test_options_of_a_call_go_before_those_of_the_engine(scene: Scene) -> None:
    """One by one: what the call leaves open is the engine's."""
    default = ObjectOptions(
        content_type="text/plain", metadata={"a": "1", "b": "1"}, encryption=Encryption()
    )
    own = ObjectOptions(content_type="text/csv", metadata={"b": "2"})
    async with scene.engine(options=default) as s3:
        await s3.upload(b"x", scene.url("one"), options=own)
        await s3.upload(b"x", scene.url("two"))
    one, two = stored(scene, "one"), stored(scene, "two")
    assert (one["content-type"], two["content-type"]) == ("text/csv", "text/plain")
    assert (one["x-amz-meta-a"], one["x-amz-meta-b"], two["x-amz-meta-b"]) == ("1", "2", "1")
    assert one["x-amz-server-side-encryption"] == two["x-amz-server-side-encryption"] == "AES256"


async def test_another_owner_is_refused_at_every_verb(scene: Scene, tmp_path: Path) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", b"bytes")
    other = ObjectOptions(expected_bucket_owner="999999999999")
    async with scene.engine(options=other) as s3:
        with pytest.raises(AccessDenied, match="has another owner than expected"):
            await s3.upload(b"x", scene.url("new"))
        with pytest.raises(AccessDenied):
            await s3.download(scene.url("key"), tmp_path / "key")
        with pytest.raises(AccessDenied):
            await s3.delete([scene.url("key")])
        with pytest.raises(AccessDenied):
            [info async for info in s3.list(scene.url(""))]
    assert scene.aws.gate.list_keys(scene.bucket) == ["key"]


@pytest.mark.parametrize("size", [3, 200_000, 5 * MiB + 1])
@pytest.mark.parametrize("listed", [False, True])
async def test_a_files_time_goes_along_and_comes_back(
    scene: Scene, tmp_path: Path, size: int, listed: bool
) -> None:
    """In the key that rclone and s3fs use; to the nanosecond, whichever way the bytes take."""
    source = tmp_path / "up" / "day.csv.gz"
    source.parent.mkdir()
    source.write_bytes(os.urandom(size))
    os.utime(source, ns=(0, 1_354_040_105_123_456_789))
    options = ObjectOptions(preserve_mtime=True, guess_content_type=True)
    async with scene.engine(config=PARTS, options=options) as s3:
        if listed:
            up = await s3.run(Manifest.upload(source.parent, scene.url("t/")))
            down = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "down"))
            assert (up.failed, down.failed) == ([], [])
        else:
            await s3.upload(source, scene.url("t/day.csv.gz"))
            await s3.download(scene.url("t/day.csv.gz"), tmp_path / "down" / "day.csv.gz")
    head = stored(scene, "t/day.csv.gz")
    assert head["x-amz-meta-mtime"] == "1354040105.123456789"
    assert head["content-type"] == "application/gzip"
    got = tmp_path / "down" / "day.csv.gz"
    assert got.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert got.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("mark", ["x-amz-iv", "x-amz-key", "x-amz-key-v2", "x-amz-matdesc"])
async def test_what_a_client_encrypted_is_refused_by_name(
    scene: Scene, tmp_path: Path, mark: str
) -> None:
    async with scene.engine() as s3:
        marked = ObjectOptions(metadata={mark: "x"})
        await s3.upload(b"cipher text", scene.url("t/secret"), options=marked)
        await s3.upload(b"plain", scene.url("t/plain"))
        with pytest.raises(ClientEncrypted, match=f"{mark}.*--raw-encrypted"):
            await s3.download(scene.url("t/secret"), tmp_path / "secret")
        with pytest.raises(ClientEncrypted):
            async with s3.open_read(scene.url("t/secret")):
                raise AssertionError("it was opened")
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "t"))
        assert [type(failure.error) for failure in report.failed] == [ClientEncrypted]
        assert os.listdir(tmp_path / "t") == ["plain"]
        assert os.listdir(tmp_path) == ["t"]
        raw = ObjectOptions(raw_encrypted=True)
        await s3.download(scene.url("t/secret"), tmp_path / "secret", options=raw)
        async with s3.open_read(scene.url("t/secret"), options=raw) as reader:
            assert await reader.read() == b"cipher text"
    assert (tmp_path / "secret").read_bytes() == b"cipher text"


@pytest.mark.parametrize("size", [10, 5 * MiB + 1])
async def test_archived_objects_are_named_and_the_others_fetched(
    scene: Scene, tmp_path: Path, size: int
) -> None:
    async with scene.engine(config=PARTS) as s3:
        cold = ObjectOptions(storage_class="GLACIER")
        await s3.upload(bytes(size), scene.url("t/cold"), options=cold)
        await s3.upload(b"warm", scene.url("t/warm"))
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "t"))
        assert report.objects == 1
        (failure,) = report.failed
        assert isinstance(failure.error, ObjectArchived)
        assert "GLACIER" in str(failure.error) and "Restore it first" in str(failure.error)
        assert failure.entry.url == S3Url.parse(scene.url("t/cold"))
        with pytest.raises(ObjectArchived):
            async with s3.open_read(scene.url("t/cold")) as reader:
                await reader.read()
    assert os.listdir(tmp_path / "t") == ["warm"]
    refused = [entry for entry in scene.log("GetObject") if entry.key == "t/cold"]
    assert len(refused) <= 2 * (1 + size // (5 * MiB)), "a refusal was asked for again"


async def test_an_older_version_is_read(scene: Scene, tmp_path: Path) -> None:
    document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    scene.aws.request("PUT", f"/{scene.bucket}?versioning=", document)
    async with scene.engine(config=PARTS) as s3:
        old = await s3.upload(b"o" * (6 * MiB), scene.url("key"))
        new = await s3.upload(b"new", scene.url("key"))
        assert old.version_id and new.version_id and old.version_id != new.version_id
        then = ObjectOptions(version_id=old.version_id)
        assert (await s3.head(scene.url("key"), options=then)).size == 6 * MiB
        got = await s3.download(scene.url("key"), tmp_path / "old", options=then)
        assert got.version_id == old.version_id and got.parts == 2
        async with s3.open_read(scene.url("key"), options=then) as reader:
            assert await reader.read() == b"o" * (6 * MiB)
        one = Manifest(entries=[ManifestEntry("download", tmp_path / "a", got.url)])
        report = await s3.run(one, options=then)
        assert (report.objects, report.bytes) == (1, 6 * MiB)
        many = Manifest.download(scene.url(""), tmp_path / "many")
        for options in (then, ObjectOptions(if_match=new.etag)):
            with pytest.raises(UsageError, match="names one object"):
                await s3.run(many, options=options)
        with pytest.raises(UsageError, match="a version can be read, not written"):
            await s3.upload(b"x", scene.url("key"), options=then)
    assert (tmp_path / "old").read_bytes() == b"o" * (6 * MiB)
    with pytest.raises(UsageError, match="names one object"):
        scene.engine(options=then)


async def test_a_customers_key_is_never_sent_in_the_clear(scene: Scene, tmp_path: Path) -> None:
    """Refused before anything is sent, as the engine's option and as a verb's."""
    key = ObjectOptions(customer_key=CustomerKey(bytes(32)))
    async with scene.engine() as s3:
        await s3.upload(b"x", scene.url("there"))
        scene.aws.gate.log.clear()
        for verb in (
            lambda: s3.upload(b"x", scene.url("key"), options=key),
            lambda: s3.download(scene.url("there"), tmp_path / "f", options=key),
            lambda: s3.head(scene.url("there"), options=key),
            lambda: s3.run(Manifest.upload(tmp_path, scene.url("t/")), options=key),
        ):
            with pytest.raises(UsageError, match="not https"):
                await verb()
        with pytest.raises(UsageError, match="not https"):
            async with s3.open_read(scene.url("there"), options=key):
                raise AssertionError("it was opened")
    with pytest.raises(UsageError, match="not https"):
        scene.engine(options=key)
    assert scene.aws.gate.log.entries() == []


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AwsDouble, str]]:
    """An AWS of its own that speaks TLS, and the bundle that trusts it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with AwsDouble(ssl_context=context) as aws:
        aws.gate.create_bucket("bucket", aws.account)
        yield aws, str(bundle)


@pytest.mark.slow
async def test_a_customers_key_writes_and_reads_and_no_other_does(
    tls: tuple[AwsDouble, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In one piece and in parts; its bytes are in no text that we make."""
    aws, bundle = tls
    caplog.set_level("DEBUG")
    secret = os.urandom(32)
    mine = ObjectOptions(customer_key=CustomerKey(secret))
    events: list[Any] = []
    data = {"small": os.urandom(1000), "big": os.urandom(5 * MiB + 1)}
    keys = Credentials(aws.admin.access_key_id, aws.admin.secret_access_key)
    async with Engine(
        credentials=keys, endpoint_url=aws.endpoint, ca_bundle=bundle, region=aws.region,
        config=PARTS, options=mine, hook=events.append,
    ) as s3:  # fmt: skip
        texts = [repr(s3), repr(mine), repr(s3.statistics())]
        for name, content in data.items():
            await s3.upload(content, f"s3://bucket/{name}")
            await s3.download(f"s3://bucket/{name}", tmp_path / name)
            assert (tmp_path / name).read_bytes() == content
            async with s3.open_read(f"s3://bucket/{name}") as reader:
                assert await reader.read() == content
        report = await s3.run(Manifest.download("s3://bucket/", tmp_path / "tree"))
        assert (report.objects, report.failed) == (2, [])
        wrong = ObjectOptions(customer_key=CustomerKey(bytes(32)))
        for name in data:
            with pytest.raises(S3Error) as refused:
                await s3.download(f"s3://bucket/{name}", tmp_path / "x", options=wrong)
            texts.append(str(refused.value))
        texts += [repr(event) for event in events] + [caplog.text, repr(s3._open)]
    for shape in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
        assert all(shape not in text for text in texts)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(mine)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 12 * MiB])
async def test_a_copy_goes_from_one_customers_key_to_another(
    tls: tuple[AwsDouble, str], size: int
) -> None:
    """Of the source by ``source_options`` alone: the engine's own is that of the target."""
    aws, bundle = tls
    one, other = (ObjectOptions(customer_key=CustomerKey(os.urandom(32))) for _ in range(2))
    data = os.urandom(size)
    keys = Credentials(aws.admin.access_key_id, aws.admin.secret_access_key)
    small = StoreLimits("small", max_copy_size=5 * MiB)
    async with Engine(
        credentials=keys, endpoint_url=aws.endpoint, ca_bundle=bundle, region=aws.region,
        config=TransferConfig(part_size=5 * MiB, limits=small), options=other,
    ) as s3:  # fmt: skip
        await s3.upload(data, "s3://bucket/one", options=one)
        with pytest.raises(S3Error):
            await s3.copy("s3://bucket/one", "s3://bucket/two")
        for through in (False, True):
            await s3.copy("s3://bucket/one", "s3://bucket/two", source_options=one, through=through)
            async with s3.open_read("s3://bucket/two") as reader:
                assert await reader.read() == data
            with pytest.raises(S3Error):
                await s3.head("s3://bucket/two", options=one)
    assert aws.gate.open_uploads("bucket") == []
