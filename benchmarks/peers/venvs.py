"""An environment of its own for each peer, made at first use from its requirements file.

What lives here: venvs in the cache folder, named by the hash of what is asked for. What must not:
runs. The files name packages and versions, nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_INSTALL_SECONDS = 600.0
# Written last; a folder without it is one that was not finished.
_DONE = "requirements.txt"


class CannotInstall(Exception):
    """The peer could not be installed; the message is the end of what pip said."""


def python_of(name: str, folder: Path) -> Path:
    """The Python of the environment ``requirements-NAME.txt``.

    Raises:
        CannotInstall: pip failed.
    """
    wanted = (_HERE / f"requirements-{name}.txt").read_text()
    digest = hashlib.sha256(f"{sys.version}\n{wanted}".encode()).hexdigest()[:12]
    home = folder / f"{name}-{digest}"
    python = home / "bin" / "python"
    if (home / _DONE).exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {' '.join(wanted.split())} ...", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", str(home)])
    requirements = str(_HERE / f"requirements-{name}.txt")
    _run([str(python), "-m", "pip", "install", "--quiet", "-r", requirements])
    (home / _DONE).write_text(wanted)
    return python


def version_of(python: Path, distribution: str) -> str:
    """The installed version of a distribution in that environment."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() or "(unknown)"


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode != 0:
        raise CannotInstall((done.stderr or done.stdout).strip()[-1000:])
