"""The launcher of PostgreSQL: nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.testing.redshift.binaries import ENVIRONMENT_VARIABLE, find_binaries
from engine.testing.redshift.postgres import PostgresServer

ORPHAN = """
from engine.testing.redshift.postgres import PostgresServer
server = PostgresServer()
server.start()
print(server.pid, server.socket_path, flush=True)
input()
"""
PATIENCE = 10.0


def test_the_folder_goes_with_the_server(postgres: PostgresServer) -> None:
    assert postgres.version.startswith("postgres (PostgreSQL)")
    assert Path(postgres.socket_path).exists()
    with pytest.raises(UsageError, match="running already"):
        postgres.start()
    # A folder of the server's own, closed to others.
    assert Path(postgres.socket_path).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_killed_process_leaves_nothing() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stdout is not None
    assert child.stdin is not None
    pid, socket_path = child.stdout.readline().split()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    deadline = time.monotonic() + PATIENCE
    while Path(socket_path).parent.exists() or _alive(int(pid)):
        assert time.monotonic() < deadline, "PostgreSQL outlived its parent"
        time.sleep(0.05)


def test_a_wrong_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match=ENVIRONMENT_VARIABLE):
        find_binaries()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A dead process stays a zombie where nobody reaps orphans, as in many containers.
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc: macOS, whose init reaps
        return not Path("/proc").exists()
