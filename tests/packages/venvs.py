"""Environments of their own, and pip in them.

What lives here: making one, installing, asking what is there, and the one reason to skip: no
package index. What must not: what is to be shown in one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Seconds: pyarrow and pandas on a slow line.
_INSTALL_SECONDS = 300.0
_ASK_SECONDS = 60.0
# What pip says where there is no way to an index; any other failure is a failure.
_OUT_OF_REACH = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "Connection refused",
    "ConnectTimeoutError",
)


class NoIndex(Exception):
    """There is no way to a package index."""


@dataclass(frozen=True, slots=True)
class Venv:
    """One environment. Nothing of the tree is in it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Venv:
        subprocess.run(
            [sys.executable, "-m", "venv", str(folder)], check=True, timeout=_ASK_SECONDS
        )
        return cls(folder)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def program(self) -> str:
        return str(self.folder / "bin" / "s3engine")

    def install(self, *what: str) -> None:
        """By wheels only: what has none for this Python is not what users get.

        Raises:
            NoIndex: There is no way to one.
        """
        done = self._pip(_INSTALL_SECONDS, "install", "--only-binary", ":all:", *what)
        if done.returncode == 0:
            return
        said = done.stdout + done.stderr
        if any(words in said for words in _OUT_OF_REACH):
            raise NoIndex(said.strip().splitlines()[-1])
        raise AssertionError(f"pip install {' '.join(what)}:\n{said[-3000:]}")

    def check(self) -> None:
        """``pip check``: every requirement of every package is met."""
        done = self._pip(_ASK_SECONDS, "check")
        assert done.returncode == 0, done.stdout

    def versions(self) -> dict[str, str]:
        """Name -> version of what is installed."""
        done = self._pip(_ASK_SECONDS, "list", "--format", "json")
        assert done.returncode == 0, done.stderr
        return {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}

    def run(self, code: str) -> str:
        """What a program prints that runs outside the tree."""
        done = subprocess.run(
            [self.python, "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _pip(self, seconds: float, *words: str) -> subprocess.CompletedProcess[str]:
        line = [self.python, "-m", "pip", "--disable-pip-version-check", *words]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=seconds, cwd=self.folder
        )
