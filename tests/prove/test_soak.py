"""64 workers under 8 s leases while STS answers half the calls with errors, each after a second.

Both forms print their numbers; the long one is a minute, ``make prove``.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.integration.conftest import Scene
from tests.prove.soak import soak

WORKERS = 64


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10.0, id="10s"),
        pytest.param(60.0, id="60s", marks=[pytest.mark.prove, pytest.mark.timeout(180)]),
    ],
)
async def test_a_sick_sts_fails_no_object_and_no_request_is_sent_expired(
    scene: Scene, tmp_path: Path, seconds: float
) -> None:
    gate = scene.aws.gate
    scene.role_with(session_lifetime=8)
    gate.random = Random(22)
    gate.sts_delay, gate.sts_fail_rate = 1.0, 0.5
    done = await soak(scene, tmp_path, seconds=seconds, workers=WORKERS)
    calls = gate.sts_calls(action="AssumeRole")
    failed = [entry for entry in calls if entry.failed]
    s3 = gate.log.where(service="s3")
    used = {entry.access_key_id for entry in s3}
    print(
        f"\n{seconds:.0f} s, {WORKERS} workers, leases of 8 s, STS: 1 s a call, half of them fail\n"
        f"objects up {done.up}, down {done.down}, failed {len(done.failed)}, "
        f"wrong bytes {len(done.wrong)}\n"
        f"S3 requests {len(s3)} under {len(used)} sessions, expired by the gate's clock "
        f"{len(gate.expired_requests())}\n"
        f"STS calls {len(calls)}, failed {len(failed)}, issued {done.counts.issued}\n"
        f"waits: {done.counts.waits} requests, {done.counts.waits_after_first} after the first "
        f"set; of a probe every 0.1 s {len(done.waits)} waited, "
        f"{max(done.waits, default=0.0):.2f} s at most; served stale {done.counts.served_stale}, "
        f"leases ended before the next {done.counts.expired}"
    )
    assert done.failed == []
    assert done.wrong == []
    assert gate.expired_requests(service=None) == []
    assert done.up == done.down > WORKERS
    assert len(failed) > 0
    assert len(used) >= seconds / 8
