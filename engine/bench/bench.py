"""The benchmark against a bucket: the same jobs by every tool, in rounds that take turns.

What lives here: the order of things, and what one run is. What must not: text for people, the
commands of tools. Everything that was written is removed on every way out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import anyio

from engine.api import Engine
from engine.batch import Manifest
from engine.bench import material, process, tools
from engine.bench.ceiling import MAX_BYTES
from engine.bench.place import BenchPlace
from engine.bench.process import RunFailed, Usage
from engine.bench.workload import Item, Work, Workload
from engine.config import Endpoints
from engine.errors import EngineError
from engine.threads import ThreadDoor
from engine.types import S3Url

CEILING = "raw sockets"
# A run that takes longer hangs: 30 GiB at 9 MiB/s would be as long. Seconds.
RUN_SECONDS = 3600.0
# To delete what was written, also after a Ctrl-C. Seconds.
CLEAN_SECONDS = 60.0
# A tool that fails once, as some do now and then, is not out of the table.
_TRIES = 2
# Of a program that is asked for its version.
_VERSION_SECONDS = 30.0
# A session must outlive a run; this much longer than the longest one that was seen.
_SESSION_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Found:
    """A tool that is installed."""

    tool: tools.Tool
    program: str
    version: str

    @property
    def name(self) -> str:
        return self.tool.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        folder: An empty folder for files, removed by the caller.
        endpoints: Its CA bundle is an absolute path: tools run in the folder.
        options: Settings of s3engine that differ from its defaults.
        ceiling: Measure bare sockets too.
        environment: Further variables of every tool.
        elsewhere: Bucket -> its region, where the engine has learned that it is another one;
            filled while the benchmark runs.
    """

    prefix: S3Url
    workload: Workload
    rounds: int
    found: Sequence[Found]
    folder: Path
    endpoints: Endpoints
    options: dict[str, Any]
    ceiling: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def region(self) -> str:
        """Of the bucket, as far as it is known: all tools are told the same."""
        return self.elsewhere.get(self.prefix.bucket, self.endpoints.region)


@dataclass(frozen=True, slots=True)
class Measured:
    """One finished run."""

    tool: str
    round: int
    usage: Usage
    amount: int

    @property
    def rate(self) -> float:
        """Bytes, or keys, per second."""
        return self.amount / self.usage.wall if self.usage.wall > 0 else float("inf")


@dataclass
class JobResult:
    """All runs of one job.

    Attributes:
        left_out: Tool -> why it has no runs, or no more of them.
    """

    work: Work
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    ceiling: list[Measured] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


Tell = Callable[[JobResult, Measured], None]
Say = Callable[[str], None]


class Bench:
    """One benchmark.

    Args:
        tell: Told every finished run.
        say: Told what else happens, in words.
    """

    def __init__(self, engine: Engine, plan: Plan, *, tell: Tell, say: Say) -> None:
        self._engine = engine
        self._plan = plan
        self._tell = tell
        self._say = say
        self._place = BenchPlace(engine, plan.prefix)
        self._door = ThreadDoor(1)
        self._sources: dict[tuple[Item, ...], Path] = {}
        self._copy = plan.folder / "copy"
        self._longest = 0.0
        self._interrupted = ""

    async def run(self) -> list[JobResult]:
        """Everything, then nothing is left at S3.

        Raises:
            UsageError: The prefix is not empty.
            EngineError: The objects to download could not be written, or the credentials ended.
        """
        try:
            if left := await self._place.claim():
                self._say(f"removed {left} objects that a killed benchmark had left")
            await self._make()
            return [await self._job(work) for work in self._plan.workload.works]
        finally:
            with anyio.CancelScope(shield=True):
                self._door.close()
                await self._leave()

    async def _leave(self) -> None:
        why = f"not in {CLEAN_SECONDS:.0f} s"
        with anyio.move_on_after(CLEAN_SECONDS, shield=True):
            try:
                await self._place.leave()
                why = ""
            except EngineError as error:  # not in place of what ended the run
                why = error.headline
        if why:
            self._say(f"not all was deleted ({why}): see {self._place.root}")
        if self._interrupted:
            self._say(
                f"{self._interrupted} was interrupted; if it did not abort a multipart upload, its "
                f"parts are still below {self._place.root}"
            )

    async def _make(self) -> None:
        """The files, once for all jobs that have the same; the objects to download and list."""
        works = self._plan.workload.works
        wanted = [work for work in works if work.verb != "upload" or not work.in_memory]
        for work in wanted:
            self._sources.setdefault(work.unique(), self._plan.folder / f"s{len(self._sources)}")
        sizes = [sum(item.size for item in items) for items in self._sources]
        copies = [w.bytes for w in works if w.verb == "download" and not w.in_memory]
        material.check_room(self._plan.folder, sum(sizes) + max(copies, default=0))
        # By one seed in every run: what is moved is part of the conditions.
        for items, folder in self._sources.items():
            self._say(f"writing {len(items):,} files")
            await self._door.run(material.make, folder, items, Random(1))
        remote = {work.unique() for work in works if work.verb != "upload"}
        for items in remote:
            self._say(f"uploading {len(items):,} objects to download")
            manifest = Manifest.upload(self._sources[items], self._place.below("data"))
            report = await self._engine.run(manifest)
            for failure in report.failed:
                raise failure.error

    async def _job(self, work: Work) -> JobResult:
        result = JobResult(work)
        spent: dict[str, float] = {}
        for number in range(self._plan.rounds):
            for found in _rotated(self._plan.found, number):
                over = work.max_seconds is not None and spent.get(found.name, 0) > work.max_seconds
                if found.name in result.left_out or over:
                    continue
                one = await self._one(result, found, number)
                spent[found.name] = spent.get(found.name, 0.0) + (one.usage.wall if one else 0.0)
            if self._plan.ceiling and work.verb != "list" and CEILING not in result.left_out:
                await self._ceiling(result, number)
        return result

    async def _one(self, result: JobResult, found: Found, number: int) -> Measured | None:
        """One run of one tool, tried again once; None where it is left out."""
        work = result.work
        for attempt in range(_TRIES):
            try:
                usage = await self._measure(work, found, check_bytes=number == 0)
            except tools.CannotDo as reason:
                result.left_out[found.name] = str(reason)
                return None
            except RunFailed as reason:
                self._say(f"{found.name} failed: {reason}")
                if attempt + 1 == _TRIES:
                    result.left_out[found.name] = f"failed twice: {reason}"
                    result.failed.add(found.name)
                continue
            one = Measured(found.name, number, usage, work.amount)
            result.runs.setdefault(found.name, []).append(one)
            self._tell(result, one)
            return one
        return None

    async def _measure(self, work: Work, found: Found, *, check_bytes: bool) -> Usage:
        """Raises RunFailed also where it ended well but the bytes are not right."""
        up, files = work.verb == "upload", not work.in_memory
        remote = self._place.below("up" if up else "data")
        source = self._sources.get(work.unique(), self._copy)
        place = self._where(remote, source if up else self._copy)
        command = found.tool.command(found.program, work, place, self._plan.folder / "job.json")
        if work.verb == "download" and files:
            await self._door.run(material.empty, self._copy)
        try:
            usage = await self._process(found.name, command)
            wrong = ""
            if up:
                wrong = await self._place.difference(remote, work.unique())
            elif work.verb == "download" and files:
                wrong = await self._door.run(
                    material.difference, self._copy, work.items, source if check_bytes else None
                )
            if wrong:
                raise RunFailed(wrong)
            return usage
        finally:
            if up:
                with anyio.CancelScope(shield=True), anyio.move_on_after(CLEAN_SECONDS):
                    await self._place.empty(remote)

    async def _process(self, name: str, command: Sequence[str]) -> Usage:
        environment = await self._environment()
        try:
            usage = await process.run(command, environment, self._plan.folder, seconds=RUN_SECONDS)
        except anyio.get_cancelled_exc_class():
            self._interrupted = name
            raise
        self._longest = max(self._longest, usage.wall)
        return usage

    async def _ceiling(self, result: JobResult, number: int) -> None:
        work = result.work
        up = work.verb == "upload"
        place = self._where(self._place.below("ceiling" if up else "data"), self._copy)
        job = tools.job_file(work, place, self._plan.folder / "job.json")
        try:
            usage = await self._process(CEILING, tools.python_module("ceiling", str(job)))
            said = json.loads(usage.output)
        except (RunFailed, ValueError) as reason:
            result.left_out[CEILING] = str(reason)
            self._say(f"the ceiling could not be measured: {reason}")
            return
        # Without its start-up: it is a bound, not a tool.
        usage = replace(usage, wall=said["wall"])
        result.ceiling.append(Measured(CEILING, number, usage, int(said["bytes"])))
        self._tell(result, result.ceiling[-1])

    def _where(self, remote: S3Url, folder: Path) -> tools.Place:
        endpoints = self._plan.endpoints
        return tools.Place(
            folder,
            remote.bucket,
            remote.key,
            self._plan.region,
            endpoints.s3 or "",
            endpoints.ca_bundle or "",
            dict(self._plan.options),
        )

    async def _environment(self) -> Mapping[str, str]:
        """The caller's, without settings of its own: all tools get the same keys and region.

        Their configuration files stay: a tool is measured as its user has it.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if name == "AWS_CONFIG_FILE" or not name.startswith(("AWS_", "S3ENGINE_"))
        }
        keys = await self._engine.lease.at_least(self._longest * _SESSION_FACTOR)
        region = self._plan.region
        kept |= self._plan.environment
        kept |= {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        if keys.session_token:
            kept["AWS_SESSION_TOKEN"] = keys.session_token
        if ca := self._plan.endpoints.ca_bundle:
            kept |= {"AWS_CA_BUNDLE": ca, "SSL_CERT_FILE": ca}
        return kept


def _rotated(found: Sequence[Found], number: int) -> Sequence[Found]:
    """Another first tool each round: nobody is always first."""
    start = number % len(found)
    return [*found[start:], *found[:start]]


def look_for(name: str) -> Found | None:
    """A tool of the table, where it is installed and starts. Blocks."""
    tool = next(tool for tool in tools.TOOLS if tool.name == name)
    program = tool.find()
    if program is None:
        return None
    if not tool.version:
        return Found(tool, program, tools.library_version(tool))
    try:
        done = subprocess.run(
            [program, *tool.version],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Found(tool, program, tools.version_in(done.stdout)) if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a benchmark will ask of S3, about: it may be billed."""

    up: int
    down: int
    requests: int


def cost(plan: Plan) -> Cost:
    """For the word before it starts; parts are counted at 8 MiB, listings by 1,000 keys."""
    up = down = requests = 0
    for work in plan.workload.works:
        times = len(plan.found) * plan.rounds
        asked = sum(1 if i.size <= 10_485_760 else -(-i.size // 2**23) + 2 for i in work.items)
        sockets = plan.rounds * min(work.bytes, MAX_BYTES) if plan.ceiling else 0
        pages = -(-len(work.items) // 1000)
        if work.verb == "list":
            requests += times * pages
        elif work.verb == "upload":
            up += times * work.bytes + sockets
            # Each upload is listed and deleted again.
            requests += (times + plan.rounds * plan.ceiling) * asked + 3 * times * pages
        else:
            down += times * work.bytes + sockets
            requests += (times + plan.rounds * plan.ceiling) * asked
    data = {i.name: i.size for w in plan.workload.works if w.verb != "upload" for i in w.items}
    return Cost(up + sum(data.values()), down, requests + len(data))
