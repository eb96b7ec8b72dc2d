"""``make packages``: install the distributions, say what was tested, and what was skipped."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Returns the exit status: 0 also without an index, which the last line says."""
    began = time.monotonic()
    line = (sys.executable, "-m", "pytest", "tests/packages", "-s", "-rs", *sys.argv[1:])
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    if "SKIPPED" in done.stdout:
        print("packages: SKIPPED what installs anything. Reason: no way to a package index")
    elif done.returncode == 0:
        print(f"packages: all of it ran in {time.monotonic() - began:.0f} s, nothing was skipped")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
