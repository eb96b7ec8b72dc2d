"""A program that uploads in parts across the end of a session; it is run by a fast clock.

Its clock is half of ``AHEAD`` fast, so that both gateways take its signatures. Both answer under
one address: the first parts go to the gateway whose clock is right, the rest to the one that is
ahead, for which the session is over although it is young by the program's own clock.

What lives here: the upload, and what is said of it as JSON on stdout. What must not: a judgement.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from engine import AccessDenied, Credentials, Engine, MiB, RetryPolicy, RoleSpec, TransferConfig
from tests.interop.front import Front

# One part at a time, so that some are still to be sent when the gateway changes.
_CONFIG = TransferConfig(part_size=5 * MiB, max_parts_in_flight=1)
_RETRY = RetryPolicy(base_delay=0.02, max_delay=0.2)


async def across(front: Front, ahead: str, order: dict[str, Any]) -> dict[str, Any]:
    """Upload ``order["path"]`` to ``order["url"]``, and change the gateway after the first part."""
    first: list[Credentials] = []

    def hook(event: object) -> None:
        if type(event).__name__ == "PartDone" and front.gateway != ahead:
            front.switch(ahead)
            if order["told"]:
                engine.lease.report_expired(first[0])

    engine = Engine(
        RoleSpec(order["role"]),
        endpoint_url=front.endpoint,
        sts_endpoint_url=front.endpoint,
        config=_CONFIG,
        retry=_RETRY,
        hook=hook,
    )
    async with engine:
        first.append(await engine.lease.ready())
        left = engine.lease.remaining(first[0])
        result = await engine.upload(order["path"], order["url"])
        second = await engine.lease.ready()
        return {
            "parts": result.parts,
            "etag": result.etag,
            "verified": result.verified,
            "left": left,
            "keys": [first[0].access_key_id, second.access_key_id],
            "refused": await _refused(first[0], ahead, order["url"] + ".old"),
            "log": [asdict(passed) for passed in front.log],
        }


async def _refused(session: Credentials, endpoint: str, url: str) -> bool:
    """Whether a gateway refuses a session."""
    async with Engine(credentials=session, endpoint_url=endpoint, retry=_RETRY) as s3:
        try:
            await s3.upload(b"x", url)
        except AccessDenied:
            return True
    return False


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    with Front(order["now"]) as front:
        print(json.dumps(anyio.run(across, front, order["ahead"], order)))


if __name__ == "__main__":
    main()
