"""The peers: how each is started for a job, and what it verifies of the bytes.

What lives here: the table. What must not: an import of any peer; each runs in a fresh process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.job import BUCKET, REGION
from benchmarks.peers.venvs import python_of, version_of

Fields = dict[str, Any]
# Of the job's fields; None where the tool cannot do it.
MakeCommand = Callable[[Path, Fields], list[str] | None]


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the tables.

    Attributes:
        environment: Of ``requirements-<environment>.txt``; empty: the running Python.
        verifies: What is checked with the settings used here, and what is made durable.
        assumes: It assumes a role by itself; else it is given the session's keys.
        slow: Fewer rounds, and more time in the estimate.
        tuned: Not as it comes; the network table has default settings only.
    """

    name: str
    environment: str
    distribution: str
    verifies: str
    command: MakeCommand
    assumes: bool = False
    slow: bool = False
    tuned: bool = False

    def python(self, folder: Path) -> Path:
        """Raises CannotInstall."""
        return python_of(self.environment, folder) if self.environment else Path(sys.executable)

    def version(self, python: Path) -> str:
        return version_of(python, self.distribution)


def _module(name: str, *more: str) -> MakeCommand:
    def command(python: Path, job: Fields) -> list[str]:
        return [str(python), "-m", f"benchmarks.peers.{name}", json.dumps(job), *more]

    return command


def _s3engine_command(python: Path, job: Fields) -> list[str] | None:
    url, path = f"s3://{BUCKET}/{job['key']}", job["path"] + ("/" if job["tree"] else "")
    options = ["--region", REGION, "--endpoint-url", job["endpoint"]]
    if job["ca"]:
        options += ["--ca-bundle", job["ca"]]
    if job["role"]:
        options += ["--role-arn", job["role"], "--sts-endpoint-url", job["endpoint"]]
    program = [str(python.with_name("s3engine"))]
    if job["verb"] == "list":
        return [*program, "ls", url, *options]
    way = [path, url] if job["verb"] == "up" else [url, path]
    if job["checksums"] == "off":
        options += ["--checksum", "none"]
    return [*program, "cp", *way, "--quiet", *options]


def _s5cmd(python: Path, job: Fields) -> list[str] | None:
    if job["checksums"] == "on" and job["verb"] != "list":
        return None
    # The program itself, without the Python wrapper that starts it.
    found = sorted(python.parent.parent.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))
    remote = f"s3://{BUCKET}/{job['key']}"
    start = [str(found[0]), "--endpoint-url", job["endpoint"], "--log", "error"]
    if job["verb"] == "list":
        return [*start, "ls", f"{remote}*"]
    local = job["path"] + ("/" if job["tree"] else "")
    if job["verb"] == "up":
        return [*start, "cp", local, remote]
    return [*start, "cp", f"{remote}*" if job["tree"] else remote, local]


PEERS = (
    Peer(
        "s3engine",
        "",
        "s3engine",
        "up: CRC64NVME of every byte sent, of the whole object at complete, and compared with the "
        "answer; down: CRC64NVME of every byte compared with the stored one; If-Match on every "
        "range; files appear by rename after fsync; checksums off: --checksum none, nothing",
        _module("s3engine_client"),
        assumes=True,
    ),
    Peer(
        "s3engine-cp",
        "",
        "s3engine",
        "the command (cp, ls); the same as s3engine",
        _s3engine_command,
        assumes=True,
    ),
    Peer(
        "obstore",
        "obstore",
        "obstore",
        "up: SHA-256 of every body in the signature (its default), no checksum that is kept; down: "
        "nothing; checksums on: CRC64NVME up; no rename, no fsync",
        _module("obstore_client"),
    ),
    Peer(
        "obstore-tuned",
        "obstore",
        "obstore",
        "as obstore (SHA-256 of every body in the signature, its default); uvloop, parts of 16 "
        "MiB, ranges of 8 MiB, 8 at once; no rename, no fsync",
        _module("obstore_client", "--tuned"),
        tuned=True,
    ),
    Peer(
        "obstore-unsigned",
        "obstore",
        "obstore",
        "as obstore-tuned, but no SHA-256 (unsigned_payload): nothing is verified in either "
        "direction; checksums on: CRC64NVME up",
        _module("obstore_client", "--tuned", "--unsigned"),
        tuned=True,
    ),
    Peer(
        "awscrt",
        "awscrt",
        "awscrt",
        "no checksum in either direction (its default); checksums on: CRC64NVME of each part as a "
        "trailer, and of answers where S3 sends one; no rename, no fsync; cannot list, is told "
        "the keys",
        _module("awscrt_client"),
    ),
    Peer(
        "s5cmd",
        "s5cmd",
        "s5cmd",
        "no checksum of its own in either direction; rename at the end of a download, no fsync",
        _s5cmd,
    ),
    Peer(
        "boto3",
        "boto3",
        "boto3",
        "up: CRC32 of every byte, over plain http SHA-256 as well; down: the stored checksum where "
        "one GET takes the object, nothing for ranges; checksums off: when_required; rename, no "
        "fsync",
        _module("boto3_client"),
        assumes=True,
        slow=True,
    ),
    Peer(
        "aioboto3",
        "aioboto3",
        "aioboto3",
        "up: CRC32 of every byte, over plain http SHA-256 as well; down: the stored checksum of "
        "its one GET; no rename, no fsync",
        _module("aioboto3_client"),
        assumes=True,
        slow=True,
    ),
)
