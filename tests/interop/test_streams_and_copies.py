"""Streams and copies at Ceph's gateway, which keeps no checksums and ends sessions for real."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import AccessDenied, Manifest, MiB, NotFound, ObjectOptions, StoreLimits
from engine.config import TransferConfig
from tests.interop.scene import BUCKET, PARTNER_BUCKET, PARTNER_WRITER, Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

# CopyObject up to 5 MiB only, so that a copy in parts is a small one.
SMALL = StoreLimits("small", max_copy_size=5 * MiB)
CONFIG = TransferConfig(part_size=5 * MiB, limits=SMALL)
STORED = ObjectOptions(content_type="text/csv", metadata={"by": "me"}, tags={"team": "etl"})
# No "%" and no "+": of UploadPartCopy's source 16.2 decodes the name twice.
KEY = "odd/ü b c"


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


@pytest.mark.parametrize("size", [0, 1_000, 12 * MiB])
async def test_a_stream_is_copied_with_what_it_is_stored_with(
    scene: Scene, size: int, tmp_path: Path
) -> None:
    data = os.urandom(size)
    source, target = f"s3://{BUCKET}/{KEY}", f"s3://{BUCKET}/copies/{KEY}"
    async with scene.engine(config=CONFIG) as s3:
        result = await s3.upload_stream(pieces(data), source, options=STORED)
        assert (result.size, result.verified) == (size, False)
        for through in (False, True):
            if size > SMALL.max_copy_size and not through:
                # 16.2 refuses UploadPartCopy to every session of a role, whatever that may do.
                with pytest.raises(AccessDenied, match="--through"):
                    await s3.copy(source, target)
                continue
            copied = await s3.copy(source, target, through=through)
            assert (copied.size, copied.verified) == (size, False)
            await s3.download(target, tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == data
            info = await s3.head(target)
            assert (info.headers["content-type"], info.metadata["by"]) == ("text/csv", "me")
            control = s3._ready().context.control
            # 16.2 leaves out the tags of what is made in parts.
            tags = STORED.tags if size < MiB else {}
            assert await control.get_tags(info.url) == tags
        prefixes = Manifest.copy(f"s3://{BUCKET}/odd/", f"s3://{BUCKET}/tree/")
        report = await s3.run(prefixes, through=size > SMALL.max_copy_size)
        assert (report.objects, report.failed) == (1, [])
        await s3.delete([info.url async for info in s3.list(f"s3://{BUCKET}/")])


async def test_two_accounts_of_which_no_role_may_do_both(scene: Scene) -> None:
    data = os.urandom(12 * MiB)
    source, target = f"s3://{BUCKET}/mine", f"s3://{PARTNER_BUCKET}/theirs"
    async with scene.engine() as ours, scene.engine(PARTNER_WRITER) as theirs:
        await ours.upload(data, source)
        for engine in (ours, theirs):
            # An account does not even see the other's bucket.
            with pytest.raises(NotFound):
                await engine.copy(source, target)
        await theirs.copy(source, target, source_engine=ours)
        async with theirs.open_read(target) as reader:
            assert await reader.read() == data
        await theirs.delete([target])
        await ours.delete([source])
