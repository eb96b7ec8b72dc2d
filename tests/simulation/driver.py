"""One schedule: drawn from a seed, run in its world process by process, judged after each.

What lives here: drawing, processes and their deaths. What must not: what is right (``judge.py``),
what there is to do (``jobs.py``).
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import anyio

from engine import Engine, EngineError, ObjectOptions, RetryPolicy, StoreLimits, TransferConfig
from engine.planes import CONTROL_PLANES, DATA_PLANES
from engine.testing.simulation import (
    Death,
    Fault,
    FaultPlan,
    FaultyDisk,
    Request,
    Sessions,
    SimulatedLoop,
    SimulatedSource,
    StoreRules,
    TooLong,
    TooMany,
    World,
    enter,
)
from tests.simulation.heard import Heard
from tests.simulation.jobs import KINDS, Job, Outcome, Scene
from tests.simulation.judge import Judge, Process

KiB = 1024
# Virtual seconds within which every process ends: a request is tried 8 times, each try is given up
# after 30 s of silence, and a few follow each other (begin, parts, complete, look, abort).
MAX_SECONDS = 3_600.0
_SHM = Path("/dev/shm")

# Schedules between two looks at all objects there are.
_COLLECT_EVERY = 25

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
        self.seed = seed
        self.root = root
        self.random = random = Random(seed)
        self.violations: list[str] = []
        self.checksum = random.choice(("crc64nvme", "crc64nvme", "crc32c", "crc32", "none"))
        verified = self.checksum != "none"
        sums = not verified or random.random() < 0.85
        plan = FaultPlan.drawn(random, bytes_may_flip=verified and sums)
        sessions = Sessions(random, random.choice((20.0, 90.0, 900.0)))
        self.world = World(random, plan, self._rules(sums), sessions)
        self.world.lines = [] if lines else None
        self.power = random.random() < 0.5
        # Little happens that the engine need not get over: then it has to.
        self.gentle = random.random() < 0.4
        self.faulty = not self.gentle and random.random() < 0.4
        self.disk = self._disk()
        # By a die of its own, so that all else of a seed stays as it is without a limit.
        self.limit = Random(f"{seed} link").choice((None, None, None, 64 * KiB, 1024 * KiB))
        self.config = self._config()
        rules = self.world.store.rules
        self.scene = Scene(self.world, random, root, self.config.part_size, rules, verified)
        conditional = not self.gentle and random.random() < 0.3
        if conditional:
            self.scene.options = ObjectOptions(if_none_match=True)
        kinds = random.choices(KINDS, k=random.choice((1, 1, 2, 3)))
        self.jobs = [kind(self.scene, f"{n}") for n, kind in enumerate(kinds)]
        self.journalled = self._with_journal()
        self.deaths = random.choice((0, 0, 1, 2))
        self.cancels = not self.gentle and random.random() < 0.4
        self.heard = Heard(self.world)
        if not self.gentle and random.random() < 0.2:
            self.world.on_landing = self._overwrite
        self.judge = Judge(self.world, root, self.jobs, self.journalled, repeatable=not conditional)
        self.died = 0

    def _rules(self, sums: bool) -> StoreRules:
        random = self.random
        return StoreRules(
            sums=sums,
            full=random.random() < 0.8,
            tells_parts=random.random() < 0.7,
            tells_initiators=random.random() < 0.7,
            completes_again=random.random() < 0.3,
            min_part=4 * KiB,
            page=random.choice((2, 3, 1000)),
        )

    def _disk(self) -> FaultyDisk:
        random = self.random
        attic = self.root / "attic"
        attic.mkdir()
        return FaultyDisk(
            self.world,
            random,
            attic,
            full=random.choice((0.0, 0.02, 0.2)) if self.faulty else 0.0,
            broken=random.choice((0.0, 0.02, 0.2)) if self.faulty else 0.0,
            forgets=self.power,
            in_memory=not self.power and random.random() < 0.3,
        )

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
            max_bandwidth=self.limit,
        )

    def _with_journal(self) -> frozenset[str]:
        """Names of the jobs that keep one."""
        if self.random.random() < 0.4 or "journal" not in inspect.signature(Engine.run).parameters:
            return frozenset()
        return frozenset(job.name for job in self.jobs if job.manifest() is not None)

    # The run.

    def run(self) -> Verdict:
        """All processes, and what is wrong."""
        with _small_constants(), self.disk.installed(), self.heard.listening():
            for number in range(1, self.deaths + 2):
                last = self._process(dies=number <= self.deaths)
            left = [job for job in self.jobs if not self._is_done(job, last)]
            if left and not self.violations:
                self._calm_down()
                self._process(dies=False, last=True, jobs=left)
        for secret in self.world.sessions.secrets:
            if self.heard.has(secret):
                self._wrong("(e) a secret was told")
        self.violations += [f"(c) {wrong}" for wrong in self.world.wrong]
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

    def _is_done(self, job: Job, process: Process) -> bool:
        outcome = process.outcomes.get(job.name)
        return outcome is not None and not job.failed(outcome)

    def _calm_down(self) -> None:
        """Nothing fails any more, and nobody interferes."""
        world = self.world
        world.plan.calm()
        self.disk.calm()
        world.loops.clear()
        world.on_landing = None
        world.sessions.denied_verbs = frozenset()
        world.sessions.source_failures = 0.0
        self.cancels = self.faulty = False

    def _process(self, *, dies: bool, last: bool = False, jobs: list[Job] | None = None) -> Process:
        """One process, from its begin to its end or death."""
        world, random = self.world, self.random
        pause = random.choice((0.0, 1.0, 4_000.0)) if world.run else 0.0
        loop = SimulatedLoop(random, start=world.time + pause, max_seconds=MAX_SECONDS)
        loop.set_exception_handler(self._unhandled)
        world.enter(loop)
        enter(world)
        process = Process(world.run, self.died, last, loop.time())
        sessions = world.sessions
        process.disturbed = bool(
            self.faulty
            or self.cancels
            or world.on_landing is not None
            or sessions.source_failures
            or sessions.denied_verbs
        )
        process.renewed_early = bool(sessions.denied_verbs)
        hits, events = Counter(world.coverage.hits), len(self.heard)
        fetches = sessions.fetches - sessions.failed_fetches
        self._draw_death(loop, dies)
        self._move_state()
        try:
            loop.run(self._main(process, jobs or self.jobs))
        except (TooLong, TooMany) as error:
            self._wrong(f"(c) {error}")
            loop.dead = True
        except EngineError as error:
            self.heard.error(error)
        except Exception as error:
            self._wrong(f"(b) the process ended by {error!r}")
        process.died = loop.dead
        if not process.died and loop.left_over():
            self._wrong(f"(c) tasks left: {loop.left_over()[:3]}")
        world.leave()
        loop.bury()
        self._bury(process)
        for (fault, verb, _), count in (world.coverage.hits - hits).items():
            process.hits[fault, verb] += count
        process.fetches = sessions.fetches - sessions.failed_fetches - fetches
        process.events = self.heard.events[events:]
        self.violations += self.judge.of(process)
        return process

    def _bury(self, process: Process) -> None:
        world, random = self.world, self.random
        open_files = self.disk.open_files()
        self.disk.bury()
        if process.died:
            self.died += 1
            if self.power and random.random() < 0.7:
                self.disk.lose_power()
                self.judge.excuse(self.root / f"state-{world.run}")
            world.tell("died")
        else:
            world.settle()
            if open_files:
                self._wrong(f"(b) files left open: {open_files[:3]}")
        self.disk.keep_power()

    def _draw_death(self, loop: SimulatedLoop, dies: bool) -> None:
        random, world = self.random, self.world
        loop.die_at_step = world.die_at_request = self.disk.die_at_call = -1
        if not dies:
            return
        pick = random.random()
        if pick < 0.4:
            world.die_at_request = world.requests + random.randint(1, 25)
            world.death_after_act = random.random() < 0.6
        elif pick < 0.7:
            self.disk.die_at_call = self.disk.calls + random.randint(1, 60)
        else:
            loop.die_at_step = random.randint(1, 400)

    def _move_state(self) -> None:
        """The journals to a new folder: the locks of the dead are held by this very process."""
        run = self.world.run
        if self.journalled:
            old, new = self.root / f"state-{run - 1}", self.root / f"state-{run}"
            if old.exists():
                shutil.copytree(old, new)
            else:
                new.mkdir()

    async def _main(self, process: Process, jobs: list[Job]) -> None:
        world, random = self.world, self.random
        attempts, budget = random.choice((8, 8, 4)), random.choice((500, 60))
        if process.last or self.gentle:
            attempts, budget = 8, 500
        process.patient = attempts == 8 and budget == 500
        async with Engine(
            source=SimulatedSource(world.sessions, random, world.server_time),
            region="us-east-1",
            endpoint_url="http://127.0.0.1:9",
            config=self.config,
            retry=RetryPolicy(max_attempts=attempts, budget=budget),
            hook=self.heard.hear,
            random=random,
            data_plane="simulated",
        ) as s3:
            if not process.last:
                self._plan_disturbances(process)
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(self._do, job, s3, process)
            context = s3._ready().context
            for kind, slots in context.limiter.statistics()._asdict().items():
                if slots.in_flight or slots.waiting or slots.memory:
                    self._wrong(f"(c) slots of {kind} are still taken: {slots}")

    async def _do(self, job: Job, s3: Engine, process: Process) -> None:
        world, outcomes = self.world, process.outcomes
        limit = self.random.uniform(0, 5) if self.cancels else float("inf")
        outcome: Outcome | None = None
        with anyio.move_on_after(limit) as scope:
            try:
                outcome = await self._outcome(job, s3)
            except EngineError as error:
                outcome = Outcome(error=error)
                self.heard.error(error)
            except Exception as error:
                outcome = Outcome(error=error)
                if not world.dead:
                    self._wrong(f"(b) {job.kind} raised {error!r}")
        if world.dead:
            return
        if outcome is not None:
            outcomes[job.name] = outcome
        if scope.cancelled_caught:
            world.coverage.hit("cancelled", job.kind, f"run {world.run}")
        said = "cancelled" if outcome is None else job.failed(outcome) or "done"
        world.tell(f"{job.kind} {job.name}: {said.partition('(')[0]}")

    async def _outcome(self, job: Job, s3: Engine) -> Outcome:
        if job.name not in self.journalled:
            return Outcome(result=await job.run(s3))
        manifest = job.manifest()
        assert manifest is not None
        journal = self.root / f"state-{self.world.run}" / f"{job.name}.journal"
        kept: dict[str, Any] = {"journal": journal, "options": job.options()}
        report = await s3.run(manifest, **kept)
        if not manifest.is_one_object:
            return Outcome(result=report)
        return Outcome(error=report.failed[0].error) if report.failed else Outcome()

    def _plan_disturbances(self, process: Process) -> None:
        """What others do meanwhile, and what becomes of the sessions."""
        random, sessions = self.random, self.world.sessions

        if not self.gentle and random.random() < 0.5:
            for job in self.jobs:
                self._later(process, 2.0, "changed by others", job.disturb)
        if random.random() < 0.1:
            process.renewed_early += 1
            self._later(process, 1.0, "sessions revoked", self._revoke, heals=True)
        if random.random() < 0.1:
            process.renewed_early += 1
            self._later(process, 1.0, "clock jumps", self._jump, heals=True)
        if not self.gentle and random.random() < 0.2:
            sessions.source_failures = random.choice((0.3, 0.9))
            self._later(process, 0.05, "source heals", self._heal)
        if not self.gentle and random.random() < 0.05:
            process.renewed_early += 1
            self._later(process, 1.0, "permission lost", self._deny)

    def _later(
        self,
        process: Process,
        often: float,
        what: str,
        act: Callable[[], None],
        *,
        heals: bool = False,
    ) -> None:
        """``act`` at some time. ``heals``: the engine has to get over it."""
        world = self.world
        process.disturbed |= not heals

        def happen() -> None:
            if not world.dead:
                world.coverage.hit(what, "meanwhile", f"run {world.run}")
                world.tell(what)
                act()

        assert world.loop is not None
        world.loop.call_later(self.random.expovariate(often), happen)

    def _revoke(self) -> None:
        """A session that never worked cannot be told from one that may not: wait for that."""
        sessions, world = self.world.sessions, self.world
        if sessions.newest_worked():
            sessions.revoked_before = world.server_time()
        elif world.loop is not None:
            world.loop.call_later(0.2, self._revoke)

    def _jump(self) -> None:
        """The machine slept: its clock stood still, that of the store did not."""
        self.world.server_offset += 3_600.0

    def _heal(self) -> None:
        self.world.sessions.source_failures = 0.0

    def _deny(self) -> None:
        self.world.sessions.denied_verbs = frozenset(("upload part", "put object"))

    def _overwrite(self, request: Request) -> None:
        """Somebody else writes where the engine has just written, and it does not know yet."""
        lost = request.fault in (Fault.LOST_ANSWER, Fault.LATE, Fault.INTERNAL_DONE)
        if request.verb == "complete multipart upload" and lost:
            self.world.coverage.hit("overwritten by others", request.verb, request.phase)
            self.scene.seed(request.key.partition("/")[2], self.scene.some_bytes(3_000))

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Death):
            self._wrong(f"(b) nobody handled: {context.get('message')} {error!r}")

    def _wrong(self, text: str) -> None:
        self.violations.append(text)


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
    gc.disable()  # what is collected while another process runs would run in its midst
    gc.freeze()  # and then only what is new need be looked at
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
            gc.unfreeze()
            if next(_runs) % _COLLECT_EVERY == 0:
                gc.collect()  # what came back to life, to die again
    finally:
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = hook


_runs = iter(range(1, 1 << 60))


def run_seed(seed: int, *, lines: bool = False) -> Verdict:
    """One schedule, from the beginning."""
    parent = _SHM if _SHM.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="simulation-", dir=parent))
    try:
        with _silent_dead():
            return Schedule(seed, root, lines=lines).run()
    finally:
        shutil.rmtree(root, ignore_errors=True)
