"""Roles with short sessions, a bucket for each client, and what the gate saw of each.

Some tools cannot live beside the versions of botocore that the package is tested with, so they
have an environment of their own: ``make interop`` makes ``.venv-tools`` from
``tests/sharing/requirements.txt``. S3ENGINE_TOOLS names another folder of programs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.testing.gate_log import LoggedRequest
from tests.cli.conftest import Cli
from tests.cli.conftest import cli as cli

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("S3ENGINE_TOOLS") or ROOT / ".venv-tools" / "bin")


def tool(name: str) -> str:
    """The program's path; skips the test where it is not installed."""
    found = shutil.which(name, path=str(TOOLS))
    if found is None:
        pytest.skip(f"{name} is not installed in {TOOLS} (make interop installs it)")
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gate saw of one client, by its bucket."""

    client: str
    requests: Sequence[LoggedRequest]

    @property
    def sessions(self) -> int:
        return len({request.access_key_id for request in self.requests})

    @property
    def expired(self) -> int:
        """Requests under a session that had ended, as its holder had been told."""
        return sum(request.expired for request in self.requests)

    @property
    def failed(self) -> int:
        return sum(request.failed for request in self.requests)

    def row(self) -> str:
        return (
            f"{self.client:<24} requests {len(self.requests):>5}   renewals crossed "
            f"{self.sessions - 1:>2}   failed {self.failed}   with an ended session {self.expired}"
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """The command, a role with sessions of ``lifetime`` seconds, and the gate's log."""

    cli: Cli
    lifetime: float

    def role(self, name: str) -> str:
        return self.cli.role_with(name, session_lifetime=self.lifetime)

    def bucket(self, client: str) -> str:
        name = f"of-{client}"
        self.cli.aws.gate.create_bucket(name, self.cli.aws.account)
        return name

    def seen(self, client: str) -> Seen:
        return Seen(client, self.cli.aws.gate.log.where(bucket=f"of-{client}", service="s3"))

    def calls(self, role: str) -> list[LoggedRequest]:
        """AssumeRole of one role, in order."""
        calls = self.cli.aws.gate.log.where(action="AssumeRole")
        return [call for call in calls if call.parameters["RoleArn"] == role]

    def check_one_brokers_calls(self, role: str) -> int:
        """That nobody but one broker has asked: it renews in the middle of a short session, whose
        length is known to a second, and never before. Returns how many calls there were."""
        calls = self.calls(role)
        times = [call.at.timestamp() for call in calls]
        gaps = [late - early for early, late in zip(times, times[1:], strict=False)]
        # A call that arrives late, on a busy machine, is nearer to the next one; the first one
        # also loads what makes it, in the time that counts as its own.
        assert min(gaps[1:]) > (self.lifetime - 1) / 2 - 0.5, gaps
        assert not any(call.failed for call in calls)
        return len(calls)

    def check(self, seen: Seen, renewals: int) -> None:
        assert seen.sessions > renewals, seen.row()
        assert seen.failed == seen.expired == 0, seen.row()
