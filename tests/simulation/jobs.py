"""What one schedule has the engine do: each job, and what must be true of it afterwards.

A job is prepared once and run again after a death. ``check`` looks at the world alone, and at what
the engine said of it; it returns what is wrong, in words.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import anyio

from engine import Engine, Manifest, ManifestEntry, ObjectOptions, Report, S3Url
from engine.testing.simulation import Condition, StoreRules, Version, World

BUCKET = "simulated"


@dataclass(slots=True)
class Scene:
    """What jobs share."""

    world: World
    random: Random
    root: Path
    part_size: int
    rules: StoreRules
    verified: bool
    """Whether the engine is to sum what it moves."""
    options: ObjectOptions = field(default_factory=ObjectOptions)

    def size(self) -> int:
        """Of an object: around the borders where something changes, most often."""
        part, pick = self.part_size, self.random.random()
        if pick < 0.15:
            return self.random.choice((0, 1, 2, 1000))
        if pick < 0.5:
            return part * self.random.randint(1, 5) + self.random.choice((-1, 0, 1))
        return self.random.randrange(1, 7 * part)

    def some_bytes(self, size: int | None = None) -> bytes:
        return self.random.randbytes(self.size() if size is None else size)

    def seed(self, key: str, data: bytes) -> Version:
        """An object that somebody else wrote, whole or in parts."""
        store, name = self.world.store, f"{BUCKET}/{key}"
        if len(data) > 2 and self.random.random() < 0.5:
            cuts = sorted(self.random.sample(range(1, len(data)), min(3, len(data) - 1)))
            ends = [*cuts, len(data)]
            parts = [data[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
            return store.put_in_parts(name, parts, full=self.random.random() < 0.5, by="other")
        return store.put(name, data, None, Condition(), by="other")

    def versions(self, key: str) -> list[Version]:
        """All that ever was there."""
        found = self.world.store.history.get(f"{BUCKET}/{key}", [])
        return [version for version in found if version is not None]

    def comparable(self, key: str) -> bool:
        """Whether all versions have a checksum of all their bytes, which is to be looked at."""
        sums = [version.checksum for version in self.versions(key)]
        return self.verified and all(one is not None and one.full_object for one in sums)

    def bits_flipped(self, key: str) -> bool:
        """Where there is nothing to compare with, nobody promises that no bit flips."""
        hits = self.world.coverage.hits
        return not self.comparable(key) and any(hit[0] == "bit flipped down" for hit in hits)


@dataclass(slots=True)
class Outcome:
    """What the engine said of one job: at most one of the two."""

    result: Any = None
    error: BaseException | None = None

    @property
    def good(self) -> bool:
        return self.error is None


def _verified(outcome: Outcome) -> bool:
    return bool(getattr(outcome.result, "verified", False))


class Job(ABC):
    """One thing to do. ``kind`` is its name in a trace."""

    kind = ""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.name = name
        self.again = True

    @abstractmethod
    async def run(self, engine: Engine) -> Any: ...

    @abstractmethod
    def check(self, outcome: Outcome | None) -> Iterable[str]:
        """What is wrong; ``outcome`` None means that it died or was cancelled."""

    def can_repeat(self) -> bool:
        """Whether the same command may be given once more, and can succeed."""
        return self.again

    @abstractmethod
    def disturb(self) -> None:
        """Somebody else changes what the job is about."""

    def keys(self) -> Iterable[str]:
        """Where the job writes at S3."""
        return ()

    def folders(self) -> Iterable[Path]:
        """Where the job writes files."""
        return ()

    def manifest(self) -> Manifest | None:
        """The same as entries of a manifest, which a journal can keep; None where it cannot."""
        return None

    def options(self) -> ObjectOptions | None:
        """Of what it writes."""
        return None

    def failed(self, outcome: Outcome) -> str:
        """Why it did not succeed; empty where it did."""
        report = outcome.result
        if outcome.good and isinstance(report, Report) and report.failed:
            return f"{report.failed[0].error!r}"
        return "" if outcome.good else f"{outcome.error!r}"


class Writing(Job):
    """Of all jobs that write one object."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.key = f"to/{name}"
        self.contents: list[bytes] = []
        self.before = None
        if scene.random.random() < 0.3:
            self.before = scene.seed(self.key, scene.some_bytes())

    def disturb(self) -> None:
        self.scene.seed(self.key, self.scene.some_bytes())

    def keys(self) -> Iterable[str]:
        return (self.key,)

    def options(self) -> ObjectOptions | None:
        return self.scene.options

    def check(self, outcome: Outcome | None) -> Iterable[str]:
        versions = self.scene.versions(self.key)
        ours = [version for version in versions if version.by == "engine"]
        for version in ours:
            if version.data not in self.contents:
                yield f"{self.kind} {self.key}: {len(version.data)} bytes that no source had"
        if outcome is None or not outcome.good:
            return
        if self.scene.options.if_none_match and any(v.data in self.contents for v in versions):
            return  # somebody's object of the very same bytes is as good as ours
        result = outcome.result
        etags = {version.etag.strip('"') for version in ours}
        if not ours:
            yield f"{self.kind} {self.key}: done, and nothing was written"
        elif result is not None and result.etag.strip('"') not in etags:
            yield f"{self.kind} {self.key}: done as {result.etag}, and there is none such"
        elif result is not None and result.size not in {len(data) for data in self.contents}:
            yield f"{self.kind} {self.key}: done with {result.size} bytes"
        current = self.scene.world.store.current(f"{BUCKET}/{self.key}")
        if current is not None and current.by == "other" and current is self.before:
            yield f"{self.kind} {self.key}: done, and the old object is still there"


class Upload(Writing):
    """A file to an object."""

    kind = "upload"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.path = scene.root / "from" / name
        self._write(scene.some_bytes())

    def _write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        random = self.scene.random
        if self.path.exists() and random.random() < 0.5:
            other = self.path.with_suffix(".new")
            other.write_bytes(data)
            os.replace(other, self.path)
        else:
            self.path.write_bytes(data)
        # Files are written faster here than the file system's clock ticks.
        stamp = 1_000_000_000 * (len(self.contents) + 1_000)
        os.utime(self.path, ns=(stamp, stamp))
        self.contents.append(data)

    def disturb(self) -> None:
        last = self.contents[-1]
        same = self.scene.random.random() < 0.5
        self._write(self.scene.some_bytes(len(last) if same else None))

    def manifest(self) -> Manifest:
        url = S3Url(BUCKET, self.key)
        return Manifest(entries=[ManifestEntry("upload", self.path, url)])

    async def run(self, engine: Engine) -> Any:
        return await engine.upload(
            self.path, f"s3://{BUCKET}/{self.key}", options=self.scene.options
        )


class UploadBytes(Writing):
    """Bytes in memory to an object."""

    kind = "upload bytes"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.contents.append(scene.some_bytes())

    async def run(self, engine: Engine) -> Any:
        url = f"s3://{BUCKET}/{self.key}"
        return await engine.upload(self.contents[0], url, options=self.scene.options)


class Stream(Writing):
    """A stream of unknown length to an object."""

    kind = "stream up"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.contents.append(scene.some_bytes())
        self.pause = scene.random.choice((0.0, 0.01, 1.0))
        self.piece = scene.random.choice((100, 5_000, 50_000)) + 1

    async def _pieces(self) -> AsyncIterator[bytes]:
        data = self.contents[0]
        step = max(self.piece, len(data) // 40 + 1)
        for start in range(0, len(data), step):
            if self.pause:
                await anyio.sleep(self.pause)
            yield data[start : start + step]

    async def run(self, engine: Engine) -> Any:
        url = f"s3://{BUCKET}/{self.key}"
        if self.pause:
            return await engine.upload_stream(self._pieces(), url, options=self.scene.options)
        async with engine.open_write(url, options=self.scene.options) as writer:
            async for piece in self._pieces():
                await writer.write(piece)
        return writer.result


class Copy(Writing):
    """An object to another place."""

    kind = "copy"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.source = f"have/{name}"
        self.contents.append(scene.some_bytes())
        scene.seed(self.source, self.contents[0])
        self.through = scene.random.random() < 0.4

    def manifest(self) -> Manifest | None:
        if self.through:
            return None
        source, target = S3Url(BUCKET, self.source), S3Url(BUCKET, self.key)
        return Manifest(entries=[ManifestEntry("copy", Path(), target, source=source)])

    def check(self, outcome: Outcome | None) -> Iterable[str]:
        compared = not self.through or (outcome is not None and _verified(outcome))
        if compared or not self.scene.bits_flipped(self.source):
            yield from super().check(outcome)

    def disturb(self) -> None:
        same = self.scene.random.random() < 0.7
        self.contents.append(self.scene.some_bytes(len(self.contents[0]) if same else None))
        self.scene.seed(self.source, self.contents[-1])

    async def run(self, engine: Engine) -> Any:
        return await engine.copy(
            f"s3://{BUCKET}/{self.source}",
            f"s3://{BUCKET}/{self.key}",
            through=self.through,
            options=self.scene.options,
        )


class Reading(Job):
    """Of all jobs that read one object."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.key = f"have/{name}"
        self.damaged: set[bytes] = set()
        self._seed()

    def _seed(self) -> None:
        data = self.scene.some_bytes()
        version = self.scene.seed(self.key, data)
        rotten = self.scene.random.random() < 0.05
        if rotten and data and self.scene.verified and len(version.parts) == 1:
            if version.checksum is not None:
                version.data = data[:-1] + bytes((data[-1] ^ 1,))
                self.damaged.add(version.data)
                self.again = False

    def disturb(self) -> None:
        self._seed()

    def right(self) -> set[bytes]:
        """What may have been read."""
        found = {version.data for version in self.scene.versions(self.key)}
        return found - self.damaged

    def comparable(self) -> bool:
        """See ``Scene.comparable``."""
        return self.scene.comparable(self.key)

    def bits_flipped(self) -> bool:
        """See ``Scene.bits_flipped``."""
        return self.scene.bits_flipped(self.key)


class Download(Reading):
    """An object to a file."""

    kind = "download"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.path = scene.root / "to" / name
        self.old: bytes | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if scene.random.random() < 0.5:
            self.old = scene.some_bytes(500)
            self.path.write_bytes(self.old)

    def folders(self) -> Iterable[Path]:
        return (self.path.parent,)

    def manifest(self) -> Manifest:
        url = S3Url(BUCKET, self.key)
        return Manifest(entries=[ManifestEntry("download", self.path, url)])

    async def run(self, engine: Engine) -> Any:
        return await engine.download(f"s3://{BUCKET}/{self.key}", self.path)

    def check(self, outcome: Outcome | None) -> Iterable[str]:
        there = self.path.read_bytes() if self.path.exists() else None
        right = self.right()
        done = outcome is not None and outcome.good
        if outcome is not None and outcome.result is not None and self.comparable():
            if not outcome.result.verified:
                yield f"download {self.key}: not compared with the checksum that is there"
        if self.bits_flipped() and not (outcome is not None and _verified(outcome)):
            return
        if done and there not in right:
            yield f"download {self.key}: done, and the file is no version of the object"
        elif not done and there is not None and there != self.old and there not in right:
            yield f"download {self.key}: not done, and something else is under the final name"
        elif there is None and self.old is not None:
            yield f"download {self.key}: the old file is gone"


class Read(Reading):
    """An object as a stream."""

    kind = "read"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.pause = scene.random.choice((0.0, 0.5))

    async def run(self, engine: Engine) -> Any:
        got = []
        async with engine.open_read(f"s3://{BUCKET}/{self.key}") as reader:
            async for piece in reader:
                got.append(piece)
                if self.pause:
                    await anyio.sleep(self.pause)
        return b"".join(got)

    def check(self, outcome: Outcome | None) -> Iterable[str]:
        if outcome is None or not outcome.good:
            return
        if outcome.result not in self.right() and not self.bits_flipped():
            yield f"read {self.key}: done with bytes that no version has"


class Tree(Job):
    """Many objects at once."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.count = scene.random.randint(1, 9)
        self.jobs: dict[str, Any] = {}

    @abstractmethod
    def manifest(self) -> Manifest: ...

    async def run(self, engine: Engine) -> Any:
        return await engine.run(self.manifest(), options=self.options())

    def disturb(self) -> None:
        self.scene.random.choice([*self.jobs.values()]).disturb()

    def check(self, outcome: Outcome | None) -> Iterable[str]:
        failed: set[str] = set()
        if outcome is not None and outcome.good:
            report = outcome.result
            failed = {one.entry.url.key for one in report.failed}
            for one in report.failed:
                if not type(one.error).__module__.startswith("engine."):
                    yield f"{self.kind}: {one.entry.url} failed with {one.error!r}"
            if report.objects + len(report.failed) != len(self.jobs):
                yield f"{self.kind}: {report.objects} done and {len(failed)} failed of {self.count}"
        for key, job in self.jobs.items():
            done = outcome is not None and outcome.good and key not in failed
            yield from job.check(Outcome() if done else None)


class TreeUp(Tree):
    """A folder to a prefix."""

    kind = "tree up"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        for number in range(self.count):
            job = Upload(scene, f"{name}-{number}")
            folder = scene.root / "from" / f"tree-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            os.replace(job.path, folder / job.path.name)
            job.path = folder / job.path.name
            self.jobs[job.key] = job

    def keys(self) -> Iterable[str]:
        return self.jobs

    def options(self) -> ObjectOptions | None:
        return self.scene.options

    def manifest(self) -> Manifest:
        folder = self.scene.root / "from" / f"tree-{self.name}"
        return Manifest.upload(folder, f"s3://{BUCKET}/to/")


class TreeDown(Tree):
    """A prefix to a folder."""

    kind = "tree down"

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        for number in range(self.count):
            job = Download(scene, f"{name}.d/{number}")
            self.jobs[job.key] = job

    def can_repeat(self) -> bool:
        return all(job.again for job in self.jobs.values())

    def folders(self) -> Iterable[Path]:
        return (self.scene.root / "to" / f"{self.name}.d",)

    def manifest(self) -> Manifest:
        return Manifest.download(
            f"s3://{BUCKET}/have/{self.name}.d/", self.scene.root / "to" / f"{self.name}.d"
        )


KINDS: tuple[type[Job], ...] = (
    Upload,
    Upload,
    UploadBytes,
    Stream,
    Copy,
    Copy,
    Download,
    Download,
    Read,
    TreeUp,
    TreeDown,
)
