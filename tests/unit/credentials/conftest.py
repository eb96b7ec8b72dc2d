"""A gate without a store for the tests of sources: users, roles, STS, and sessions that end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.config import Endpoints
from engine.testing.gate import Gate
from engine.threads import ThreadDoor


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate(moto_port=1) as gate:  # nothing listens there, and no test asks for an object
        yield gate


@pytest.fixture
async def sts(gate: Gate) -> AsyncIterator[StsClient]:
    """A client of the gate's STS."""
    client = StsClient(
        Endpoints(sts=gate.endpoint), "s3engine-test", clock=LoopClock(), threads=ThreadDoor()
    )
    yield client
    await client.aclose()
