"""One schedule: drawn from a seed, run in its world, judged by the five sentences.

(a) what is said to be done is done; (b) all else is a named error, and nothing wrong is to be seen;
(c) it ends in time; (d) after a death the same commands go on, and nothing is left behind; (e) no
secret is told. See the README's promises.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import anyio

from engine import Engine, EngineError, ObjectOptions, RetryPolicy, StoreLimits, TransferConfig
from engine.events import Event, UploadLeft
from engine.planes import CONTROL_PLANES, DATA_PLANES
from engine.testing.simulation import (
    Death,
    FaultPlan,
    FaultyDisk,
    Sessions,
    SimulatedLoop,
    SimulatedSource,
    StoreRules,
    TooLong,
    TooMany,
    World,
    enter,
)
from tests.simulation.jobs import KINDS, Job, Outcome, Scene

KiB = 1024
# Virtual seconds within which every run ends: a request is tried 8 times, each try is given up
# after 30 s of silence, and a few follow each other (begin, parts, complete, look, abort).
MAX_SECONDS = 3_600.0
_SHM = Path("/dev/shm")

DATA_PLANES.register("simulated", "engine.testing.simulation.planes:SimulatedDataPlane")
CONTROL_PLANES.register("simulated", "engine.testing.simulation.control:SimulatedControlPlane")


@dataclass(slots=True)
class Verdict:
    """What came of one schedule."""

    seed: int
    violations: list[str]
    trace: str
    requests: int
    seconds: float
    hits: Mapping[tuple[str, str, str], int]
    lines: list[str] = field(default_factory=list)


class Schedule:
    """One seed.

    Args:
        root: An empty folder.
        lines: Keep the lines of the trace, to be printed.
    """

    def __init__(self, seed: int, root: Path, *, lines: bool = False) -> None:
        random = Random(seed)
        self.seed = seed
        self.root = root
        self.random = random
        self.violations: list[str] = []
        self.checksum = random.choice(("crc64nvme", "crc64nvme", "crc32c", "crc32", "none"))
        sums = self.checksum == "none" or random.random() < 0.9
        verified = self.checksum != "none"
        plan = FaultPlan.drawn(random, bytes_may_flip=verified and sums)
        rules = StoreRules(
            sums=sums,
            full=random.random() < 0.8,
            tells_parts=random.random() < 0.8,
            tells_initiators=random.random() < 0.7,
            completes_again=random.random() < 0.3,
            min_part=4 * KiB,
            page=random.choice((2, 3, 1000)),
        )
        sessions = Sessions(random, random.choice((20.0, 90.0, 900.0)))
        self.world = World(random, plan, rules, sessions)
        if lines:
            self.world.lines = []
        self.power = random.random() < 0.3
        (root / "attic").mkdir()
        faulty = random.random() < 0.25
        self.disk = FaultyDisk(
            self.world,
            random,
            root / "attic",
            full=random.choice((0.0, 0.02, 0.2)) if faulty else 0.0,
            broken=random.choice((0.0, 0.02, 0.2)) if faulty else 0.0,
            forgets=self.power,
            in_memory=not self.power and random.random() < 0.3,
        )
        self.config = self._config()
        self.scene = Scene(self.world, random, root, self.config.part_size, rules, verified)
        self.conditional = random.random() < 0.2
        if self.conditional:
            self.scene.options = ObjectOptions(if_none_match=True)
        kinds = random.choices(KINDS, k=random.choice((1, 1, 2, 3)))
        self.jobs = [kind(self.scene, f"{n}") for n, kind in enumerate(kinds)]
        self.deaths = random.choice((0, 0, 1, 2))
        self.cancels = random.random() < 0.25
        self.events: list[Event] = []
        self.texts: list[str] = []
        self.quiet = plan.rate == 0 and not faulty and not self.cancels

    def _config(self) -> TransferConfig:
        random = self.random
        part = random.choice((4, 8, 16)) * KiB
        limits = StoreLimits(
            "simulated",
            min_part_size=4 * KiB,
            max_part_size=part * 2,
            max_parts=1_000,
            max_object_size=part * 1_000,
            max_put_size=64 * part,
            max_copy_size=part * random.choice((1, 100)),
        )
        return TransferConfig(
            multipart_threshold=random.choice((part, 2 * part, 3 * part)),
            multipart_download_threshold=random.choice((part, 2 * part)),
            part_size=part,
            max_parts_in_flight=random.choice((1, 3, 10)),
            max_concurrency=random.choice((None, None, 1, 4)),
            checksum=self.checksum,
            limits=limits,
        )

    # The run.

    def run(self) -> Verdict:
        """Run it all, and judge."""
        records = _Records(self.texts)
        with _small_constants(), self.disk.installed(), records.listening():
            run = 0
            while True:
                run += 1
                dies = run <= self.deaths
                if not self._one_run(dies=dies) and not dies:
                    break
                if run > self.deaths:
                    break
        self._judge_secrets()
        world = self.world
        return Verdict(
            self.seed,
            self.violations,
            world.trace(),
            world.requests,
            world.now(),
            dict(world.coverage.hits),
            world.lines or [],
        )

    def _one_run(self, *, dies: bool) -> bool:
        """One process. Whether it died."""
        world, random = self.world, self.random
        start = world.time + (random.choice((0.0, 1.0, 4_000.0)) if world.run else 0.0)
        loop = SimulatedLoop(random, start=start, max_seconds=MAX_SECONDS)
        loop.set_exception_handler(self._unhandled)
        world.enter(loop)
        enter(world)
        if dies:
            self._draw_death(loop)
        else:
            loop.die_at_step = world.die_at_request = self.disk.die_at_call = -1
        open_before = len(self.events)
        outcomes: dict[str, Outcome] = {}
        try:
            loop.run(self._process(outcomes))
        except (TooLong, TooMany) as error:
            self._wrong("c", str(error))
            loop.dead = True
        except EngineError as error:
            self.texts.append(_text_of(error))
        died = loop.dead
        if not died and loop.left_over():
            self._wrong("c", f"tasks left: {loop.left_over()[:3]}")
        world.leave()
        loop.bury()
        gone = self.disk.open_files()
        self.disk.bury()
        if died:
            self.disk.lose_power() if self.power and random.random() < 0.5 else None
            self.disk.keep_power()
            world.tell("died")
        elif gone:
            self._wrong("b", f"files left open: {gone[:3]}")
        self._judge(outcomes, died, self.events[open_before:])
        return died

    def _draw_death(self, loop: SimulatedLoop) -> None:
        random, world = self.random, self.world
        loop.die_at_step = world.die_at_request = self.disk.die_at_call = -1
        pick = random.random()
        if pick < 0.4:
            world.die_at_request = world.requests + random.randint(1, 25)
            world.death_after_act = random.random() < 0.6
        elif pick < 0.7:
            self.disk.die_at_call = self.disk.calls + random.randint(1, 60)
        else:
            loop.die_at_step = random.randint(1, 400)

    async def _process(self, outcomes: dict[str, Outcome]) -> None:
        world, random = self.world, self.random
        source = SimulatedSource(world.sessions, random, world.server_time)
        async with Engine(
            source=source,
            region="us-east-1",
            endpoint_url="http://127.0.0.1:9",
            config=self.config,
            retry=RetryPolicy(
                max_attempts=random.choice((8, 8, 4)), budget=random.choice((500, 60))
            ),
            hook=self._hear,
            random=random,
            data_plane="simulated",
        ) as s3:
            self._plan_disturbances()
            async with anyio.create_task_group() as tasks:
                for job in self.jobs:
                    tasks.start_soon(self._do, job, s3, outcomes)
            context = s3._ready().context
            for kind, slots in context.limiter.statistics()._asdict().items():
                if slots.in_flight or slots.waiting or slots.memory:
                    self._wrong("c", f"slots of {kind} are still taken: {slots}")

    async def _do(self, job: Job, s3: Engine, outcomes: dict[str, Outcome]) -> None:
        limit = self.random.uniform(0, 5) if self.cancels else float("inf")
        with anyio.move_on_after(limit) as scope:
            try:
                outcomes[job.name] = Outcome(result=await job.run(s3))
            except EngineError as error:
                if not self.world.dead:
                    outcomes[job.name] = Outcome(error=error)
                self.texts.append(_text_of(error))
            except Exception as error:
                if not self.world.dead:
                    outcomes[job.name] = Outcome(error=error)
                    self._wrong("b", f"{job.kind} raised {error!r}")
        if self.world.dead:
            return
        if scope.cancelled_caught:
            self.world.coverage.hit("cancelled", job.kind, f"run {self.world.run}")
        told = outcomes.get(job.name)
        said = "cancelled" if told is None else "done" if told.good else type(told.error).__name__
        self.world.tell(f"{job.kind} {job.name}: {said}")

    def _plan_disturbances(self) -> None:
        """What others do meanwhile, and what becomes of the sessions."""
        random, world = self.random, self.world
        assert world.loop is not None

        def later(seconds: float, what: str, act: Any) -> None:
            def happen() -> None:
                if not world.dead:
                    world.coverage.hit(what, "meanwhile", f"run {world.run}")
                    world.tell(what)
                    act()

            assert world.loop is not None
            world.loop.call_later(seconds, happen)

        if random.random() < 0.3:
            self.quiet = False
            for job in self.jobs:
                later(random.expovariate(2.0), "changed by others", job.disturb)
        sessions = world.sessions
        if random.random() < 0.1:
            self.quiet = False
            later(random.expovariate(1.0), "sessions revoked", self._revoke)
        if random.random() < 0.1:
            self.quiet = False
            later(random.expovariate(1.0), "clock jumps", self._jump)
        if random.random() < 0.1:
            self.quiet = False
            sessions.source_failures = random.choice((0.3, 0.9))
            later(random.expovariate(0.05), "source heals", self._heal)
        if random.random() < 0.03:
            self.quiet = False
            later(random.expovariate(1.0), "permission lost", self._deny)

    def _revoke(self) -> None:
        self.world.sessions.revoked_before = self.world.server_time()

    def _jump(self) -> None:
        """The machine slept: its clock stood still, that of the store did not."""
        self.world.server_offset += 3_600.0

    def _heal(self) -> None:
        self.world.sessions.source_failures = 0.0

    def _deny(self) -> None:
        self.world.sessions.denied_verbs = frozenset(("upload part", "put object"))

    # What is heard.

    def _hear(self, event: Event) -> None:
        if self.world.dead:
            return
        self.events.append(event)
        self.texts.append(repr(event))
        self.world.tell(type(event).__name__)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Death):
            self._wrong(
                "b", f"nobody handled: {context.get('message')} {context.get('exception')!r}"
            )

    def _wrong(self, sentence: str, text: str) -> None:
        self.violations.append(f"({sentence}) {text}")

    # The judge.

    def _judge(self, outcomes: Mapping[str, Outcome], died: bool, events: list[Event]) -> None:
        if not died:
            self.world.settle()
        for job in self.jobs:
            outcome = outcomes.get(job.name)
            for wrong in job.check(outcome):
                self._wrong("a" if outcome is not None and outcome.good else "b", wrong)
        if not died and self.world.run == 1:
            self._judge_left_over(events)

    def _judge_left_over(self, events: list[Event]) -> None:
        left = [event for event in events if isinstance(event, UploadLeft)]
        named = {event.upload_id for event in left if event.upload_id}
        unnamed = [f"{event.url.bucket}/{event.url.key}" for event in left if not event.upload_id]
        for upload in self.world.store.open_uploads():
            if upload.upload_id in named:
                continue
            late = upload.state == "aborted" and all(
                part.landed > upload.listed for part in upload.parts.values()
            )
            if late:
                continue  # it came behind the last look
            if upload.key in unnamed:
                unnamed.remove(upload.key)
                continue
            parts = sorted(upload.parts)
            self._wrong("d", f"upload {upload.upload_id} of {upload.key} stays: parts {parts}")
        if self.quiet and left:
            self._wrong("d", f"left without any fault: {left[0]}")
        for path in self.root.rglob(".s3engine-*"):
            self._wrong("d", f"a temporary file stays in {path.parent.name}")

    def _judge_secrets(self) -> None:
        told = "\n".join(self.texts)
        for secret in self.world.sessions.secrets:
            if secret in told:
                self._wrong("e", "a secret was told")


class _Records(logging.Handler):
    """Log records as text."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        logger = logging.getLogger()
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)


def _text_of(error: BaseException) -> str:
    """All that an error says: itself, its facts, its notes, and what it is from."""
    found: list[str] = []
    one: BaseException | None = error
    while one is not None and len(found) < 20:
        found += [str(one), repr(one), repr(vars(one)), *getattr(one, "__notes__", ())]
        one = one.__cause__ or one.__context__
    return "\n".join(found)


@contextlib.contextmanager
def _small_constants() -> Iterator[None]:
    """Borders of the engine that would need big objects to be met."""
    places = (
        ("engine.transfer.sources", "SMALL_FILE", 4 * KiB),
        ("engine.transfer.download", "SMALL_FILE", 4 * KiB),
        ("engine.transfer.reader", "PIECE_SIZE", 6 * KiB),
    )
    found = [(import_module(place), name, value) for place, name, value in places]
    before = [(place, name, getattr(place, name)) for place, name, _ in found]
    for place, name, value in found:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


@contextlib.contextmanager
def _silent_dead() -> Iterator[None]:
    """Coroutines that died complain when they are collected; nobody is to hear it."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            if _runs[0] % _COLLECT_EVERY == 0:
                gc.collect()
    finally:
        sys.unraisablehook = hook


# Schedules between two collections of what died in them.
_COLLECT_EVERY = 25
_runs = [0]


def run_seed(seed: int, *, lines: bool = False) -> Verdict:
    """One schedule, from the beginning."""
    parent = _SHM if _SHM.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir=parent))
    _runs[0] += 1
    try:
        with _silent_dead():
            return Schedule(seed, root, lines=lines).run()
    finally:
        shutil.rmtree(root, ignore_errors=True)
