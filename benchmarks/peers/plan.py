"""What is measured: the cells of the tables, how often, and how long that may take. PURE.

What lives here: values and arithmetic. What must not: processes, files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.peers.known import Peer

LISTED_SIZE = 1024
# For the estimate only: what a lean client does on one slow machine, and a slow one's factor.
_START_SECONDS = 0.6
_BYTES_PER_SECOND = {"http": 700e6, "https": 500e6}
_OBJECTS_PER_SECOND = 2500.0
_KEYS_PER_SECOND = 60_000.0
_SLOW = 4.0
_BIG_CONNECTIONS, _SMALL_CONNECTIONS = 8, 32


@dataclass(frozen=True, slots=True)
class Work:
    """One job: a direction, big or small, and where the files are."""

    name: str
    verb: str
    tree: bool
    medium: str  # tmpfs or disk; empty for a listing


WORKS = (
    Work("up-tmpfs", "up", False, "tmpfs"),
    Work("up-disk", "up", False, "disk"),
    Work("down-tmpfs", "down", False, "tmpfs"),
    Work("down-disk", "down", False, "disk"),
    Work("small-up", "up", True, "tmpfs"),
    Work("small-down", "down", True, "tmpfs"),
    Work("list", "list", False, ""),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes and counts of the jobs."""

    big: int
    count: int
    small: int
    keys: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One table: the same job under the same conditions for every peer.

    Attributes:
        auth: ``static`` keys or an assumed ``role``.
        checksums: ``default``, ``on`` or ``off``; see ``benchmarks.peers.job``.
        rtt_ms: Milliseconds; 0 is loopback as it is.
        bandwidth: Bytes per second of each connection; 0 is without limit.
    """

    work: str
    transport: str
    auth: str
    checksums: str
    rtt_ms: int
    bandwidth: int
    sizes: Sizes

    def title(self) -> str:
        """The job with all its conditions."""
        return f"{self.job()}, checksums {self.checksums}{self._role()}{self._net()}"

    def title_without_checksums(self) -> str:
        """Of all cells that differ in nothing else."""
        return f"{self.job()}{self._role()}{self._net()}"

    def job(self) -> str:
        return f"{self.amount()} {self.work}, {self.transport}"

    def _role(self) -> str:
        return ", assumed role" if self.auth == "role" else ""

    def _net(self) -> str:
        net = f", round trip {self.rtt_ms} ms" if self.rtt_ms else ""
        if self.bandwidth:
            net += f", {self.bandwidth / 1e6:g} MB/s a connection"
        return net

    def amount(self) -> str:
        """How much is moved, in words."""
        if self.work == "list":
            return f"{self.sizes.keys:,} keys"
        if self.work.startswith("small"):
            return f"{self.sizes.count:,} x {size_text(self.sizes.small)}"
        return size_text(self.sizes.big)

    def moved(self) -> int:
        """Bytes of one run's objects."""
        if self.work == "list":
            return 0
        small = self.work.startswith("small")
        return self.sizes.count * self.sizes.small if small else self.sizes.big

    def key(self) -> dict[str, Any]:
        """What tells it from other cells in the results; sizes it does not use are left out."""
        fields = asdict(self)
        sizes = fields.pop("sizes")
        names = {"list": ("keys",)}.get(self.work) or (
            ("count", "small") if self.work.startswith("small") else ("big",)
        )
        return fields | {name: sizes[name] for name in names}


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often: of most peers, of slow ones, and with checksums off."""

    normal: int
    slow: int
    off: int

    def of(self, peer: Peer, cell: Cell) -> int:
        most = self.off if cell.checksums == "off" else self.normal
        return min(most, self.slow) if peer.slow else most


@dataclass(frozen=True, slots=True)
class Step:
    """One run to be made."""

    cell: Cell
    peer: Peer
    round: int


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that differ in nothing but their checksums, together: they are compared."""
    found: dict[Cell, list[Cell]] = {}
    for cell in cells:
        found.setdefault(replace(cell, checksums=""), []).append(cell)
    return list(found.values())


def steps(cells: Sequence[Cell], peers: Sequence[Peer], rounds: Rounds) -> Iterator[Step]:
    """Peers alternate within a round, and each round begins with another one. Cells that differ
    only in checksums take turns round by round, so that they may be compared with each other."""
    for group in groups(cells):
        most = max(rounds.of(peer, cell) for peer in peers for cell in group)
        for number in range(most):
            for cell in group:
                yield from _round(cell, peers, rounds, number)


def _round(cell: Cell, peers: Sequence[Peer], rounds: Rounds, number: int) -> Iterator[Step]:
    still = [peer for peer in peers if number < rounds.of(peer, cell)]
    first = number % len(still) if still else 0
    for peer in (*still[first:], *still[:first]):
        yield Step(cell, peer, number)


def estimate(step: Step) -> float:
    """Seconds, roughly."""
    cell, sizes = step.cell, step.cell.sizes
    rtt = cell.rtt_ms / 1000
    if cell.work == "list":
        seconds = sizes.keys / _KEYS_PER_SECOND + sizes.keys / 1000 * rtt
    elif cell.work.startswith("small"):
        seconds = sizes.count / _OBJECTS_PER_SECOND + sizes.count * rtt / _SMALL_CONNECTIONS
    else:
        seconds = sizes.big / _BYTES_PER_SECOND[cell.transport]
        if cell.bandwidth:
            seconds = max(seconds, sizes.big / (_BIG_CONNECTIONS * cell.bandwidth))
    return _START_SECONDS + seconds * (_SLOW if step.peer.slow else 1.0)


def size_text(size: int) -> str:
    """``128 MiB``; whole units only."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} B"
