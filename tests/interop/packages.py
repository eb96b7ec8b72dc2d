"""The Debian packages that the real servers come from: found, or installed where that is allowed.

What lives here: which programs are needed, and the one reason for which a test may be skipped.
What must not: starting a server.
"""

from __future__ import annotations

import os
import shutil
import subprocess

# Program -> package. No version: the newest that the machine's own index has is tested.
PACKAGES = {
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "monmaptool": "ceph-common",
    "faketime": "faketime",
}
# Seconds: 64 MB on a slow line, or another apt that holds the lock.
_APT_SECONDS = 400.0
_LOCK_SECONDS = 120
# Seconds: a program that only prints its version.
_VERSION_SECONDS = 30.0
# What apt says (in the C locale) when it cannot have a package. Any other failure is a failure.
_OUT_OF_REACH = (
    "Failed to fetch",
    "Unable to fetch",
    "Unable to locate package",
    "has no installation candidate",
)
_APT = (
    "apt-get",
    "-o",
    f"DPkg::Lock::Timeout={_LOCK_SECONDS}",
    "-o",
    "Acquire::Retries=0",
    "-o",
    "Acquire::http::Timeout=10",
    "-o",
    "Acquire::https::Timeout=10",
)


class InstallFailed(Exception):
    """apt could have the packages and did not install them."""


def missing() -> list[str]:
    """The packages whose programs are not there."""
    return sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})


def install() -> str | None:
    """Install what is missing.

    Returns:
        None when all is there, else why it cannot be had.

    Raises:
        InstallFailed: It can be had, and the installation failed.
    """
    wanted = missing()
    if not wanted:
        return None
    names = " ".join(wanted)
    if shutil.which("apt-get") is None:
        return f"{names}: not installed, and there is no apt-get"
    if os.geteuid() != 0:
        return f"{names}: not installed, and only root can install them"
    line = ("install", "-y", "--no-install-recommends", *wanted)
    try:
        _apt("update")  # where the index does not answer, an older copy of it may still do
        fetched = _apt(*line, "--download-only")
    except subprocess.TimeoutExpired:
        return f"{names}: apt-get could not fetch them in {_APT_SECONDS:.0f} s"
    if fetched.returncode != 0:
        reason = _out_of_reach(fetched.stdout)
        if reason is None:
            raise InstallFailed(fetched.stdout[-2000:])
        return f"{names}: {reason}"
    done = _apt(*line)
    if done.returncode != 0 or missing():
        raise InstallFailed(done.stdout[-2000:])
    return None


def versions() -> list[str]:
    """The first line that each server says of itself."""
    return [_first_line("radosgw", "--version"), _first_line("faketime", "--version")]


def _out_of_reach(text: str) -> str | None:
    lines = [line for line in text.splitlines() if any(words in line for words in _OUT_OF_REACH)]
    return lines[0].strip() if lines else None


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_APT, *arguments],
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_APT_SECONDS,
    )


def _first_line(*command: str) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_VERSION_SECONDS,
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else f"{command[0]} says nothing"
