"""Runs programs to their end, by the right clock or by a fast one, with a bound on the time."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.conftest import Finished, program
from tests.interop.radosgw import by_a_fast_clock, end

__all__ = ["Finished", "program", "run", "s3engine"]

# Seconds; the slowest takes two on an idle machine.
_SECONDS = 45.0


def run(
    command: Sequence[object], *, env: Mapping[str, str], folder: Path, fast: int = 0
) -> Finished:
    """Run ``command`` by a clock that is ``fast`` seconds fast; one that hangs fails the test."""
    line = [str(word) for word in command]
    child = subprocess.Popen(
        by_a_fast_clock(line, fast) if fast else line,
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
    try:
        out, err = child.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        end(child)
        out, err = child.communicate()
        raise AssertionError(f"{line} did not end in {_SECONDS:.0f} s:\n{out}\n{err}") from None
    return Finished(child.returncode, out, err)


def s3engine(*arguments: object, env: Mapping[str, str], folder: Path, fast: int = 0) -> Finished:
    """Run the real command."""
    return run([*program(), *arguments], env=env, folder=folder, fast=fast)
