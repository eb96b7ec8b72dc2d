"""The origin as a child, and one client run measured from outside.

What lives here: processes, their CPU (user + system), wall time and memory as the kernel counts
them. What must not: tables, verdicts, a heavy import: a child's memory starts as its parent's.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
RUN_SECONDS = 120.0
_END_SECONDS = 10.0
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class RunFailed(Exception):
    """A client that did not do its job; its message is the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One client process, from its start to its end, start-up included."""

    wall: float
    cpu: float
    max_rss: int
    origin_cpu: float
    operations: dict[str, int]
    bytes_in: int
    bytes_out: int
    connections: int


class OriginProcess:
    """``benchmarks.origin`` as a child; it ends when its standard input is closed."""

    def __init__(self, spec: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.origin", str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.endpoint = f"http://127.0.0.1:{self._line()['port']}"
        self.cpu: dict[str, float] = {}

    def set_rtt(self, milliseconds: float) -> None:
        """From the next answer on."""
        self._say(f"rtt {milliseconds}")

    def statistics(self) -> dict[str, Any]:
        """Counts since the last look."""
        self._say("stats")
        return self._line()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunFailed("the origin ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            lines = self._process.stdout.read().splitlines()
            self.cpu = json.loads(lines[-1]) if lines else {}
            self._process.wait(_END_SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()


def measure(command: list[str], origin: OriginProcess) -> Run:
    """Run one client to its end.

    Raises:
        RunFailed: It could not be started, failed, hung, or did what no correct client does.
    """
    origin.statistics()
    started = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=_environment(),
        )
    except OSError as error:
        raise RunFailed(str(error)) from error
    assert process.stdout is not None
    limit = threading.Timer(RUN_SECONDS, process.kill)
    limit.start()
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    seen = origin.statistics()
    if process.returncode != 0:
        tail = output.decode(errors="replace").strip()[-2000:]
        raise RunFailed(f"exit status {process.returncode}\n{tail}")
    if seen["problems"]:
        raise RunFailed(f"the origin saw: {'; '.join(seen['problems'])}")
    return Run(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        max_rss=usage.ru_maxrss * _RSS_UNIT,
        origin_cpu=seen["cpu_seconds"],
        operations=seen["operations"],
        bytes_in=seen["bytes_in"],
        bytes_out=seen["bytes_out"],
        connections=seen["connections"],
    )


def own_max_rss() -> int:
    """Bytes. A child starts as its parent, so its peak is never below this one."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _environment() -> dict[str, str]:
    """The caller's, without anything that would send a client elsewhere, and keys for s5cmd."""
    from benchmarks.clients.job import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    environment |= {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return environment
