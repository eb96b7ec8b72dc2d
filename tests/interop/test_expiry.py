"""Sessions that really end: a second gateway's clock is 20 minutes ahead of the first one's.

radosgw says 403 AccessDenied, to HEAD without a body, where AWS says 400 ExpiredToken.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import AccessDenied, Credentials
from tests.interop.command import run, s3engine
from tests.interop.radosgw import AHEAD
from tests.interop.scene import BUCKET, WRITER, Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


async def session(scene: Scene, duration: int) -> Credentials:
    """A session as the gateway whose clock is right issues it."""
    async with scene.engine(duration=duration) as s3:
        return await s3.lease.ready()


async def test_a_session_that_has_ended_is_refused_and_a_longer_one_is_not(
    scene: Scene, tmp_path: Path
) -> None:
    """The command runs by the second gateway's clock, else its signatures were refused."""
    (tmp_path / "file").write_bytes(b"some bytes")
    ahead, url = scene.radosgw.ahead, f"s3://{BUCKET}/expiry/file"
    for duration, code in ((900, 3), (3_600, 0)):
        env = scene.environment(await session(scene, duration), ahead)
        ended = s3engine("cp", "file", url, env=env, folder=tmp_path, fast=AHEAD)
        if code:
            # A session from outside: all that the command can do is to say it and to stop.
            ended.check_error(code, AccessDenied.code)
            assert url in ended.err
        else:
            ended.check(0)
    # HEAD answers without a body; it must come to the same error.
    for duration, code in ((900, 3), (3_600, 0)):
        env = scene.environment(await session(scene, duration), ahead)
        ended = s3engine("cp", url, "back", env=env, folder=tmp_path, fast=AHEAD)
        assert ended.code == code, ended
    assert (tmp_path / "back").read_bytes() == b"some bytes"


async def test_a_gateway_that_refuses_every_session_is_no_storm_at_sts(scene: Scene) -> None:
    """By our own clock the lease is alive; one renewal may find out, and no more are made.

    The engine's clock is 20 minutes behind this gateway's: it learns that from the first refusal.
    """
    async with scene.engine(endpoint_url=scene.radosgw.ahead) as s3:
        with pytest.raises(AccessDenied) as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/expiry/refused")
        assert caught.value.exit_code == 3
        assert caught.value.status == 403
        lease = await s3.lease.ready()
        assert s3.lease.remaining(lease) > 600
        assert lease.generation <= 2
    async with scene.engine(endpoint_url=scene.radosgw.ahead, duration=3_600) as s3:
        await s3.upload(b"x", f"s3://{BUCKET}/expiry/taken")
        assert (await s3.head(f"s3://{BUCKET}/expiry/taken")).size == 1


def go_across(scene: Scene, tmp_path: Path, *, told: bool) -> dict[str, Any]:
    """Run the program of ``across``: what it says, and that the object is what was uploaded."""
    (tmp_path / "file").write_bytes(os.urandom(24 * MIB))
    key = f"across/{told}"
    order = {
        "now": scene.radosgw.endpoint,
        "ahead": scene.radosgw.ahead,
        "role": WRITER,
        "path": str(tmp_path / "file"),
        "url": f"s3://{BUCKET}/{key}",
        "told": told,
    }
    (tmp_path / "order.json").write_text(json.dumps(order))
    env = {**scene.environment(scene.etl), "PYTHONPATH": str(ROOT)}
    line = (sys.executable, "-m", "tests.interop.across", tmp_path / "order.json")
    ended = run(line, env=env, folder=tmp_path, fast=AHEAD // 2).check(0)
    got: dict[str, Any] = json.loads(ended.out)
    return got


@pytest.mark.parametrize("told", [True, False], ids=["renewed", "found-out"])
async def test_an_upload_begun_before_expiry_is_finished_after(
    scene: Scene, tmp_path: Path, told: bool
) -> None:
    """Under the next session, with the upload id of the first.

    ``found-out``: nobody tells the broker. The refusals of a session that worked make it renew.
    """
    got = go_across(scene, tmp_path, told=told)
    first, second = got["keys"]
    log = got["log"]
    assert first != second
    assert got["refused"]  # the gateway ahead knows the first session as ended
    assert got["left"] > 600  # by the program's own clock it was young
    creates = [entry for entry in log if "?uploads" in entry["target"]]
    parts = [entry for entry in log if "partNumber=" in entry["target"]]
    done = {(entry["gateway"], entry["access_key_id"]) for entry in parts if entry["status"] == 200}
    assert len(creates) == 1
    assert done == {(scene.radosgw.endpoint, first), (scene.radosgw.ahead, second)}
    assert len({entry["target"].partition("uploadId=")[2] for entry in parts}) == 1
    assert any(entry["status"] == 403 for entry in parts) is not told
    async with scene.engine() as s3:
        url = f"s3://{BUCKET}/across/{told}"
        await s3.download(url, tmp_path / "back")
        assert (await s3.head(url)).etag.endswith(f'-{got["parts"]}"')
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
