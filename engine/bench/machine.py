"""Facts about the machine and the Python of a measurement: without them a figure says nothing.

What lives here: facts. What must not: secrets, names of users or hosts. A fact that cannot be
known is left out or said to be unknown.
"""

from __future__ import annotations

import os
import platform
import ssl
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _metadata_version
from pathlib import Path

_DMI = Path("/sys/devices/virtual/dmi/id")


def machine() -> str:
    """``c7i.4xlarge, x86_64, 16 CPUs, <model>``; the instance type where it is one of EC2's."""
    parts = [platform.machine(), f"{os.cpu_count()} CPUs", processor()]
    if instance := _ec2_type():
        parts.insert(0, instance)
    return ", ".join(parts)


def _ec2_type() -> str | None:
    # Nitro instances say so in their firmware; asking IMDS could hang anywhere else.
    try:
        if (_DMI / "sys_vendor").read_text().strip() != "Amazon EC2":
            return None
        return (_DMI / "product_name").read_text().strip() or None
    except OSError:
        return None


def processor() -> str:
    """The model as Linux names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or sys.platform


def system() -> str:
    """Kernel and its version."""
    return f"{platform.system()} {platform.release()}"


def python() -> str:
    """Implementation, version, and the OpenSSL that it is linked with."""
    return f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}"


def load() -> str:
    """Load averages of 1, 5 and 15 minutes; above what is measured: not alone here."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def installed(distribution: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return _metadata_version(distribution)
    except PackageNotFoundError:
        return None


def file_system(folder: Path) -> str:
    """Type of the file system of ``folder``, by the longest mount point that holds it."""
    best, kind = "", "unknown"
    folder = folder.resolve()
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, point, name, *_ = line.split(" ")
            inside = folder == Path(point) or Path(point) in folder.parents
            if inside and len(point) >= len(best):
                best, kind = point, name
    except OSError:
        pass
    return kind
