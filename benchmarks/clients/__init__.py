"""The clients that are compared, one file each, and what each of them promises about the bytes.

What lives here: the table. What must not: an import of any client; each runs in a fresh process.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.clients import s5cmd_command
from benchmarks.clients.job import Job


def _module(name: str, *more: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.clients.{name}", job.to_json(), *more]

    return command


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the tables.

    Attributes:
        distribution: Whose version is printed; empty for a program.
        verifies: What is checked, and what is made durable, with the settings used here.
        command: The argument vector for a job.
    """

    name: str
    distribution: str
    verifies: str
    command: Callable[[Job], list[str]]
    available: Callable[[], bool]


CLIENTS = (
    Client(
        "s3engine",
        "s3engine",
        "up: CRC64NVME of every byte sent and compared with the answer; down: CRC64NVME compared "
        "with the stored one, big objects too; files appear by rename after fsync of file and "
        "folder; If-Match on every range",
        _module("s3engine_client"),
        lambda: True,
    ),
    Client(
        "boto3",
        "boto3",
        "up: CRC32 of every byte, and over plain http SHA-256 of every byte as well (over https "
        "it sends UNSIGNED-PAYLOAD, so http is to its disadvantage); down: the stored checksum "
        "where one GET takes the object, nothing for ranges; rename, no fsync",
        _module("boto3_client"),
        lambda: find_spec("boto3") is not None,
    ),
    Client(
        "boto3-unsigned",
        "boto3",
        "as boto3, but no request is signed at all: no SHA-256, which is more than https would "
        "spare it; real buckets refuse this, it is a bound in its favour",
        _module("boto3_client", "--unsigned"),
        lambda: find_spec("boto3") is not None,
    ),
    Client(
        "awscrt",
        "awscrt",
        "no checksum in either direction (its default); no rename, no fsync; does not list, it "
        "is told the keys",
        _module("awscrt_client"),
        lambda: find_spec("awscrt.s3") is not None,
    ),
    Client(
        "obstore",
        "obstore",
        "no checksum in either direction (its default); over plain http SHA-256 of every byte "
        "unless unsigned_payload, which is set here; no rename, no fsync",
        _module("obstore_client"),
        lambda: find_spec("obstore") is not None,
    ),
    Client(
        "s5cmd",
        "",
        "no checksum of its own in either direction; no rename, no fsync",
        s5cmd_command.command,
        lambda: shutil.which("s5cmd") is not None,
    ),
)
