"""What may go wrong in a simulation, how often, and what has been hit so far.

What lives here: the kinds of faults, which verbs they can happen to, drawing one, counting. What
must not: what a fault does (``exchange.py``, ``disk.py``).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import final


class Fault(enum.Enum):
    """What happens to one request."""

    NONE = "none"
    REFUSED = "no connection"
    LOST_REQUEST = "request lost"
    LOST_ANSWER = "answer lost"
    LATE = "lands late"
    STALL = "silence"
    SLOW = "slow"
    INTERNAL = "500"
    INTERNAL_DONE = "500, but done"
    SLOW_DOWN = "503"
    RETRY_AFTER = "503 Retry-After"
    TIMEOUT = "RequestTimeout"
    SKEWED = "clock skewed"
    EXPIRED = "called expired"
    DENIED = "denied once"
    NO_ETAG = "no ETag"
    WRONG_ECHO = "other checksum"
    FLIPPED_UP = "bit flipped up"
    FLIPPED_DOWN = "bit flipped down"
    CUT = "body cut"
    STALLED_BODY = "body stalls"
    WRONG_RANGE = "wrong range"
    CONFLICT = "409"
    LOOP = "listing loops"
    STORED_WRONG = "stored wrong"


READS = ("get object",)
BODIES = ("put object", "upload part")
WRITES = (*BODIES, "complete multipart upload", "copy object", "upload part copy")
VERBS = (
    "put object",
    "upload part",
    "get object",
    "head object",
    "head part",
    "list objects",
    "create multipart upload",
    "complete multipart upload",
    "abort multipart upload",
    "list parts",
    "list uploads",
    "copy object",
    "upload part copy",
    "get object tagging",
    "delete objects",
)
_ONLY: Mapping[Fault, tuple[str, ...]] = {
    Fault.NO_ETAG: WRITES,
    Fault.WRONG_ECHO: (*BODIES, "complete multipart upload"),
    Fault.FLIPPED_UP: BODIES,
    Fault.FLIPPED_DOWN: READS,
    Fault.CUT: READS,
    Fault.STALLED_BODY: READS,
    Fault.WRONG_RANGE: READS,
    Fault.CONFLICT: (*BODIES[:1], "complete multipart upload"),
    Fault.LOOP: ("list objects",),
    Fault.STORED_WRONG: ("put object", "complete multipart upload"),
}
# Of these an object must not only survive: the engine is to heal them, or to say so.
OF_BYTES = (Fault.WRONG_ECHO, Fault.FLIPPED_UP, Fault.FLIPPED_DOWN, Fault.STORED_WRONG)
# These may be the end of the request, or of more.
_FOR_EVER = (Fault.INTERNAL, Fault.SLOW_DOWN, Fault.LOST_REQUEST, Fault.REFUSED)
FINAL = (Fault.DENIED, Fault.EXPIRED, Fault.SKEWED, Fault.LOOP, Fault.STORED_WRONG)


@final
class FaultPlan:
    """How often which fault happens in one schedule.

    Args:
        rate: Of requests that meet a fault, 0 to 1.
        weights: How likely each kind is among them.
        calm_after: Requests after which nothing happens any more.
        most: Faults after which nothing happens any more.
        always: A verb that fails always, and how.
        bytes_may_flip: False where nothing could tell: no checksums.
    """

    def __init__(
        self,
        random: Random,
        *,
        rate: float,
        weights: Mapping[Fault, float],
        calm_after: int,
        bytes_may_flip: bool,
        most: int = 1_000_000,
        always: tuple[str, Fault] | None = None,
    ) -> None:
        self._random = random
        self._left = most
        self._always = always
        self.rate = rate
        self.calm_after = calm_after
        self._choices = {
            verb: [
                (fault, weight)
                for fault, weight in weights.items()
                if verb in _ONLY.get(fault, VERBS) and (bytes_may_flip or fault not in OF_BYTES)
            ]
            for verb in VERBS
        }

    @classmethod
    def drawn(cls, random: Random, *, bytes_may_flip: bool) -> FaultPlan:
        """A calm plan, a wild one, one of a few kinds that happen often, one bit that flips, or one
        verb that always fails."""
        rate = random.choice((0.0, 0.02, 0.05, 0.1, 0.2, 0.35))
        most, always = 1_000_000, None
        kinds: list[Fault] = [fault for fault in Fault if fault is not Fault.NONE]
        pick = random.random()
        if pick < 0.7:
            kinds = random.sample(kinds, random.randint(1, 4))
        if pick < 0.4:
            rate, most = 0.2, random.randint(1, 3)
        elif pick > 0.9 and bytes_may_flip:
            rate, most, kinds = 0.3, 1, list(OF_BYTES)
        elif pick > 0.87:
            always = random.choice(VERBS[:8]), random.choice(_FOR_EVER)
        weights: dict[Fault, float] = {
            kind: 0.3 if kind in FINAL else random.choice((0.3, 1.0, 3.0)) for kind in kinds
        }
        return cls(
            random,
            rate=rate,
            weights=weights,
            calm_after=random.choice((20, 60, 150)),
            bytes_may_flip=bytes_may_flip,
            most=most,
            always=always,
        )

    def draw(self, verb: str, requests: int) -> Fault:
        """What happens to this request, the so manieth of all."""
        if self._always is not None and self._always[0] == verb:
            return self._always[1]
        if requests > self.calm_after or self._random.random() >= self.rate:
            return Fault.NONE
        choices = self._choices[verb]
        if not choices or not self._left:
            return Fault.NONE
        self._left -= 1
        pick = self._random.random() * sum(weight for _, weight in choices)
        for fault, weight in choices:
            pick -= weight
            if pick < 0:
                return fault
        return choices[-1][0]

    def calm(self) -> None:
        """Nothing happens any more."""
        self.calm_after = -1
        self._always = None


@final
class Coverage:
    """Which fault hit which verb in which phase, and how often."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[str, str, str]] = Counter()

    def hit(self, fault: str, verb: str, phase: str) -> None:
        self.hits[fault, verb, phase] += 1

    def add(self, other: Mapping[tuple[str, str, str], int]) -> None:
        """What another process has reached."""
        self.hits.update(other)

    def table(self) -> str:
        """A line for each fault of a request, a column for each verb: how often, and in how many
        phases. Then what else happened, a line each."""
        verbs = [verb for verb in VERBS if any(hit[1] == verb for hit in self.hits)]
        faults = sorted({fault for fault, verb, _ in self.hits if verb in VERBS})
        width = max(map(len, faults), default=5)
        lines = [" " * width + "".join(f"{_short(verb):>11}" for verb in verbs)]
        lines += [
            f"{fault:<{width}}" + "".join(self._cell(fault, verb) for verb in verbs)
            for fault in faults
        ]
        rest = {(fault, place) for fault, place, _ in self.hits if place not in VERBS}
        lines += [
            f"{fault}, {place}: {self._cell(fault, place).strip()}" for fault, place in sorted(rest)
        ]
        lines.append(f"{len(self.hits)} pairs of fault and state (verb x phase) reached")
        return "\n".join(lines)

    def _cell(self, fault: str, verb: str) -> str:
        found = [count for hit, count in self.hits.items() if hit[:2] == (fault, verb)]
        text = f"{sum(found)}/{len(found)}" if found else "."
        return f"{text:>11}"

    def __repr__(self) -> str:
        return f"<Coverage {len(self.hits)} pairs>"


def _short(verb: str) -> str:
    words = {"multipart": "", "upload": "up", "object": "", "objects": "", "complete": "compl"}
    return "".join(words.get(word, word) for word in verb.split())[:10]
