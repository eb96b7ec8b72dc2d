"""A throw-away PostgreSQL: own folder, unix socket only, gone when this process is gone.

What lives here: initdb, start, readiness, stop. What must not: Redshift (``double.py``), or where
the programs come from (``binaries.py``).

PostgreSQL refuses to run as root, so root runs it as ``nobody``; no account is made. Its settings
give up every safety of the data for speed, and give it Redshift's lexical rules.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from engine.errors import EngineError, SourceUnavailable, UsageError
from engine.testing.redshift import pgwire
from engine.testing.redshift.binaries import copy_binaries, find_binaries, usable_by
from engine.testing.redshift.pgwire import ServerError

SUPERUSER = "postgres"

# initdb takes 0.8 s, the start 0.02 s; the rest is for machines that are busy with tests.
_INITDB_SECONDS = 120
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
# sun_path holds 108 bytes on Linux and 104 on macOS, with the NUL.
_MAX_SOCKET_PATH = 100
# CREATE DATABASE makes 300 files: 0.06 s in memory, 0.5 s on a busy disk, and a test session makes
# hundreds of databases. The room is for some million rows; containers have 64 MiB by default.
_MEMORY_FOLDER = "/dev/shm"
_MEMORY_BYTES = 2 * 1024**3
_PORT = 5432  # only a part of the socket's name

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_size": "128MB",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "64MB",
    "max_connections": "120",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "ISO, MDY",
    # System tables of Redshift are made in pg_catalog, where every search_path finds them.
    "allow_system_table_mods": "on",
    # Redshift keeps the literals of PostgreSQL 8.0: a backslash escapes, also a quote.
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "backslash_quote": "on",
}

# The shell becomes PostgreSQL (exec keeps its pid). Before, it leaves a watcher behind, whose
# pipe ends when this process ends, however it ends: then nothing may be left running or lying
# about. PR_SET_PDEATHSIG would not do: it follows the thread that started the server.
_LAUNCH = """
exec 3<&0
(
  read -r line && exit
  kill -QUIT $$
  tries=50
  while kill -0 $$ && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
  rm -rf "$0"
) <&3 >/dev/null 2>&1 &
exec 3<&-
exec "$@" </dev/null
"""


class PostgresServer:
    """One server. ``start`` and ``stop`` block; safe to use from any thread, or as a context.

    Attributes:
        socket_path: The unix socket to connect to, once started.
        version: What ``postgres --version`` says, once started.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._account: dict[str, Any] = {}
        self._environment: dict[str, str] = {}
        self.socket_path = ""
        self.version = ""

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "stopped"
        return f"<PostgresServer {self.version} {state}>"

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it is stopped."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Make the data folder, start the server, wait until it takes sessions.

        Raises:
            UsageError: No PostgreSQL, or the server is running already.
            SourceUnavailable: PostgreSQL did not start; the message carries its last words.
        """
        with self._lock:
            if self._process is not None:
                raise UsageError("this PostgreSQL is running already")
            try:
                self._start()
            except OSError as error:  # no right to become nobody, a full disk, ...
                self._stop()
                raise SourceUnavailable(f"PostgreSQL cannot be started: {error}") from error
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """Stop the server and remove its folder. Does nothing when it is not running."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._account = _account()
        self._folder = _make_folder(self._account)
        self._environment = _environment(self._folder)
        binaries = find_binaries()
        if self._account and not usable_by(binaries, self._account):
            binaries = copy_binaries(binaries, self._folder / "postgresql")
            self._environment["LD_LIBRARY_PATH"] = str(binaries.parent / "lib")
            for folder, _, _ in os.walk(binaries.parent):  # the watcher must be able to remove it
                os.chown(folder, self._account["user"], self._account["group"])
        data = self._folder / "data"
        self.version = self._run([str(binaries / "postgres"), "--version"]).strip()
        self._run(
            [
                str(binaries / "initdb"),
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ]
        )
        self.socket_path = str(self._folder / f".s.PGSQL.{_PORT}")
        settings = {**_SETTINGS, "unix_socket_directories": str(self._folder)}
        command = [str(binaries / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, str(self._folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal is not for the server
                **self._account,
            )
        self._wait_until_ready(self._process)

    def _run(self, command: list[str]) -> str:
        assert self._folder is not None
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_INITDB_SECONDS,
                cwd=self._folder,
                env=self._environment,
                check=False,
                **self._account,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceUnavailable(f"{Path(command[0]).name} does not run: {error}") from error
        if done.returncode != 0:
            raise SourceUnavailable(
                f"{Path(command[0]).name} failed with status {done.returncode}: "
                f"{done.stderr.strip()[-500:]}"
            )
        return done.stdout

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _takes_sessions(self.socket_path):
            if process.poll() is not None:
                raise self._failed(f"PostgreSQL ended with status {process.returncode}")
            if time.monotonic() > deadline:
                raise self._failed(f"PostgreSQL took no session within {_START_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _failed(self, what: str) -> EngineError:
        assert self._folder is not None
        words = (self._folder / "log").read_text(errors="replace").strip()[-500:]
        return SourceUnavailable(f"{what}: {words}")

    def _stop(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server without ceremony: its folder goes next."""
    for number in (signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    stdin: IO[bytes] | None = process.stdin
    if stdin is not None:
        try:
            stdin.write(b"stopped\n")
            stdin.close()
        except OSError:
            pass  # the watcher is gone too


def _account() -> dict[str, Any]:
    """Arguments for subprocess that make root somebody else; {} for everybody else."""
    if os.geteuid() != 0:
        return {}
    import grp
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise UsageError(
            "root cannot run PostgreSQL and there is no account nobody", fix="Run as a user"
        ) from None
    try:
        group = grp.getgrnam("nogroup").gr_gid
    except KeyError:  # Red Hat and macOS call it otherwise
        group = entry.pw_gid
    return {"user": entry.pw_uid, "group": group, "extra_groups": []}


def _make_folder(account: dict[str, Any]) -> Path:
    """A 0700 folder of the server's own account, with a path short enough for a socket."""
    memory = [_MEMORY_FOLDER] if "TMPDIR" not in os.environ and _memory_serves() else []
    for parent in dict.fromkeys((*memory, tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if not os.path.isdir(parent):
            continue
        folder = Path(tempfile.mkdtemp(prefix="s3engine-pg-", dir=parent))
        if account:
            os.chown(folder, account["user"], account["group"])
        if len(str(folder)) + 20 < _MAX_SOCKET_PATH and _can_enter(folder, account):
            return folder
        folder.rmdir()
    raise UsageError(
        "no temporary folder that the PostgreSQL account can enter and whose path is short",
        fix="Set TMPDIR to a folder such as /tmp",
    )


def _memory_serves() -> bool:
    """Whether the folder in memory has room, and lets copied programs run."""
    try:
        found = os.statvfs(_MEMORY_FOLDER)
    except OSError:
        return False
    no_exec = found.f_flag & getattr(os, "ST_NOEXEC", 0)
    room = found.f_bavail * found.f_frsize >= _MEMORY_BYTES
    return room and not no_exec and os.access(_MEMORY_FOLDER, os.W_OK)


def _can_enter(folder: Path, account: dict[str, Any]) -> bool:
    if not account:
        return True
    script = ["/bin/sh", "-c", 'cd "$0"', str(folder)]
    done = subprocess.run(script, cwd="/", capture_output=True, check=False, timeout=20, **account)
    return done.returncode == 0


def _environment(folder: Path) -> dict[str, str]:
    kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
    return {**kept, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def _takes_sessions(socket_path: str) -> bool:
    """Whether a startup packet is answered by R. A mere connect meets 57P03 "starting up"."""
    parameters = {"user": SUPERUSER, "database": "postgres"}
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_START_SECONDS)
            link.connect(socket_path)
            link.sendall(pgwire.startup_packet(parameters))
            head = link.recv(1)
            if head == b"E":
                _raise_unless_starting(link.recv(4096))
            return head == b"R"
    except OSError:
        return False


def _raise_unless_starting(rest: bytes) -> None:
    """Raise for a refusal other than "starting up" (57P03); ``rest`` follows the type byte.

    Raises:
        SourceUnavailable: PostgreSQL refuses the session for good.
    """
    error = ServerError.parse(rest[4:])
    if error.sqlstate != "57P03":
        raise SourceUnavailable(f"PostgreSQL refuses its own superuser: {error}")
