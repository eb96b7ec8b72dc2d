"""The tools that can be measured: how each is found, started for a job, and what it verifies.

What lives here: the table. What must not: an import of any of them; each runs in a fresh process.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bench.machine import installed
from engine.bench.workload import Work
from engine.errors import UsageError
from engine.version import VERSION

OURS = "s3engine"


class CannotDo(Exception):
    """The tool has no way to do the job; the message is why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job finds its files and objects.

    Attributes:
        key: The prefix of all objects, with its slash.
        endpoint, ca: Empty where they are the usual ones.
        options: Settings of s3engine that differ from its defaults, by their names there.
        network: Its way to the services, by the names of ``Engine``, without a proxy: that stands
            in the environment, because it may hold a password.
    """

    folder: Path
    bucket: str
    key: str
    region: str
    endpoint: str
    ca: str
    options: dict[str, Any]
    network: dict[str, Any]

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


Command = Callable[[str, Work, Place, Path], list[str]]


@dataclass(frozen=True, slots=True)
class Tool:
    """One that can be measured.

    Attributes:
        program: Looked for in PATH; empty for a distribution of this Python.
        version: The arguments that make the program print its version.
        verifies: What is checked with the settings used here, and what is made durable.
        command: Of program, job, place and a file for it: the argument vector.
    """

    name: str
    verifies: str
    command: Command
    program: str = ""
    distribution: str = ""
    version: tuple[str, ...] = ()

    def find(self) -> str | None:
        """The program's path, or this Python; None where it is not installed."""
        if self.program:
            return shutil.which(self.program)
        # This is s3engine, however it came here; the others are looked for by their metadata.
        return sys.executable if self.name == OURS or installed(self.distribution) else None


def job_file(work: Work, place: Place, path: Path) -> Path:
    """What a runner of ``engine.bench.runners`` is told."""
    fields = {
        "verb": work.verb,
        "folder": str(place.folder),
        "bucket": place.bucket,
        "key": place.key,
        "items": [(item.name, item.size) for item in work.items],
        "in_memory": work.in_memory,
        "endpoint": place.endpoint,
        "region": place.region,
        "ca": place.ca,
        "checksum": work.checksum or "",
        "options": place.options,
        "network": place.network,
    }
    path.write_text(json.dumps(fields))
    return path


def python_module(name: str, *arguments: str) -> list[str]:
    """A module of this package in a fresh process; -P: nothing is imported from its folder."""
    return [sys.executable, "-P", "-m", f"engine.bench.{name}", *arguments]


def _runner(name: str) -> Command:
    def command(program: str, work: Work, place: Place, file: Path) -> list[str]:
        return python_module(f"runners.{name}_runner", str(job_file(work, place, file)))

    return command


def _s3engine(program: str, work: Work, place: Place, file: Path) -> list[str]:
    if work.checksum is not None:
        place.options["checksum"] = our_checksum(work.checksum)
    if work.in_memory:
        return _runner("s3engine")(program, work, place, file)
    start = "import sys; from engine.cli.app import main; main(sys.argv[1:])"
    words = [sys.executable, "-P", "-c", start]
    flags = ["--region", place.region]
    if place.endpoint:
        flags += ["--endpoint-url", place.endpoint]
    if place.ca:
        flags += ["--ca-bundle", place.ca]
    if work.verb == "list":
        return [*words, "ls", place.url, *flags]
    for name, value in place.options.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    here = f"{place.folder}/"
    way = [here, place.url] if work.verb == "upload" else [place.url, here]
    # An upload that is interrupted is to be aborted, as by the other tools, and not kept.
    return [*words, "cp", *way, "--no-resume", "--quiet", *flags]


def our_checksum(wanted: str) -> str:
    """S3's name of a checksum as s3engine writes it. Raises UsageError for one it has not."""
    from engine.transfer.checksums import CHECKSUMS

    if wanted.lower() not in CHECKSUMS.names():
        raise UsageError(
            f"the workload wants {wanted}, which s3engine does not compute",
            fix=f"It computes {', '.join(CHECKSUMS.names())}; take it out of the file, or null",
        )
    return wanted.lower()


def _aws(program: str, work: Work, place: Place, file: Path) -> list[str]:
    words = [program, "s3"]
    shared = ["--region", place.region]
    if place.endpoint:
        shared += ["--endpoint-url", place.endpoint]
    if work.verb == "list":
        return [*words, "ls", place.url, "--recursive", *shared]
    _needs_files(work)
    if work.checksum and work.verb == "upload":
        shared += ["--checksum-algorithm", work.checksum]
    elif work.checksum:
        shared += ["--checksum-mode", "ENABLED"]
    here = f"{place.folder}/"
    way = [here, place.url] if work.verb == "upload" else [place.url, here]
    return [*words, "cp", *way, "--recursive", "--only-show-errors", *shared]


def _s5cmd(program: str, work: Work, place: Place, file: Path) -> list[str]:
    words = [program, "--log", "error"]
    if place.endpoint:
        words += ["--endpoint-url", place.endpoint]
    if work.verb == "list":
        return [*words, "ls", f"{place.url}*"]
    _needs_files(work)
    _no_checksum(work)
    here = f"{place.folder}/"
    way = [here, place.url] if work.verb == "upload" else [f"{place.url}*", here]
    return [*words, "cp", *way]


def _obstore(program: str, work: Work, place: Place, file: Path) -> list[str]:
    _no_checksum(work)
    return _runner("obstore")(program, work, place, file)


def _needs_files(work: Work) -> None:
    if work.in_memory:
        raise CannotDo("it moves files only, and this workload has none")


def _no_checksum(work: Work) -> None:
    if work.checksum:
        raise CannotDo(f"it does not compute {work.checksum}")


TOOLS: Sequence[Tool] = (
    Tool(
        OURS,
        "up: the checksum of every byte, of the whole object at complete, and compared with the "
        "answer; down: of every byte, compared with the stored one; If-Match on every range; files "
        "appear by rename after fsync",
        _s3engine,
        distribution="s3engine",
    ),
    Tool(
        "aws-cli",
        "up: a CRC of every byte; down: the stored checksum where one GET takes the object; "
        "rename, no fsync",
        _aws,
        program="aws",
        version=("--version",),
    ),
    Tool(
        "s5cmd",
        "no checksum of its own in either direction; rename at the end of a download, no fsync",
        _s5cmd,
        program="s5cmd",
        version=("version",),
    ),
    Tool(
        "boto3",
        "up: CRC32 of every byte, over plain http SHA-256 as well; down: the stored checksum where "
        "one GET takes the object; rename, no fsync",
        _runner("boto3"),
        distribution="boto3",
    ),
    Tool(
        "obstore",
        "up: SHA-256 of every body in the signature, no checksum that is kept; down: nothing; no "
        "rename, no fsync",
        _obstore,
        distribution="obstore",
    ),
)
PEERS = tuple(tool.name for tool in TOOLS if tool.name != OURS)


def version_in(output: str) -> str:
    """The version in what a program prints: ``aws-cli/2.15.0 Python/3.11``, ``v2.3.0-abc``."""
    first = output.split(maxsplit=1)[0] if output.split() else ""
    return first.rpartition("/")[2].removeprefix("v").partition("-")[0] or "(unknown version)"


def library_version(tool: Tool) -> str:
    """Of a tool that is a distribution."""
    return VERSION if tool.name == OURS else installed(tool.distribution) or "(unknown version)"
