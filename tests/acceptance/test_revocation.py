"""Sessions that end before their time: revoked, told so by another name, or with rotated keys.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from engine import AccessDenied, Engine
from engine.credentials import BrokerStatistics
from tests.integration.conftest import ACCOUNT, Scene

pytestmark = pytest.mark.slow

WORKERS = 16
SECONDS = 1.5


def role_counts(s3: Engine) -> BrokerStatistics:
    counts = s3.statistics().role
    assert counts is not None
    return counts


async def keep_writing(s3: Engine, scene: Scene, prefix: str, seconds: float) -> None:
    """One worker: small objects, one after the other, until the time is over."""
    end, number = anyio.current_time() + seconds, 0
    while anyio.current_time() < end:
        number += 1
        await s3.upload(b"bytes", scene.url(f"{prefix}/{number}"))


async def test_a_revoked_session_costs_16_workers_one_renewal_and_no_object(scene: Scene) -> None:
    async with scene.engine() as s3, anyio.create_task_group() as tasks:
        for number in range(WORKERS):
            tasks.start_soon(keep_writing, s3, scene, str(number), SECONDS)
        await anyio.sleep(SECONDS / 2)
        assert scene.aws.gate.revoke_sessions(scene.role) == 1
    async with scene.engine() as s3:
        assert len([info async for info in s3.list(scene.url(""))]) > WORKERS
    denied = [entry for entry in scene.log("PutObject") if entry.error_code == "AccessDenied"]
    print(f"\n{len(denied)} requests of {WORKERS} workers were denied")
    assert denied
    assert len(scene.log("AssumeRole")) == 3, "the first, the one of the denial, the listing's"


async def test_a_permission_that_lacks_is_no_revocation(scene: Scene) -> None:
    """One prefix is denied while the others work: its objects fail, nothing is renewed."""
    scene.role_with(allow=[("s3:*", f"{scene.bucket}/ok/*")])
    failed = 0
    async with scene.engine() as s3:
        await s3.upload(b"first", scene.url("ok/first"))
        async with anyio.create_task_group() as tasks:
            for number in range(WORKERS - 1):
                tasks.start_soon(keep_writing, s3, scene, f"ok/{number}", 3 * SECONDS)
            for number in range(3):
                with pytest.raises(AccessDenied):
                    await s3.upload(b"bytes", scene.url(f"no/{number}"))
                failed += 1
            tasks.cancel_scope.cancel()
        counts = role_counts(s3)
    print(f"\n{failed} denied beside {WORKERS - 1} workers: {counts}")
    assert counts.renewed_for_denial == 0
    assert len(scene.log("AssumeRole")) == 1


async def test_a_single_stream_that_is_denied_asks_once_and_then_fails(scene: Scene) -> None:
    """Nobody else's success tells the two apart, so one renewal a lease has to."""
    scene.role_with(allow=[("s3:*", f"{scene.bucket}/ok/*")])
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("ok/1"))
        for number in range(3):
            with pytest.raises(AccessDenied, match=f"no/{number}"):
                await s3.upload(b"bytes", scene.url(f"no/{number}"))
        assert role_counts(s3).renewed_for_denial == 1
    assert len(scene.log("AssumeRole")) == 2


async def test_a_single_stream_that_was_revoked_goes_on(scene: Scene) -> None:
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("1"))
        scene.aws.gate.revoke_sessions(scene.role)
        await s3.upload(b"bytes", scene.url("2"))
        assert role_counts(s3).renewed_for_denial == 1
    assert len(scene.log("AssumeRole")) == 2


async def test_a_store_that_calls_an_ended_session_denied_is_understood(
    scene: Scene, tmp_path: Path
) -> None:
    """403 AccessDenied in place of ExpiredToken: to the PUTs of a crowd, and to one HEAD."""
    gate = scene.aws.gate
    gate.expired_as = "AccessDenied"
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("0"))
        gate.expire_sessions(scene.role)
        async with anyio.create_task_group() as tasks:
            for worker in range(WORKERS):
                tasks.start_soon(s3.upload, b"bytes", scene.url(f"1/{worker}"))
    assert len(gate.list_keys(scene.bucket)) == 1 + WORKERS
    assert len(scene.log("AssumeRole")) == 2
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("0"))
        gate.expire_sessions(scene.role)
        await s3.download(scene.url("0"), tmp_path / "0")
    assert [entry.status for entry in scene.log("HeadObject")] == [403, 200]
    assert len(scene.log("AssumeRole")) == 4


@pytest.mark.parametrize("where", ["env", "profile"])
async def test_rotated_keys_of_the_user_are_found_at_the_next_renewal(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """The user's key is deleted; the new one is in the environment, or in the credentials file."""
    gate, file = scene.aws.gate, tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    def put(key_id: str, secret: str) -> None:
        if where == "profile":
            text = f"aws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            file.write_text(f"[default]\n{text}")
            return
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    put(scene.keys.access_key_id, scene.keys.secret_access_key)
    async with scene.engine(credentials=None, source=where) as s3:
        await s3.upload(b"bytes", scene.url("1"))
        fresh = gate.add_user(ACCOUNT, "etl", allow=[("sts:AssumeRole", "*")])
        gate.accounts.remove_key(scene.keys.access_key_id)
        put(fresh.access_key_id, fresh.secret_access_key)
        gate.expire_sessions(scene.role)
        await s3.upload(b"bytes", scene.url("2"))
    callers = [(entry.access_key_id, entry.status) for entry in scene.log("AssumeRole")]
    assert callers == [
        (scene.keys.access_key_id, 200),
        ("", 403),  # the key is not there any more
        (fresh.access_key_id, 200),
    ]
