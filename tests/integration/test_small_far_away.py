"""Small objects that come from far away: the next is asked for before one is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import Credentials, Engine, Manifest, TransferConfig, disk
from engine.planes.wire import WirePlane
from engine.testing.clock import run_virtual
from engine.transfer.writer import FileWriter
from tests.unit.origin import Exchange, run_origin

OBJECTS, BODY = 6, b"of a small object"
LISTED = "".join(
    f'<Contents><Key>a/{number}</Key><Size>{len(BODY)}</Size><ETag>"e"</ETag>'
    "<LastModified>2026-11-24T12:00:00.000Z</LastModified></Contents>"
    for number in range(OBJECTS)
)
PAGE = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    f"<IsTruncated>false</IsTruncated>{LISTED}</ListBucketResult>"
)


@pytest.mark.parametrize("round_trip", [0.0, 0.02])
def test_the_next_request_does_not_wait_for_a_file(
    round_trip: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near, a file is written first, whose bytes are in the processor's cache."""
    order: list[str] = []

    def noted(name: str, owner: type, method: str) -> None:
        real = getattr(owner, method)

        async def call(*arguments: Any, **more: Any) -> Any:
            order.append(name)
            return await real(*arguments, **more)

        monkeypatch.setattr(owner, method, call)

    noted("ask", WirePlane, "get_range")
    noted("write", FileWriter, "write")
    monkeypatch.setattr(disk, "folder_in_memory", lambda _: True)

    async def store(exchange: Exchange) -> None:
        await anyio.sleep(round_trip)
        listing = "list-type=2" in exchange.request.target
        await exchange.answer(200, PAGE.encode() if listing else BODY, ETag='"e"')

    async def main() -> None:
        async with run_origin() as origin:
            origin.script.extend([store] * (OBJECTS + 1))
            async with Engine(
                endpoint_url=f"http://127.0.0.1:{origin.port}",
                region="us-east-1",
                credentials=Credentials("AKIDEXAMPLE", "secret"),
                config=TransferConfig(max_concurrency=1, checksum="none"),
            ) as s3:
                report = await s3.run(Manifest.download("s3://bucket/a/", tmp_path))
            assert report.objects == OBJECTS and not report.failed

    run_virtual(main)
    first = ["ask", "ask", "write"] if round_trip else ["ask", "write", "ask"]
    assert order[:3] == first and order.count("write") == OBJECTS
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {BODY}
