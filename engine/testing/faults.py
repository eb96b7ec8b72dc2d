"""Which request meets which fault, and how often.

What lives here: the plan and its counters. What must not: sockets; the gate carries faults out.

Every rule counts every request that it matches, whether it fires or not, so ``nth`` means the
nth request of that kind since the rule was added. All rules that are due fire together: a delay
and a status make a late 503. Where two would answer, the one added first does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

from engine.errors import UsageError

FaultKind = Literal[
    "status",
    "drop",
    "redirect",
    "truncate",
    "flip",
    "garble",
    "delay",
    "error_in_200",
    "swallow",
    "call",
    "expired",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to one request.

    ==============  ==========================================================================
    kind            what happens (options)
    ==============  ==========================================================================
    status          an error answer instead of the work (``status``, ``code``, ``retry_after``)
    drop            the connection is closed without an answer (``at`` bytes of the body first)
    redirect        307 to ``location``
    truncate        the announced length, but the connection ends after ``at`` bytes
    flip            bit ``bit`` of byte ``at`` of the response, or of what is stored, is flipped
    garble          bit ``bit`` of byte ``at`` of the request's body is flipped on its way in
    delay           ``seconds`` pass first
    error_in_200    200 with an ``<Error>`` document (``code``) instead of the work
    swallow         the work is done and the answer dropped
    call            ``call()`` runs in a thread after the body was read, before the work
    expired         ExpiredToken
    ==============  ==========================================================================
    """

    kind: FaultKind
    status: int = 503
    code: str = "SlowDown"
    retry_after: float | None = None
    location: str = ""
    at: int = 0
    bit: int = 0
    seconds: float = 0.0
    call: Callable[[], object] | None = field(default=None, repr=False)


@dataclass(slots=True)
class FaultRule:
    """One line of the plan, with its counters.

    Attributes:
        seen: Requests that matched since the rule was added.
        fired: Requests that met the fault.
    """

    fault: Fault
    action: str
    bucket: str
    key: str
    part_number: int | None
    nth: int
    times: int | None
    seen: int = 0
    fired: int = 0

    def matches(self, action: str, bucket: str, key: str, part_number: int | None) -> bool:
        """Whether a request is of this rule's kind."""
        return (
            fnmatchcase(action, self.action)
            and fnmatchcase(bucket, self.bucket)
            and fnmatchcase(key, self.key)
            and self.part_number in (None, part_number)
        )


class FaultPlan:
    """Rules in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []

    def __repr__(self) -> str:
        return f"FaultPlan({len(self._rules)} rules, {self.fired} fired)"

    @property
    def fired(self) -> int:
        """How often any rule fired."""
        return sum(rule.fired for rule in self._rules)

    def add(
        self,
        *,
        kind: FaultKind,
        action: str = "*",
        bucket: str = "*",
        key: str = "*",
        part_number: int | None = None,
        nth: int = 1,
        times: int | None = 1,
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
        location: str = "",
        at: int = 0,
        bit: int = 0,
        seconds: float = 0.0,
        call: Callable[[], object] | None = None,
    ) -> FaultRule:
        """Add a rule at the end.

        Args:
            kind: See ``Fault``.
            action: Glob over operation names (``UploadPart``, ``*Object``).
            bucket: Glob over bucket names.
            key: Glob over keys.
            part_number: Only this part, or None for all requests.
            nth: First matching request that meets the fault, counted from 1.
            times: How many in a row meet it; None for ever.
            status: HTTP status of ``status``; by default the usual one of ``code``.
            code: Error code; SlowDown where neither it nor a status is given.
            retry_after: Seconds in a Retry-After header.
            location: Location header of ``redirect``.
            at: Byte count or offset of ``drop``, ``truncate``, ``flip`` and ``garble``.
            bit: Of that byte, counted from the lowest.
            seconds: Length of ``delay``.
            call: What ``call`` runs.

        Raises:
            UsageError: An unknown kind, or an option that the kind needs is missing.
        """
        _check(kind, location, call, nth, times)
        fault = Fault(
            kind=kind,
            status=status or _usual_status(code),
            code=code or _usual_code(status),
            retry_after=retry_after,
            location=location,
            at=at,
            bit=bit,
            seconds=seconds,
            call=call,
        )
        rule = FaultRule(fault, action, bucket, key, part_number, nth, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def due(
        self, action: str, bucket: str = "", key: str = "", part_number: int | None = None
    ) -> tuple[Fault, ...]:
        """Count one request and return the faults that it meets."""
        with self._lock:
            due = []
            for rule in self._rules:
                if not rule.matches(action, bucket, key, part_number):
                    continue
                rule.seen += 1
                last = None if rule.times is None else rule.nth + rule.times - 1
                if rule.seen >= rule.nth and (last is None or rule.seen <= last):
                    rule.fired += 1
                    due.append(rule.fault)
            return tuple(due)

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()


def _usual_code(status: int | None) -> str:
    return {None: "SlowDown", 503: "SlowDown", 500: "InternalError", 403: "AccessDenied"}.get(
        status, f"Http{status}"
    )


def _usual_status(code: str) -> int:
    known = {"": 503, "InternalError": 500, "AccessDenied": 403, "Throttling": 400}
    return known.get(code, 503 if code in ("SlowDown", "ServiceUnavailable") else 400)


def _check(
    kind: str, location: str, call: Callable[[], object] | None, nth: int, times: int | None
) -> None:
    if kind not in get_args(FaultKind):
        raise UsageError(f"not a fault: {kind!r}", fix=f"One of {get_args(FaultKind)}")
    if kind == "redirect" and not location:
        raise UsageError("a redirect fault needs a location")
    if kind == "call" and call is None:
        raise UsageError("a call fault needs a call")
    if nth < 1 or (times is not None and times < 1):
        raise UsageError(f"nth and times count from 1, not {nth} and {times}")
