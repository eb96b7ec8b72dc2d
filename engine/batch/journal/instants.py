"""Instants as text: ISO 8601 in UTC, as people write them too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from engine.errors import JournalDamaged

_OWN = "-00:00"


def as_text(at: datetime) -> str:
    """``2026-11-24T16:12:10.123456Z``; sorts as the instants do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def by_own_clock(at: datetime) -> str:
    """So for an instant of which only this machine knows: ``-00:00``, which says no more of where a
    time is from (RFC 3339, 4.3). Journals of before have none of them."""
    return as_text(at).replace("Z", _OWN)


def is_own(text: object) -> bool:
    """Whether ``by_own_clock`` wrote it."""
    return isinstance(text, str) and text.endswith(_OWN)


def from_text(text: object, path: Path) -> datetime:
    """An instant out of the journal ``path``. Raises JournalDamaged where it is none."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise JournalDamaged(f"{path} is damaged: {text!r} is no instant", fix="Move it away")
    return at
