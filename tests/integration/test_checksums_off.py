"""Stores that know no checksums: those that refuse the headers, and those that ignore them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine import Engine, EngineError, Manifest, MiB, TransferConfig
from engine.errors import S3Error
from tests.integration.conftest import Scene

PARTS = TransferConfig(
    multipart_threshold=5 * MiB, multipart_download_threshold=5 * MiB, part_size=5 * MiB
)
OFF = replace(PARTS, checksum="none")
SIZES = {"empty": 0, "small": 1_000, "one": 200_000, "parts": 11 * MiB}


@pytest.mark.parametrize("code", ["InvalidArgument", "NotImplemented", "InvalidRequest"])
@pytest.mark.parametrize("verb", ["put", "parts", "head", "get"])
async def test_an_error_of_a_store_that_refuses_checksums_names_the_switch(
    scene: Scene, tmp_path: Path, verb: str, code: str
) -> None:
    gate = scene.aws.gate
    gate.put_object(scene.bucket, "t/there", b"bytes")
    verbs: dict[str, Callable[[Engine], Awaitable[object]]] = {
        "put": lambda s3: s3.upload(b"bytes", scene.url("key")),
        "parts": lambda s3: s3.upload(os.urandom(6 * MiB), scene.url("key")),
        "head": lambda s3: s3.download(scene.url("t/there"), tmp_path / "there"),
    }
    gate.refuses_checksums = code
    async with scene.engine(config=PARTS) as s3:
        if verb == "get":  # of a listing, so without HEAD
            report = await s3.run(Manifest.download(scene.url("t/"), tmp_path))
            (failure,) = report.failed
            assert "--checksum none" in failure.error.fix
            return
        with pytest.raises(S3Error) as caught:
            await verbs[verb](s3)
    assert "--checksum none" in caught.value.fix
    assert gate.open_uploads(scene.bucket) == []


async def test_without_checksums_nothing_speaks_of_them(scene: Scene, tmp_path: Path) -> None:
    gate = scene.aws.gate
    gate.refuses_checksums = "InvalidArgument"
    async with scene.engine(config=OFF) as s3:
        for name, size in SIZES.items():
            data = os.urandom(size)
            up = await s3.upload(data, scene.url(f"t/{name}"))
            down = await s3.download(scene.url(f"t/{name}"), tmp_path / name)
            assert not up.verified and not down.verified
            assert (tmp_path / name).read_bytes() == data
            assert gate.get_object(scene.bucket, f"t/{name}") == data
            async with s3.open_read(scene.url(f"t/{name}")) as reader:
                assert await reader.read() == data
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "tree"))
    assert (report.objects, report.failed) == (len(SIZES), [])
    for entry in gate.log.entries():
        assert not [name for name in entry.headers if "checksum" in name or "-mp-" in name]


async def test_a_lost_answer_is_settled_without_checksums(scene: Scene) -> None:
    gate = scene.aws.gate
    gate.refuses_checksums = "InvalidArgument"
    gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
    data = os.urandom(6 * MiB)
    async with scene.engine(config=OFF) as s3:
        await s3.upload(data, scene.url("key"))
    assert gate.get_object(scene.bucket, "key") == data


async def test_an_object_without_a_checksum_is_no_error(scene: Scene, tmp_path: Path) -> None:
    data = os.urandom(6 * MiB)
    scene.aws.gate.put_object(scene.bucket, "key", data)
    scene.aws.gate._store.checksums.clear()
    async with scene.engine(config=PARTS) as s3:
        result = await s3.download(scene.url("key"), tmp_path / "key")
        assert (result.verified, result.checksum) == (False, None)
    assert (tmp_path / "key").read_bytes() == data


async def test_an_error_about_something_else_does_not_name_the_switch(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", status=400, code="EntityTooLarge", times=None
    )
    async with scene.engine() as s3:
        with pytest.raises(EngineError) as caught:
            await s3.upload(b"bytes", scene.url("key"))
    assert "--checksum" not in str(caught.value)
