"""``make interop``: install what can be had, say what is tested, test it, say what was skipped.

What lives here: the order of these steps. What must not: a test, or a reason to skip one.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.interop.packages import InstallFailed, install, versions

ROOT = Path(__file__).parents[2]
# What cannot be tested without the packages.
_NEEDS_PACKAGES = (
    "cases 1, 2 and 4, case 3 without an external id, sessions that end, and uploads across the "
    "end of a session"
)


def main() -> int:
    """Returns the exit status: 0 also where packages are out of reach, which the last line says."""
    print(f"s3engine {version('s3engine')}, moto {version('moto')}", flush=True)
    try:
        reason = install()
    except InstallFailed as error:
        print(f"interop: the packages of the servers could not be installed\n{error}")
        return 1
    if reason is None:
        print("\n".join(versions()), flush=True)
    line = (sys.executable, "-m", "pytest", "-m", "interop", "tests", *sys.argv[1:])
    status = subprocess.run(line, cwd=ROOT).returncode
    if reason is not None:
        print(f"interop: SKIPPED at radosgw, {_NEEDS_PACKAGES}. Reason: {reason}")
    elif status == 0:
        print("interop: all of it ran, nothing was skipped")
    return status


if __name__ == "__main__":
    sys.exit(main())
