"""The journal of a manifest: one that is given, or the one of a file.

What must not live here: what a journal keeps (``batch.journal``).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from engine.api.opened import OpenEngine
from engine.transfer import TransferContext

if TYPE_CHECKING:
    from engine.batch import Manifest
    from engine.batch.journal import Journal


@asynccontextmanager
async def journal_of(
    given: str | os.PathLike[str] | Journal | None,
    manifest: Manifest,
    context: TransferContext,
    engine: OpenEngine,
) -> AsyncIterator[Journal | None]:
    """The journal to work with, open; None where nothing is to be kept.

    Raises:
        JournalError: It cannot be opened, or is in use, or of another work.
    """
    if given is None or not isinstance(given, str | os.PathLike):
        yield given
        return
    from engine.batch.journal import Journal

    async with Journal.open(
        given,
        identity=work_of(manifest, context, engine),
        session=engine.setup.run_id,
        door=engine.door,
        clock=engine.setup.clock,
    ) as journal:
        yield journal


def work_of(manifest: Manifest, context: TransferContext, engine: OpenEngine) -> str:
    """What is moved where and how it is stored, whoever does it and how fast. Of the entries of a
    manifest nothing: they may be a stream, and each is asked for by itself."""
    import json  # many runs of a library have no journal, and a start pays for it

    trees = [
        (
            tree.operation,
            os.path.abspath(tree.folder) if tree.source is None else "",
            str(tree.prefix),
            str(tree.source or ""),
        )
        for tree in manifest.trees
    ]
    options = context.options.for_create() | context.options.for_complete()
    stored = {name: text for name, text in options.items() if "customer-key" not in name}
    return json.dumps([engine.setup.endpoints.s3 or "aws", trees, sorted(stored.items())])
