"""clean(): the rests of a run are taken away, with an engine that reaches them."""

from __future__ import annotations

from engine.api.engine import Engine
from engine.batch.journal.clean import Cleaned, clean_run
from engine.batch.journal.runs import RunInfo


async def clean(engine: Engine, info: RunInfo, *, dry_run: bool = False) -> Cleaned:
    """As ``clean_run``; the engine is open.

    Raises:
        RunInUse, JournalDamaged, JournalVersion, CredentialsError: See there.
    """
    opened = engine._ready()
    return await clean_run(
        info, opened.working(None), opened.door, opened.setup.clock.now(), dry_run=dry_run
    )
