"""A file system on a block device that is held to a speed: a loop device under ``blkio.throttle``.

What lives here: making it and taking it away. Needs root, loop devices, mkfs.ext4 and the blkio
controller of cgroups v1; ``NotHere`` says which of them is missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THROTTLE = Path("/sys/fs/cgroup/blkio")


class NotHere(Exception):
    """This machine cannot slow a disk, and why."""


class SlowDisk:
    """Mounted at ``folder``; as fast as what is below it until ``slow`` is called."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self._device = device

    def slow(self, bytes_per_second: int) -> None:
        """Reads and writes of everybody, the kernel's own among them."""
        for way in ("read", "write"):
            file = _THROTTLE / f"blkio.throttle.{way}_bps_device"
            file.write_text(f"{self._device} {bytes_per_second}")
        # Few dirty pages, so that who writes has to wait for the disk.
        information = Path(f"/sys/class/bdi/{self._device}")
        with suppress(OSError):
            (information / "strict_limit").write_text("1")
            (information / "max_ratio").write_text("1")

    def fast(self) -> None:
        for way in ("read", "write"):
            file = _THROTTLE / f"blkio.throttle.{way}_bps_device"
            file.write_text(f"{self._device} 0")


@contextmanager
def slow_disk(scratch: Path, size: int) -> Iterator[SlowDisk]:
    """An ext4 of ``size`` bytes in a sparse file below ``scratch``.

    Raises:
        NotHere: With what is missing.
    """
    if os.geteuid() != 0:
        raise NotHere("only root may mount")
    if not (_THROTTLE / "blkio.throttle.write_bps_device").exists():
        raise NotHere("no blkio controller of cgroups v1")
    image, folder = scratch / "image", scratch / "slow"
    with image.open("wb") as file:
        file.truncate(size)
    folder.mkdir()
    loop = ""
    try:
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        loop = _run("losetup", "--find", "--show", str(image)).strip()
        _run("mount", loop, str(folder))
        number = os.stat(loop).st_rdev
        disk = SlowDisk(folder, f"{os.major(number)}:{os.minor(number)}")
        try:
            yield disk
        finally:
            disk.fast()
            _run("umount", str(folder))
    finally:
        if loop:
            _run("losetup", "--detach", loop)
        image.unlink()


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise NotHere(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise NotHere(f"{' '.join(command)}: {error.stderr.strip()}") from None
