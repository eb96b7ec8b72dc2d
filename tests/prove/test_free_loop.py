"""The loop stays free beside a big transfer on a slow disk. Minutes; ``make prove``.

A task of the same loop sleeps a millisecond again and again; the gaps between its turns are what
every other task of the user's program would wait. What the machine is to blame for does not count:
the time in which the loop's thread could have run and got no core, by the kernel's own account.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import anyio
import pytest

from benchmarks.fast_origin.build import CannotBuild, build
from benchmarks.fast_origin.process import OriginProcess
from engine import Credentials, Engine, MiB, TransferConfig
from tests.prove.slow_disk import NotHere, SlowDisk, slow_disk

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

SIZE = int(os.environ.get("S3ENGINE_PROVE_MIB", "2048")) * MiB
DISK_SPEED = 50_000_000
# Seconds.
MOST_OF_ALL, LONGEST = 0.020, 0.100


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDisk]:
    try:
        with slow_disk(tmp_path_factory.mktemp("disk"), SIZE + 256 * MiB) as disk:
            yield disk
    except NotHere as reason:
        pytest.skip(f"no disk can be slowed here: {reason}")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OriginProcess]:
    try:
        programs = build()
    except CannotBuild as reason:
        pytest.skip(f"no origin: {reason}")
    with OriginProcess(programs, tmp_path_factory.mktemp("origin"), tls=programs.tls) as origin:
        origin.set(check=False)
        yield origin


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"use_uvloop": request.param})


@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
@pytest.mark.parametrize("transport", ["http", "https"])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_the_loop_stays_free(
    disk: SlowDisk, origin: OriginProcess, direction: str, transport: str, checksum: str
) -> None:
    if transport == "https" and not origin.ca:
        pytest.skip("the origin was built without TLS")
    path, key = disk.folder / "file", f"s/{SIZE}/1/big"
    path.unlink(missing_ok=True)
    disk.fast()
    if direction == "up":
        origin.fetch("bench-bucket", key, path)
        _make_cold(path)
    disk.slow(DISK_SPEED)
    gaps: list[float] = []
    async with Engine(
        region="us-east-1",
        endpoint_url=origin.endpoint(transport),
        ca_bundle=origin.ca or None,
        credentials=Credentials("AKIDPROOFONLY", "not-a-secret"),
        config=TransferConfig(checksum=checksum),
    ) as s3:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_heartbeat, gaps)
            if direction == "up":
                await s3.upload(path, "s3://bench-bucket/up/big")
            else:
                await s3.download(f"s3://bench-bucket/{key}", path)
            tasks.cancel_scope.cancel()
    gaps.sort()
    most, longest = gaps[int(len(gaps) * 0.999)], gaps[-1]
    print(
        f"{direction} {transport} {checksum}: {len(gaps)} beats, p99.9 {most * 1000:.1f} ms, "
        f"max {longest * 1000:.1f} ms"
    )
    assert most <= MOST_OF_ALL
    assert longest <= LONGEST


async def _heartbeat(gaps: list[float]) -> None:
    with _CoreWait() as waited:
        while True:
            before, core_before = monotonic(), waited()
            await anyio.sleep(0.001)
            gaps.append(monotonic() - before - (waited() - core_before))


class _CoreWait:
    """Seconds that this thread has waited for a core; 0 where the kernel does not say."""

    def __enter__(self) -> Callable[[], float]:
        try:
            thread = threading.get_native_id()
            self._descriptor = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY)
        except OSError:
            self._descriptor = -1
        return self._look

    def _look(self) -> float:
        if self._descriptor < 0:
            return 0.0
        return int(os.pread(self._descriptor, 100, 0).split()[1]) / 1e9

    def __exit__(self, *exc: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _make_cold(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
