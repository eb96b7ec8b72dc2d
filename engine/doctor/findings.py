"""What the doctor tells: the case, a finding a check, policy documents, and the verdict.

What must not live here: a check, or how a finding looks on a screen.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.doctor.cases import Situation
from engine.errors import CredentialsError, EngineError

# Exit codes of the command, HOUSE rules: permission and credentials, and all else.
PERMISSION = 3
OTHER = 1


class Status(enum.Enum):
    """How a check came out."""

    OK = "ok"
    FAILED = "failed"
    WARNING = "warning"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: Its short name (``assume``).
        text: What was found, or why it was not checked.
        detail: Further lines.
        fix: What to change where, a line each.
        missing: IAM actions that were denied.
        exit_code: Of the command, where the check failed.
        aws: What AWS said: ``AccessDenied (403)``; "" where nothing was asked.
    """

    check: str
    status: Status
    text: str
    detail: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    exit_code: int = 0
    aws: str = ""


@dataclass(frozen=True, slots=True)
class CaseFound:
    """Which case a hop is. ``hop`` counts from 1; ``hops`` is how many there are."""

    situation: Situation
    hop: int
    hops: int
    caller: str
    role: str


@dataclass(frozen=True, slots=True)
class PolicyToAdd:
    """A ready document, and where it goes.

    Attributes:
        kind: ``trust`` of a role, ``identity`` of the caller, ``permissions`` of a role.
        account: Whose owner can put it there; "" where it is not known.
        attached_to: ``role stage-writer``, ``user etl``.
        note: What to mind before it is put there.
    """

    kind: Literal["trust", "identity", "permissions"]
    account: str
    attached_to: str
    document: Mapping[str, object]
    note: str = ""


Told = CaseFound | Finding | PolicyToAdd
Tell = Callable[[Told], None]


@dataclass(slots=True)
class Verdict:
    """Counts what is told. ``tell`` is a ``Tell`` that passes everything on to ``to``."""

    to: Tell
    failed: int = 0
    warnings: int = 0
    checked: int = 0
    exit_codes: set[int] = field(default_factory=set)
    missing: dict[str, None] = field(default_factory=dict)

    def tell(self, told: Told) -> None:
        if isinstance(told, Finding):
            self.checked += told.status is not Status.SKIPPED
            self.warnings += told.status is Status.WARNING
            self.missing |= dict.fromkeys(told.missing)
            if told.status is Status.FAILED:
                self.failed += 1
                self.exit_codes.add(told.exit_code or OTHER)
        self.to(told)

    @property
    def exit_code(self) -> int:
        """0 where nothing failed; 3 where any failure is one of credentials or permission."""
        return max(self.exit_codes, default=0)


def ok(check: str, text: str, *detail: str) -> Finding:
    """A check that came out well."""
    return Finding(check, Status.OK, text, detail)


def warning(check: str, text: str, *fix: str, detail: tuple[str, ...] = ()) -> Finding:
    """Works, and is not as it should be."""
    return Finding(check, Status.WARNING, text, detail, fix)


def skipped(check: str, reason: str) -> Finding:
    """Could not be checked, or was not to be."""
    return Finding(check, Status.SKIPPED, reason)


def failed(
    check: str,
    text: str,
    *fix: str,
    detail: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    exit_code: int = PERMISSION,
) -> Finding:
    """Something stands in the way."""
    return Finding(check, Status.FAILED, text, detail, fix, missing, exit_code)


def failed_with(check: str, error: EngineError, *detail: str) -> Finding:
    """A failure in the words of the error that told it."""
    fix = (error.fix,) if error.fix else ()
    kind = PERMISSION if isinstance(error, CredentialsError) else error.exit_code
    found = failed(check, error.headline, *fix, detail=(*facts_of(error), *detail), exit_code=kind)
    return replace(found, aws=str(error.facts.get("aws", "")))


def facts_of(error: EngineError) -> tuple[str, ...]:
    """What the service said, on one line; empty where it said nothing."""
    aws, request_id = error.facts.get("aws"), error.facts.get("request_id")
    said = [f"aws: {aws}"] if aws else []
    if request_id:
        said.append(f"request id {request_id}")
    return (", ".join(said),) if said else ()
