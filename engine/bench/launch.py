"""One measured process: ``python -I launch.py REPORT OUTPUT ERRORS FOLDER COMMAND...``.

It starts the command, waits, and writes what it used as JSON: wall seconds from start to end, CPU
seconds with those of its children, and the peak memory of the process itself. It is small because
a child's peak, as the kernel keeps it, is never below what its parent had; Linux's VmHWM has no
such flaw and is read every few milliseconds. Standard input is a line of life: when it is closed
the command is interrupted, and killed where it does not end. Imports nothing of the package.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time

# VmHWM only grows, so what is lost is the growth of the last of these. Seconds.
_LOOK = 0.02
# A tool that is interrupted may have uploads to abort. Seconds.
_GRACE = 5.0


def _peak(pid: int) -> int:
    """VmHWM in bytes; 0 where it cannot be read."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def main() -> int:
    """The exit status of this process is 0 where the command was started."""
    report, output, errors, folder, *command = sys.argv[1:]
    woken, wakes = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    with open(output, "wb") as out, open(errors, "wb") as err:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                process_group=0,
            )
        except OSError as error:
            err.write(f"{command[0]}: {error.strerror}\n".encode())
            return 1
    peak, stopping = 0, 0.0
    life = [sys.stdin.fileno()]
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, _peak(process.pid))
        ready, _, _ = select.select([woken, *life], [], [], _LOOK)
        if woken in ready:
            woken.recv(64)
        if life and life[0] in ready and not os.read(life[0], 64):
            life.clear()
            stopping = time.perf_counter() + _GRACE
            _signal(process, signal.SIGINT)
        if stopping and time.perf_counter() > stopping:
            _signal(process, signal.SIGKILL)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    _signal(process, signal.SIGKILL)  # what it may have left behind
    unit = 1 if sys.platform == "darwin" else 1024
    # Kept by the kernel: of the biggest process of the tree, and never below this one's own.
    kept = used.ru_maxrss * unit
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with open(report, "w") as file:
        json.dump(
            {
                "wall": wall,
                "cpu": used.ru_utime + used.ru_stime,
                "rss": peak or kept,
                "rss_tree": max(kept, peak) if kept > own else peak or kept,
                "status": process.returncode,
            },
            file,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
