"""50 chains from an instance role over a role to a role, all renewed many times.

Each hop has a broker of its own; all chains share the one of the instance. The short form has five.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random

import anyio
import anyio.to_thread
import pytest

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.config import Endpoints
from engine.credentials import Broker, RoleSpec
from engine.credentials.chain import ChainBuilder, LeaseChain
from engine.credentials.providers.imds import ImdsProvider
from engine.protocols import CredentialProvider
from engine.testing.gate_log import LoggedRequest
from engine.threads import ThreadDoor
from tests.integration.conftest import ACCOUNT, Scene

# Seconds that the sessions of the three hops live.
INSTANCE, FIRST, SECOND = 20.0, 10.0, 8.0
STS_DELAY, STS_FAIL_RATE = 0.2, 0.2


@dataclass(frozen=True)
class Hops:
    """The roles of one chain."""

    first: RoleSpec
    second: RoleSpec


def set_up(scene: Scene, count: int) -> list[Hops]:
    """An instance role, and ``count`` pairs of roles behind it; STS slow and unsteady."""
    gate, imds = scene.aws.gate, scene.aws.imds
    assume = [("sts:AssumeRole", "*")]
    instance = gate.add_role(ACCOUNT, "host", trust=["ec2.amazonaws.com"], allow=assume)
    imds.role_arn, imds.lifetime = instance, INSTANCE
    gate.put_object(scene.bucket, "key", b"bytes")
    gate.random, gate.sts_delay, gate.sts_fail_rate = Random(1), STS_DELAY, STS_FAIL_RATE
    hops = []
    for number in range(count):
        first = scene.role_with(
            f"first-{number}", trust=[instance], allow=assume, session_lifetime=FIRST
        )
        second = scene.role_with(f"second-{number}", trust=[first], session_lifetime=SECOND)
        hops.append(Hops(RoleSpec(first), RoleSpec(second)))
    return hops


async def work(scene: Scene, chain: LeaseChain, end: float) -> None:
    """Reads an object again and again under the last role of the chain."""
    target = f"/{scene.bucket}/key"
    while anyio.current_time() < end:
        credentials = await chain.broker.lease.ready()
        read = partial(scene.aws.request, "GET", target, credentials=credentials)
        answer = await anyio.to_thread.run_sync(read)
        assert answer.status == 200, answer
        await anyio.sleep(1.0)


async def run_chains(scene: Scene, hops: list[Hops], seconds: float) -> list[LeaseChain]:
    endpoints = Endpoints(sts=scene.aws.endpoint, imds=scene.aws.imds.endpoint)
    clock, random = LoopClock(), Random(2)
    sts = StsClient(endpoints, "s3engine/test", clock=clock, threads=ThreadDoor())

    def make(provider: CredentialProvider) -> Broker:
        return Broker(provider, clock=clock, random=random)

    builder = ChainBuilder(sts, session_name="chains", make=make)
    source = builder.source(ImdsProvider(scene.aws.imds.endpoint))
    chains = [builder.assume(source, (hop.first, hop.second)) for hop in hops]
    try:
        async with anyio.create_task_group() as brokers:
            await brokers.start(source.broker.run)
            for chain in chains:
                for broker in chain.brokers[1:]:
                    await brokers.start(broker.run)
            end = anyio.current_time() + seconds
            async with anyio.create_task_group() as tasks:
                for chain in chains:
                    tasks.start_soon(work, scene, chain, end)
            brokers.cancel_scope.cancel()
    finally:
        await sts.aclose()
    return chains


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "seconds"),
    [
        pytest.param(5, 10.0, id="5"),
        pytest.param(50, 30.0, id="50", marks=[pytest.mark.prove, pytest.mark.timeout(180)]),
    ],
)
async def test_chains_renew_parent_before_child_and_never_call_with_an_expired_parent(
    scene: Scene, count: int, seconds: float
) -> None:
    hops = set_up(scene, count)
    began = anyio.current_time()
    with anyio.fail_after(3 * seconds):
        chains = await run_chains(scene, hops, seconds)
    took = anyio.current_time() - began
    calls = scene.aws.gate.sts_calls(action="AssumeRole")
    parents = check_parents(calls, hops)
    left = [(e.expires_at - e.at).total_seconds() for e in calls if e.expires_at is not None]
    issued = Counter(e.parameters["RoleArn"] for e in calls if e.issued_key_id)
    each = [issued[hop.second.arn] for hop in hops]
    reads = scene.log("GetObject")
    waits = sum(chain.broker.statistics().waits_after_first for chain in chains)
    print(
        f"\n{count} chains of 3 leases ({INSTANCE:.0f}, {FIRST:.0f}, {SECOND:.0f} s), "
        f"{took:.1f} s, STS {STS_DELAY} s a call, {STS_FAIL_RATE:.0%} fail\n"
        f"STS calls {len(calls)}, failed {sum(e.failed for e in calls)}; IMDS sets "
        f"{chains[0].source.statistics().issued}\n"
        f"sessions of each last role {min(each)} to {max(each)}; of {len(parents)} parents\n"
        f"life left of the caller's session {min(left):.1f} s at least; "
        f"expired calls {len(scene.aws.gate.expired_requests(service=None))}\n"
        f"reads under the last roles {len(reads)}, waits after the first set {waits}"
    )
    assert scene.aws.gate.expired_requests(service=None) == []
    assert min(each) >= seconds / SECOND
    assert chains[0].source.statistics().issued >= seconds / INSTANCE
    assert len(reads) > count


def check_parents(calls: list[LoggedRequest], hops: list[Hops]) -> set[str]:
    """That every child was called by its own parent, issued before; the parents' key ids."""
    parent_of = {hop.second.arn: hop.first.arn for hop in hops}
    issued: dict[str, LoggedRequest] = {}
    for entry in calls:
        if entry.issued_key_id:
            issued[entry.issued_key_id] = entry
    used = set()
    for entry in calls:
        parent = parent_of.get(entry.parameters["RoleArn"])
        if parent is None:
            continue
        source = issued[entry.access_key_id]
        assert source.parameters["RoleArn"] == parent
        assert source.at + timedelta(seconds=STS_DELAY) <= entry.at, "parent before child"
        used.add(entry.access_key_id)
    return used
