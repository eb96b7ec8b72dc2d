"""The origin and the launcher, built by the system's C compiler at first use.

What lives here: one compiler call a program, kept in a cache folder under a name that is the hash
of its sources and flags. What must not: anything that runs them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCES = Path(__file__).parent / "src"
_LAUNCHER = "launch.c"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wno-missing-field-initializers")
_BUILD_SECONDS = 120.0


class CannotBuild(Exception):
    """No compiler, no Linux, or an error of the compiler; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What was built. ``tls`` is False where OpenSSL's headers were not found."""

    origin: Path
    launch: Path
    tls: bool


def build_for(transports: list[str]) -> tuple[Programs, list[str]]:
    """For the command line of a benchmark: both programs, and those of ``transports`` that they
    have; a word is printed where that is not all.

    Raises:
        SystemExit: They cannot be built; with what to install.
    """
    try:
        programs = build()
    except CannotBuild as error:
        raise SystemExit(f"the origin cannot be built: {error}") from None
    if not programs.tls and "https" in transports:
        print("OpenSSL's headers were not found (Debian: libssl-dev): no https rows")
        return programs, ["http"]
    return programs, transports


def cache_folder() -> Path:
    """Where programs and the peers' environments are kept; XDG_CACHE_HOME moves it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "s3engine-bench"


def build(folder: Path | None = None) -> Programs:
    """Both programs, from the cache where they are there.

    Raises:
        CannotBuild: With what to install.
    """
    if not Path("/proc/self/status").exists():
        raise CannotBuild("the origin needs Linux (epoll, sendfile, memfd)")
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise CannotBuild("no C compiler found; install one (Debian: gcc libc6-dev), or set CC")
    folder = folder or cache_folder() / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(path for path in _SOURCES.glob("*.c") if path.name != _LAUNCHER)
    tls = _has_openssl(compiler)
    flags = ["-pthread", *(["-DWITH_TLS", "-lssl", "-lcrypto"] if tls else [])]
    return Programs(
        origin=_program(compiler, "origin", sources, flags, folder),
        launch=_program(compiler, "launch", [_SOURCES / _LAUNCHER], [], folder),
        tls=tls,
    )


def _has_openssl(compiler: str) -> bool:
    probe = subprocess.run(
        [compiler, "-E", "-x", "c", "-"],
        input=b"#include <openssl/ssl.h>\n",
        capture_output=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    return probe.returncode == 0


def _program(compiler: str, name: str, sources: list[Path], flags: list[str], folder: Path) -> Path:
    digest = hashlib.sha256(" ".join([compiler, *_FLAGS, *flags]).encode())
    for path in [*sources, *sorted(_SOURCES.glob("*.h"))]:
        digest.update(path.read_bytes())
    program = folder / f"{name}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    # A name of its own, then a rename: two runs may build at the same time.
    unfinished = folder / f".{program.name}.{os.getpid()}"
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", str(unfinished), *map(str, sources), *flags],
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise CannotBuild(f"{compiler} failed for {name}:\n{done.stderr[-2000:]}")
    unfinished.rename(program)
    return program
