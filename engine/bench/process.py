"""Runs one command as a measured process, and ends it when the caller is cancelled.

What lives here: one run. What must not: what is run, and what its figures mean.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from engine.redact import redact

_LAUNCH = Path(__file__).with_name("launch.py")
# Longer than the launcher gives the command to end.
_END_SECONDS = 8.0
_TAIL = 300


class RunFailed(Exception):
    """The tool did not do the job; the message is why, without secrets."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used, from its start to its end.

    Attributes:
        wall: Seconds.
        cpu: User and system seconds, children included.
        rss: Peak memory of the process itself, bytes.
        rss_tree: Of the biggest process among it and its children.
        output: Its standard output.
    """

    wall: float
    cpu: float
    rss: int
    rss_tree: int
    output: str = ""


async def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, *, seconds: float
) -> Usage:
    """The command to its end, in ``folder``, with nothing but ``environment``.

    A cancelled caller interrupts it as a Ctrl-C would; it is killed where it does not end.

    Raises:
        RunFailed: It could not be started, ended with an error, or not in ``seconds``.
    """
    report, output, errors = (folder / name for name in ("usage.json", "output", "errors"))
    report.unlink(missing_ok=True)
    launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(report), str(output), str(errors)]
    process = await anyio.open_process(
        [*launch, str(folder), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # a Ctrl-C at the terminal reaches us only; we pass it on
    )
    try:
        with anyio.fail_after(seconds):
            await process.wait()
    except TimeoutError:
        await _stop(process)
        raise RunFailed(f"not done after {seconds:.0f} s") from None
    except BaseException:
        await _stop(process)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
    return _read(report, output, errors)


async def _stop(process: anyio.abc.Process) -> None:
    """By closing the line of life, so that the tool can tidy up; then by force."""
    with anyio.move_on_after(_END_SECONDS, shield=True):
        assert process.stdin is not None
        await process.stdin.aclose()
        await process.wait()
    if process.returncode is None:
        process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()


def _read(report: Path, output: Path, errors: Path) -> Usage:
    if not report.exists():
        raise RunFailed(f"it could not be started: {last_words(errors)}")
    used = json.loads(report.read_text())
    if used["status"] != 0:
        raise RunFailed(f"it ended with status {used['status']}: {last_words(errors)}")
    return Usage(
        used["wall"],
        used["cpu"],
        used["rss"],
        used["rss_tree"],
        output.read_text(errors="replace"),
    )


def last_words(errors: Path) -> str:
    """The last line that says something: where most programs put the error. No secrets."""
    lines = errors.read_text(errors="replace").splitlines() if errors.exists() else []
    said = [line.strip() for line in lines if any(letter.isalpha() for letter in line)]
    words = "".join(c if c.isprintable() else " " for c in said[-1]) if said else "it said nothing"
    return redact(words)[:_TAIL]
