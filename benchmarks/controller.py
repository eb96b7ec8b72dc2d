"""The controller against a simulated server: how near to what that can, how many refusals.

On the virtual clock, so that a minute takes a second or two:
``python -m benchmarks.controller --html page.html``
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from random import Random

import anyio

from benchmarks.simulated_server import SimulatedServer
from engine.bench.page import document, rows_table
from engine.clock import LoopClock
from engine.config import RetryPolicy, TransferConfig
from engine.errors import S3Error
from engine.events import silent
from engine.retry import Retrier
from engine.testing.clock import run_virtual
from engine.transfer.limiter import Limiter
from engine.types import KiB, MiB, S3Url

SMALL = 64 * KiB
# Seconds until the controller has to be there, and the part of the capacity that is there.
SETTLE, ENOUGH = 10, 0.9
MAX_REFUSED = 0.01


class Run:
    """One run: its limiter, its retries, and as many objects under way as the batch runner has."""

    def __init__(self, server: SimulatedServer, prefixes: Sequence[str], seed: int = 1) -> None:
        clock = LoopClock()
        clock.settle()
        self.server = server
        self.limiter = Limiter(
            TransferConfig(max_memory=1024 * MiB), clock, lambda: server.round_trip
        )
        self.retrier = Retrier(RetryPolicy(), random=Random(seed), emit=silent)
        self.failed = 0
        self.numbers: dict[int, int] = {}
        self._urls: Iterator[S3Url] = itertools.cycle(
            S3Url("bucket", f"{prefix}key") for prefix in prefixes
        )
        self._runners = 0

    async def until(self, seconds: float, size: int = SMALL) -> None:
        """Move objects until ``seconds``."""
        async with anyio.create_task_group() as tasks:

            async def runner() -> None:
                while anyio.current_time() < seconds:
                    await self._one(next(self._urls), size)

            def more() -> None:
                while self._runners < self.limiter.max_objects:
                    self._runners += 1
                    tasks.start_soon(runner)

            with self.limiter.throttles.listening(more):
                while (now := anyio.current_time()) < seconds:
                    more()
                    self.numbers[int(now)] = self.limiter.statistics().small.in_flight
                    await anyio.sleep(0.1)

    async def _one(self, url: S3Url, size: int) -> None:
        async def put() -> None:
            async with self.limiter.slot(url, big=False, size=size):
                await self.server.request(url, size)

        try:
            await self.retrier.run("put object", url, put)
        except S3Error:
            self.failed += 1


@dataclass
class Outcome:
    """What a scene came to.

    Attributes:
        capacity: Bytes a second that the server can, by seconds.
        checked: Spans of whole seconds in which the controller has to be there.
    """

    name: str
    capacity: list[float]
    goodput: list[float]
    refused: float
    failed: int
    checked: list[tuple[int, int]]
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The least part of the capacity that was used, over all spans."""
        return min(
            sum(self.goodput[start:stop]) / sum(self.capacity[start:stop])
            for start, stop in self.checked
        )

    @property
    def good(self) -> bool:
        return self.worst >= ENOUGH and self.refused < MAX_REFUSED and not self.failed


def _outcome(
    name: str,
    server: SimulatedServer,
    runs: Sequence[Run],
    capacity: list[float],
    checked: list[tuple[int, int]],
) -> Outcome:
    goodput = [server.moved[second] for second in range(len(capacity))]
    failed = sum(run.failed for run in runs)
    return Outcome(name, capacity, goodput, server.refused_share(), failed, checked)


async def knee() -> Outcome:
    """The link is full at a number that nobody tells."""
    server = SimulatedServer(round_trip=0.1, bandwidth=150e6)
    run = Run(server, ["a/"])
    await run.until(40)
    return _outcome("capacity knee", server, [run], [150e6] * 40, [(SETTLE, 40)])


async def collapse() -> Outcome:
    """The link becomes a quarter of what it was; each request beyond a hundred slows down all."""
    server = SimulatedServer(round_trip=0.1, bandwidth=200e6)
    run = Run(server, ["a/"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.until, 60)
        await anyio.sleep_until(20)
        server.bandwidth, server.collapse = 50e6, 100
    capacity = [200e6] * 20 + [50e6] * 40
    return _outcome(
        # It takes longer: each step is judged by requests that take seconds.
        "congestion collapse",
        server,
        [run],
        capacity,
        [(SETTLE, 20), (35, 60)],
    )


async def request_rate() -> Outcome:
    """A partition that takes 1,500 requests a second, and says SlowDown to more."""
    server = SimulatedServer(round_trip=0.03)
    server.limit("", 1500)
    run = Run(server, ["a/"])
    await run.until(40)
    return _outcome("request rate", server, [run], [1500.0 * SMALL] * 40, [(SETTLE, 40)])


async def short() -> Outcome:
    """The same, of few requests, and twice as many from some time on."""
    server = SimulatedServer(round_trip=0.1)
    server.limit("", 200)
    run = Run(server, ["a/"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.until, 50)
        await anyio.sleep_until(25)
        server.limit("", 400)
    capacity = [200.0 * SMALL] * 25 + [400.0 * SMALL] * 25
    return _outcome("few requests", server, [run], capacity, [(SETTLE, 25), (25 + SETTLE, 50)])


async def bursts() -> Outcome:
    """Three times S3 refuses nearly everything for two seconds."""
    server, rate = SimulatedServer(round_trip=0.03), 1500.0
    run = Run(server, ["a/"])
    capacity: list[float] = []
    checked = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.until, 75)
        for start in (0, 25, 50):
            if start:
                server.limit("", 50)
                await anyio.sleep_until(start + 2)
                capacity += [50.0 * SMALL] * 2
            server.limit("", rate)
            await anyio.sleep_until(start + 25)
            capacity += [rate * SMALL] * (start + 25 - len(capacity))
            checked.append((start + 2 + SETTLE, start + 25))
    return _outcome("SlowDown bursts", server, [run], capacity, checked)


async def change() -> Outcome:
    """The capacity falls to a third, then rises to twice what it was: of the link, and of the
    partition's requests."""
    server = SimulatedServer(round_trip=0.05, bandwidth=120e6)
    run = Run(server, ["a/"])
    capacity: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.until, 90)
        for seconds, bandwidth, rate in ((30, 120e6, 1800), (60, 40e6, 600), (90, 240e6, 3600)):
            server.bandwidth = bandwidth * 2
            server.limit("", rate)
            await anyio.sleep_until(seconds)
            capacity += [float(rate * SMALL)] * 30
    spans = [(SETTLE, 30), (30 + SETTLE, 60), (60 + SETTLE, 90)]
    return _outcome("change of capacity", server, [run], capacity, spans)


async def prefixes() -> Outcome:
    """One prefix of two is refused; the other has what it would have."""
    server = SimulatedServer(round_trip=0.05)
    server.limit("a/", 300)
    server.limit("b/", 1200)
    run = Run(server, ["a/", "b/", "b/", "b/", "b/"])
    await run.until(40)
    found = _outcome("one slow prefix", server, [run], [1500.0 * SMALL] * 40, [(SETTLE, 40)])
    found.facts = {
        "a/": server.by_prefix["a"] / 40 / SMALL,
        "b/": server.by_prefix["b"] / 40 / SMALL,
    }
    return found


async def two_runs() -> Outcome:
    """Two runs share a prefix, one of them comes later."""
    server = SimulatedServer(round_trip=0.05)
    server.limit("", 2000)
    runs = [Run(server, ["a/1"], seed=1), Run(server, ["a/2"], seed=2)]
    shares = [0.0, 0.0]

    async def one(number: int) -> None:
        await anyio.sleep(5.0 * number)
        await runs[number].until(90)

    async def watch() -> None:
        await anyio.sleep_until(20)
        while anyio.current_time() < 90:
            for number, run in enumerate(runs):
                shares[number] += run.limiter.statistics().small.in_flight
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, 0)
        tasks.start_soon(one, 1)
        tasks.start_soon(watch)
    found = _outcome("two runs, one prefix", server, runs, [2000.0 * SMALL] * 90, [(20, 90)])
    found.facts = {"Jain": jain(shares)}
    return found


def jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


Scene = Callable[[], Coroutine[None, None, Outcome]]
SCENES: tuple[Scene, ...] = (
    knee,
    collapse,
    request_rate,
    bursts,
    change,
    prefixes,
    two_runs,
)


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [f"{'':22} {'of capacity':>12} {'refused':>9} {'failed':>7}"]
    for outcome in outcomes:
        facts = " ".join(f"{name}={value:.3g}" for name, value in outcome.facts.items())
        rows.append(
            f"{outcome.name:22} {outcome.worst:12.1%} {outcome.refused:9.2%} {outcome.failed:7} "
            f"{'' if outcome.good else 'NOT GOOD '}{facts}".rstrip()
        )
    return "\n".join(rows)


def _plot(outcome: Outcome, width: int = 640, height: int = 160) -> str:
    """Goodput over time, and what the server can."""
    most = 1.15 * max(*outcome.capacity, *outcome.goodput)
    seconds = len(outcome.capacity)

    def line(values: Sequence[float]) -> str:
        points = [
            f"{second * width / seconds:.1f} {height - value / most * height:.1f}"
            for second, value in enumerate(values)
        ]
        return "M" + "L".join(points)

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
        f'<path d="{line(outcome.capacity)}" fill="none" stroke="#999" stroke-dasharray="4 3"/>'
        f'<path d="{line(outcome.goodput)}" fill="none" stroke="#06c" stroke-width="1.5"/></svg>'
    )


def page(outcomes: Sequence[Outcome]) -> str:
    body = [
        "<p>Goodput by seconds of simulated time (line), and what the server can (dashed).</p>",
        rows_table(
            ["", "of capacity", "refused"],
            [[escape(o.name), f"{o.worst:.1%}", f"{o.refused:.2%}"] for o in outcomes],
        ),
    ]
    for outcome in outcomes:
        body += [f"<h2>{escape(outcome.name)}</h2>", _plot(outcome)]
    return document("The controller on a simulated server", body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--html", type=Path)
    parser.add_argument("scenes", nargs="*", help="by function name; all by default")
    arguments = parser.parse_args()
    outcomes = [
        run_virtual(scene)
        for scene in SCENES
        if not arguments.scenes or scene.__name__ in arguments.scenes
    ]
    print(table(outcomes))
    if arguments.html:
        arguments.html.write_text(page(outcomes))
    raise SystemExit(not all(outcome.good for outcome in outcomes))


if __name__ == "__main__":
    main()
