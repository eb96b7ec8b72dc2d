"""World: all that is outside of the engine in one schedule, and what it has seen of the engine.

It outlives the processes that it kills: the store, the files, what is still on its way. What must
not live here: how a request is made (``exchange.py``), what is right (that is the tests' matter).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import NamedTuple, final

from engine.testing.simulation.faults import Coverage, Fault, FaultPlan
from engine.testing.simulation.loop import Death, SimulatedLoop
from engine.testing.simulation.sessions import Sessions
from engine.testing.simulation.store import Store, StoreRules

# Seconds of a usual request, and of a slow one.
_LATENCY, _SLOW = (0.005, 0.25), (1.0, 20.0)
# Requests of one schedule; far more than any needs is a storm.
MAX_REQUESTS = 2_000
# Seconds since 1970 at which all begins: an arbitrary day.
EPOCH = 1_800_000_000.0


class Request(NamedTuple):
    """One request, as it was drawn."""

    number: int
    verb: str
    key: str
    what: str
    phase: str
    fault: Fault
    began: float
    latency: float


class _Flying(NamedTuple):
    """What the store will do, whoever waits for it."""

    due: float
    act: Callable[[], None]
    request: Request


class TooMany(Exception):
    """A storm of requests."""


@final
class World:
    """What one schedule happens in.

    Args:
        random: Decides everything; nothing else does.
        plan: Faults of requests.
    """

    def __init__(
        self, random: Random, plan: FaultPlan, rules: StoreRules, sessions: Sessions | None = None
    ) -> None:
        self.random = random
        self.plan = plan
        self.loop: SimulatedLoop | None = None
        self.store = Store(rules, self.server_time)
        self.sessions = sessions or Sessions(random)
        self.coverage = Coverage()
        self.requests = 0
        self.run = 0
        self.server_offset = EPOCH + random.choice((0.0, 0.0, 3600.0, -3600.0))
        self.die_at_request = -1
        self.death_after_act = False
        self.phase = ""
        self.loops: dict[str, str] = {}
        self.wrong: list[str] = []
        self.on_landing: Callable[[Request], None] | None = None
        self._early: dict[tuple[str, str], float] = {}
        self._before = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = None
        self._seen: set[tuple[str, str]] = set()
        self._flying: dict[int, _Flying] = {}
        self.time = 0.0

    # Time.

    def now(self) -> float:
        """Virtual seconds since the schedule began; they go on over deaths."""
        return self.loop.time() if self.loop is not None else self.time

    def server_time(self) -> float:
        """Seconds since 1970 by the store's clock."""
        return self.now() + self.server_offset

    def latency(self, fault: Fault) -> float:
        return self.random.uniform(*(_SLOW if fault is Fault.SLOW else _LATENCY))

    # Processes.

    def enter(self, loop: SimulatedLoop) -> None:
        """A process begins: what was on its way when the last one died arrives in its time."""
        self.loop = loop
        self.run += 1
        self._seen.clear()
        self._early.clear()
        self.loops.clear()
        self._before = self.requests
        for number, flying in list(self._flying.items()):
            loop.call_at(max(flying.due, loop.time()), self._land, number)

    def leave(self) -> None:
        """A process has ended, or died."""
        assert self.loop is not None
        self.time = self.loop.time()
        self.loop = None
        for number in [*self._flying]:
            if self.random.random() < 0.5:
                del self._flying[number]

    def die(self) -> None:
        """The process dies here.

        Raises:
            Death: Always.
        """
        assert self.loop is not None
        self.loop.dead = True
        raise Death

    @property
    def dead(self) -> bool:
        return self.loop is None or self.loop.dead

    def settle(self) -> None:
        """All that is still on its way arrives now."""
        for number in [*self._flying]:
            self._land(number)

    # Requests.

    def begin(self, verb: str, key: str, what: str = "") -> Request:
        """A request of the engine begins.

        Args:
            what: Tells requests of one verb and key apart: the part, the range.

        Raises:
            Death: The process dies with it.
            TooMany: A storm.
        """
        if self.dead:
            raise Death
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            raise TooMany(f"over {MAX_REQUESTS} requests")
        phase = self.phase or ("again" if (verb, key + what) in self._seen else "first")
        if self.run > 1:
            phase = f"resumed {phase}"
        self._seen.add((verb, key + what))
        if self.now() < self._early.pop((verb, key + what), 0.0):
            self.wrong.append(f"{verb} of {key} comes again before Retry-After")
        fault = self.plan.draw(verb, self.requests)
        request = Request(
            self.requests, verb, key, what, phase, fault, self.server_time(), self.latency(fault)
        )
        self.tell(f"{verb} {key} {what} {fault.value}")
        self.coverage.hit(fault.value, verb, phase)
        if self.requests == self.die_at_request and not self.death_after_act:
            self.coverage.hit("death before", verb, phase)
            self.die()
        return request

    def fly(self, request: Request, seconds: float, act: Callable[[], None]) -> None:
        """The store will ``act`` on a request after so many seconds, whoever waits for it."""
        assert self.loop is not None
        self._flying[request.number] = _Flying(self.now() + seconds, act, request)
        self.loop.call_later(seconds, self._land, request.number)

    def not_before(self, request: Request, seconds: float) -> None:
        """The client is told to wait so long before it asks the same again."""
        if request.number <= self._before:
            return  # of a process that is dead
        self._early[request.verb, request.key + request.what] = self.now() + seconds - 1e-6

    def withdraw(self, request: Request) -> None:
        """Nobody waits for it any more: maybe the store never got all of it."""
        if self.random.random() < 0.5:
            self._flying.pop(request.number, None)

    def _land(self, number: int) -> None:
        flying = self._flying.pop(number, None)
        if flying is None:
            return
        flying.act()
        self.tell(f"landed {number}")
        if self.on_landing is not None:
            self.on_landing(flying.request)
        if number == self.die_at_request and self.death_after_act and self.loop is not None:
            self.coverage.hit("death after", "some request", f"run {self.run}")
            self.loop.dead = True

    # What is seen.

    def tell(self, text: str) -> None:
        """One more line of the trace: same seed, same lines."""
        line = f"{self.now():.6f} {text}"
        self._trace.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def trace(self) -> str:
        """The hash of all that happened, in its order."""
        return self._trace.hexdigest()
