"""Ceph's object gateway as a real S3, STS and IAM on loopback: one monitor, one memory store.

What lives here: start, wait, stop. What must not: users, roles and buckets (``admin``), tests.

Everything is in one temporary folder and on free ports, so two runs can stand side by side, and
every process is a child that is ended by its own id. A second gateway serves the same cluster by a
clock that is ``AHEAD`` seconds fast: there a session of 15 minutes is over, one of an hour is not.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

# Past the end of a 900 s session, and before that of a 3,600 s one.
AHEAD = 1_200
# Seconds. Each step takes one or two on an idle machine; the rest is for busy ones.
_STEP_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL = 0.02
# A test run that is killed leaves its servers behind; they end by themselves after this long.
_LIFE_SECONDS = 1_800
# Enough for every test; memstore is memory.
_STORE_BYTES = 2 << 30

# A client may ask the monitor for something before it has learnt the cluster's id from it, and is
# refused ("wrong fsid", EPERM). So the store does not place itself in the map when it starts.
_CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail crit = 1
mon data avail warn = 1
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
memstore device bytes = {store_bytes}
memstore page set = false
run dir = {folder}
log file = {folder}/log/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw sts key = abcdefghijklmnop
rgw s3 auth use sts = true
rgw enable usage log = false
rgw crypt require ssl = false
rgw thread pool size = 64
[client.rgw.now]
rgw frontends = beast endpoint=127.0.0.1:{now_port} ssl_endpoint=127.0.0.1:{tls_port} \
    ssl_certificate={folder}/tls.pem tcp_nodelay=1
[client.rgw.ahead]
rgw frontends = beast endpoint=127.0.0.1:{ahead_port} tcp_nodelay=1
"""


class ServerFailed(Exception):
    """A part of the cluster did not start."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Keys of a user who may make users in every tenant."""

    access_key_id: str = "AKIAINTEROPOWNER0000"
    secret_access_key: str = "interop-owner-interop-owner-interop-owner"


class Radosgw:
    """A cluster with two gateways. A context manager.

    Attributes:
        endpoint: Of the gateway whose clock is right.
        tls_endpoint: The same by https, with a certificate of the authority in ``ca_bundle``.
        ahead: Of the gateway whose clock is ``AHEAD`` seconds fast.
        owner: May make users in every tenant.
    """

    def __init__(self) -> None:
        self.owner = Owner()
        self.folder = Path()
        self.endpoint = self.ahead = self.tls_endpoint = self.ca_bundle = ""
        self.start_seconds = 0.0
        self._fsid = str(uuid.uuid4())
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __repr__(self) -> str:
        return f"Radosgw({self.endpoint}, ahead={self.ahead})"

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="s3engine-radosgw-"))
        mon, now, ahead, tls = _free_ports(4)
        self.endpoint, self.ahead = (f"http://127.0.0.1:{port}" for port in (now, ahead))
        self.tls_endpoint = f"https://127.0.0.1:{tls}"
        self._write_certificate()
        self._write_config(mon, now, ahead, tls)
        self._start_store(mon)
        self.tool(
            "radosgw-admin", "user", "create", "--uid=interop", "--display-name=interop",
            f"--access-key={self.owner.access_key_id}",
            f"--secret={self.owner.secret_access_key}", "--caps=users=*",
        )  # fmt: skip
        self._daemon("radosgw-now", "radosgw", "-f", "-n", "client.rgw.now")
        fast = by_a_fast_clock(("radosgw", "-f", "-n", "client.rgw.ahead"), AHEAD)
        self._daemon("radosgw-ahead", *fast)
        self._wait("the gateway", lambda: _serves(now))
        self._wait("the gateway ahead", lambda: _serves(ahead))

    def _write_certificate(self) -> None:
        authority, bundle = trustme.CA(), self.folder / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        certificate.write_to_path(str(self.folder / "tls.pem"))
        self.ca_bundle = str(bundle)

    def _write_config(self, mon: int, now: int, ahead: int, tls: int) -> None:
        for name in ("mon", "osd", "rgw", "log"):
            (self.folder / name).mkdir()
        (self.folder / "ceph.conf").write_text(
            _CONFIG.format(
                fsid=self._fsid,
                folder=self.folder,
                store_bytes=_STORE_BYTES,
                mon_port=mon,
                now_port=now,
                ahead_port=ahead,
                tls_port=tls,
            )
        )

    def _start_store(self, mon: int) -> None:
        monmap = str(self.folder / "monmap")
        address = f"[v1:127.0.0.1:{mon}]"
        self.run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, monmap)
        self.tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("mon", "ceph-mon", "-f", "-i", "a")
        store = str(uuid.uuid4())
        self._ask_monitor("osd", "create", store)
        self.tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._daemon("osd", "ceph-osd", "-f", "-i", "0")
        place = ("osd.0", "1.0", "root=default", "host=localhost")
        self._ask_monitor("osd", "crush", "add", *place)

    def _ask_monitor(self, *arguments: str) -> None:
        """One of its idempotent commands, until it is taken (see the note at ``_CONFIG``)."""

        def taken() -> bool:
            with contextlib.suppress(ServerFailed):
                self.tool("ceph", *arguments)
                return True
            return False

        self._wait(f"the monitor ({' '.join(arguments[:2])})", taken)

    # ---- commands and processes ---------------------------------------------------------

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Ceph's programs with this cluster's configuration; returns its stdout."""
        return self.run(name, "-c", str(self.folder / "ceph.conf"), *arguments)

    def run(self, *command: str) -> str:
        """Raises ServerFailed where it fails or takes too long."""
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_STEP_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ServerFailed(
                f"{command[0]} took over {_STEP_SECONDS:.0f} s{self._logs()}"
            ) from None
        if done.returncode != 0:
            raise ServerFailed(f"{command[0]}: status {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    def _daemon(self, name: str, *command: str) -> None:
        """Start a server in the foreground as a child, apart from our terminal and signals."""
        with (self.folder / "log" / f"{name}.out").open("wb") as out:
            child = subprocess.Popen(
                ["timeout", str(_LIFE_SECONDS), *command, "-c", str(self.folder / "ceph.conf")],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._children.append((name, child))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STEP_SECONDS
        while not ready():
            ended = [name for name, child in self._children if child.poll() is not None]
            if ended or time.monotonic() > deadline:
                reason = f"{', '.join(ended)} ended" if ended else "it does not answer"
                raise ServerFailed(f"{what} did not start: {reason}{self._logs()}")
            time.sleep(_POLL)

    def _logs(self) -> str:
        """The ends of what the servers said."""
        files = sorted((self.folder / "log").glob("*"))
        return "".join(
            f"\n--- {file.name}\n{file.read_text(errors='replace')[-1000:]}" for file in files
        )

    def stop(self) -> None:
        """End every child by its own id, the last one first. Safe to call twice."""
        children, self._children = [child for _, child in self._children], []
        for child in reversed(children):
            end(child)
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)


def by_a_fast_clock(command: Sequence[str], seconds: int) -> list[str]:
    """A command line that runs ``command`` by a clock that is ``seconds`` fast.

    Without the first two flags, programs that wait by the monotonic clock may hang.
    """
    return ["faketime", "-m", "--exclude-monotonic", "-f", f"+{seconds}s", *command]


def end(child: subprocess.Popen[Any]) -> None:
    """Kill the program that runs inside wrappers such as ``faketime``, and wait for all of them.

    The wrappers leave by themselves then; killed, faketime would leave shared memory behind. No
    server here has anything to save, and gateways that are asked to end wait for each other.
    """
    if child.poll() is not None:
        return
    pid = child.pid
    with contextlib.suppress(OSError):  # it ends at this moment
        while inner := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(inner[0])
        os.kill(pid, signal.SIGKILL)
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _serves(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_STOP_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
