"""moto as a child process: a plain S3 without any security, for the gate to stand in front of.

What lives here: start, wait, stop. What must not: an import of moto. It is some hundred modules
heavy and would share the interpreter lock of whoever is being measured.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from engine.errors import EngineError

START_TIMEOUT = 60.0  # seconds; 0.7 on an idle machine, the rest is for busy ones
STOP_TIMEOUT = 5.0
_POLL = 0.02

# moto reads a whole object for every range of it, so a big one by ranges takes minutes. Here a
# ranged GET is handed something that has the object's length and reads only the slice that moto
# cuts from it; all else of the answer is moto's as before. A moto without these names stays slow.
_CHEAP_RANGES = """
from moto.s3.models import FakeKey
from moto.s3.responses import S3Response
class Content:
    def __init__(self, key):
        self.key = key
    def __len__(self):
        return self.key.contentsize
    def __getitem__(self, piece):
        start, stop, _ = piece.indices(len(self))
        with self.key.lock:
            self.key._value_buffer.seek(start)
            return self.key._value_buffer.read(max(0, stop - start))
def cheapen():
    ranged, whole = threading.local(), FakeKey.value
    get, cut = S3Response.get_object, S3Response._handle_range_header
    def get_object(self, *rest):
        ranged.now = "range" in self.headers and "partNumber" not in self.querystring
        try:
            return get(self, *rest)
        finally:
            ranged.now = False
    def handle_range_header(self, *rest):
        status, headers, content = cut(self, *rest)
        return status, headers, content[:] if isinstance(content, Content) else content
    def value(key):
        return Content(key) if getattr(ranged, "now", False) else whole.fget(key)
    FakeKey.value = whole.getter(value)
    S3Response.get_object, S3Response._handle_range_header = get_object, handle_range_header
names_needed = ("get_object", "_handle_range_header")
if isinstance(getattr(FakeKey, "value", None), property) and all(
    hasattr(S3Response, name) for name in names_needed
):
    cheapen()
"""

# The child leaves when the pipe on its stdin closes, which happens however the parent ends. A
# parent-death signal would be tied to the thread that started the child, and to Linux.
# moto's answers carry a Server header of their own; a second one from werkzeug is refused by
# aiohttp's strict parser (python -X dev), so werkzeug sends none. And moto lists its own folder
# at every request, a third of its time; the list is made once.
_BOOTSTRAP = (
    """
import os, runpy, sys, threading
def leave(log):
    os.read(0, 1)
    try:
        os.unlink(log)
    finally:
        os._exit(0)
threading.Thread(target=leave, args=(sys.argv[1],), daemon=True).start()
from werkzeug.serving import WSGIRequestHandler as Handler
Handler.send_response = Handler.send_response_only
import moto.backends
names = list(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: names
"""
    + _CHEAP_RANGES
    + """
sys.argv = ["moto_server", *sys.argv[2:]]
runpy.run_module("moto.server", run_name="__main__", alter_sys=False)
"""
)


class MotoFailed(EngineError):
    """moto did not start."""

    code = "X001"


class MotoProcess:
    """A moto server on a free port of 127.0.0.1. A context manager.

    Args:
        environ: Variables for it besides those of this process, which are left as they are.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ or {}
        self.port = 0
        self.start_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"MotoProcess(port={self.port}, pid={pid})"

    def __enter__(self) -> MotoProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            MotoFailed: It ended, or did not answer within ``START_TIMEOUT`` seconds.
        """
        began = time.monotonic()
        self.port = free_port()
        descriptor, name = tempfile.mkstemp(prefix="s3engine-moto-", suffix=".log")
        self._log = Path(name)
        arguments = (name, "-H", "127.0.0.1", "-p", str(self.port))
        with os.fdopen(descriptor, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environ},
                process_group=0,
            )
        try:
            self._wait(began + START_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began

    def stop(self) -> None:
        """End the child, by its own id. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None

    def _wait(self, deadline: float) -> None:
        assert self._process is not None
        while not self._answers():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-500:] if self._log else ""
                what = f"ended with status {status}" if status is not None else "does not answer"
                raise MotoFailed(
                    f"moto {what}", fix="Install s3engine[testing]", log=tail, port=self.port
                )
            time.sleep(_POLL)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", "/moto-api/data.json")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
