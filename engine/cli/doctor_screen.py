"""What the doctor tells, as lines for people and as rows for programs.

What must not live here: a check, or a decision about one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap

import click

from engine.cli.output import print_json
from engine.doctor import (
    CaseFound,
    Complaint,
    Finding,
    Level,
    PolicyToAdd,
    Status,
    Told,
    Verdict,
)
from engine.redact import redact

WIDTH = 100
_STATUS = {Status.OK: "ok", Status.FAILED: "FAILED", Status.WARNING: "warning", Status.SKIPPED: "-"}
# Columns: status, name of the check, text.
_CHECK_AT, _TEXT_AT = 11, 23
_KINDS = {
    "trust": "trust policy of",
    "identity": "identity policy of",
    "permissions": "identity policy of",
}


@dataclass
class DoctorScreen:
    """Prints what is told, when it is told.

    Args:
        as_json: One versioned event a line.
        quiet: Only what failed or warns.
    """

    run_id: str = ""
    as_json: bool = False
    quiet: bool = False
    _gap: str = ""

    def tell(self, told: Told) -> None:
        if self.as_json:
            print_json({"v": 1, "run": self.run_id, **_row(told)})
        elif isinstance(told, CaseFound):
            hop = f"hop {told.hop} of {told.hops}: " if told.hops > 1 else ""
            click.echo(f"{hop}{told.situation.heading}")
        elif isinstance(told, PolicyToAdd):
            self._policy(told)
        elif not self.quiet or told.status in (Status.FAILED, Status.WARNING):
            for line in _finding(told):
                click.echo(redact(line))

    def subject(self, title: str) -> None:
        """A heading above what follows."""
        if self.as_json:
            print_json({"v": 1, "run": self.run_id, "event": "subject", "text": title})
        else:
            click.echo(f"\n{title}")

    def finish(self, verdict: Verdict) -> None:
        """The last line: what came of it."""
        if self.as_json:
            row = {"failed": verdict.failed, "warnings": verdict.warnings}
            code = {"checked": verdict.checked, "exit_code": verdict.exit_code}
            print_json({"v": 1, "run": self.run_id, "event": "doctor", **row, **code})
            return
        counts = [
            _counted(verdict.failed, "failure") if verdict.failed else "",
            _counted(verdict.warnings, "warning") if verdict.warnings else "",
        ]
        said = ", ".join(filter(None, counts)) or "all well"
        click.echo(f"{self._gap}  {said}")

    def _policy(self, policy: PolicyToAdd) -> None:
        """Not redacted: it holds no secret, and a placeholder has to stay one."""
        account = policy.account or "not known"
        click.echo(f"\n  {_KINDS[policy.kind]} {policy.attached_to}, account {account}:")
        for line in _wrapped(f"  ({policy.note})", 3) if policy.note else ():
            click.echo(line)
        for line in json.dumps(policy.document, indent=2).splitlines():
            click.echo(f"    {line}")
        self._gap = "\n"


def print_lint(complaints: tuple[Complaint, ...], path: str, *, as_json: bool) -> int:
    """The numbered report of a trust policy; returns the exit code."""
    errors = sum(complaint.level is Level.ERROR for complaint in complaints)
    lines: list[str] = []
    for number, complaint in enumerate(complaints, 1):
        lines += [json.dumps(_lint_row(number, complaint))] if as_json else _said(number, complaint)
    exit_code = 1 if errors else 0
    if as_json:
        row = {"errors": errors, "complaints": len(complaints), "exit_code": exit_code}
        lines.append(json.dumps({"v": 1, "event": "linted", **row}))
    else:
        others = len(complaints) - errors
        rest = f", {_counted(others, 'remark')}" if others else ""
        lines.append(f"{path}: {_counted(errors, 'error')}{rest}")
    click.echo("\n".join(lines))  # at once, so that `| head` cannot come between two lines
    return exit_code


def _lint_row(number: int, complaint: Complaint) -> dict[str, object]:
    return {
        "v": 1,
        "event": "lint",
        "number": number,
        "level": complaint.level.value,
        "statement": complaint.statement or None,
        "place": complaint.place or None,
        "text": complaint.text,
        "fix": complaint.fix or None,
    }


def _said(number: int, complaint: Complaint) -> Iterator[str]:
    where = complaint.place or (f"statement {complaint.statement}" if complaint.statement else "")
    head = f"{number:>3}. {complaint.level.value:<8} {where + ': ' if where else ''}"
    for line in _wrapped(head + complaint.text, 14):
        yield redact(line)
    if complaint.fix:
        yield from _wrapped(f"{'':14}fix: {complaint.fix}", 19)


def _finding(finding: Finding) -> Iterator[str]:
    text = finding.text
    if finding.status is Status.SKIPPED:
        text = f"not checked: {text}"
    head = f"  {_STATUS[finding.status]:<{_CHECK_AT - 2}}{finding.check:<{_TEXT_AT - _CHECK_AT}}"
    yield from _wrapped(head + text, _TEXT_AT)
    for line in finding.detail:
        yield from _wrapped(" " * _TEXT_AT + line, _TEXT_AT)
    for number, line in enumerate(finding.fix):
        label = "fix: " if number == 0 else "     "
        yield from _wrapped(" " * _TEXT_AT + label + line, _TEXT_AT + 5)


def _wrapped(line: str, indent: int) -> list[str]:
    """No word is broken: an ARN that is longer than the line stays one piece."""
    start = len(line) - len(line.lstrip())
    return wrap(
        line,
        WIDTH,
        initial_indent="",
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [" " * start]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _row(told: Told) -> dict[str, object]:
    if isinstance(told, CaseFound):
        return {
            "event": "case",
            "case": told.situation.case.value,
            "same_account": told.situation.same_account,
            "text": told.situation.title,
            "hop": told.hop,
            "hops": told.hops,
            "caller": told.caller,
            "role": told.role,
        }
    if isinstance(told, PolicyToAdd):
        return {
            "event": "policy",
            "kind": told.kind,
            "account": told.account,
            "attached_to": told.attached_to,
            "note": told.note or None,
            "document": told.document,
        }
    return {
        "event": "check",
        "check": told.check,
        "status": told.status.value,
        "text": redact(told.text),
        "detail": [redact(line) for line in told.detail],
        "fix": [redact(line) for line in told.fix],
        "missing": list(told.missing),
    }
