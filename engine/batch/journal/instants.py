"""Instants as text: ISO 8601 in UTC, as people write them too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from engine.errors import JournalDamaged


def as_text(at: datetime) -> str:
    """``2026-11-24T16:12:10.123456Z``; sorts as the instants do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_text(text: object, path: Path) -> datetime:
    """An instant out of the journal ``path``. Raises JournalDamaged where it is none."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise JournalDamaged(f"{path} is damaged: {text!r} is no instant", fix="Move it away")
    return at
