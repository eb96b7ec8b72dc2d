"""load(): files into one table, in one transaction, with nothing left to guess afterwards.

Theory of operation. Rows are counted before anything moves, so that COPY's own count has
something to agree with. COPY and its check are one transaction: whatever goes wrong before COMMIT
leaves the table as it was. Staged files go only after COMMIT was confirmed, and nothing that goes
wrong from there on may look like a failed load: a second one would load the rows twice.
What must not live here: how bytes reach S3 (``Stage``), how SQL is run (``Executor``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence

import anyio

from engine.errors import EngineError, LoadRefused
from engine.events import Emit, LoadStep, silent
from engine.protocols import Clock, Executor, Lease
from engine.redshift.copy_manifest import CopyManifest, StagedFile
from engine.redshift.reconcile import Loaded
from engine.redshift.request import LoadReport, LoadRequest, Stage
from engine.redshift.staging import StagePlan, check_unchanged, count_files, plan_stage
from engine.redshift.transaction import Tell, run_transaction
from engine.threads import ThreadDoor

__all__ = ["LoadReport", "LoadRequest", "Stage", "StagedFile", "load"]

_CLOSE_SECONDS = 10.0
# Shielded, because a committed load has to be reported as one; short, because Ctrl-C waits for it.
_SWEEP_SECONDS = 30.0

Connect = Callable[[], Awaitable[Executor]]


async def load(
    request: LoadRequest,
    stage: Stage,
    connect: Connect,
    *,
    copy_lease: Lease | None = None,
    clock: Clock,
    threads: ThreadDoor,
    hook: Emit = silent,
) -> LoadReport:
    """Stage files, COPY them, compare, commit.

    Args:
        stage: How files get to S3.
        connect: Opens one session at Redshift; ``load`` closes it.
        copy_lease: Where the keys for COPY come from; needed with ``authority="keys"``.
        hook: Is told each step as a ``LoadStep``.

    Returns:
        What was loaded. Returned only after the COMMIT was confirmed.

    Raises:
        LoadRefused: Found before BEGIN: files, names, keys that do not live long enough.
        SourceChanged: A file changed between counting and the end of its upload.
        TransferError: A file could not be staged.
        CopyFailed: COPY refused rows or could not read; rolled back.
        CountMismatch: COPY loaded other files or rows than staged; rolled back.
        CommitUnknown: The answer to COMMIT was lost, or the caller was cancelled waiting for it.
        DatabaseError: No connection, or refused before BEGIN.
    """
    started = clock.monotonic()
    tell = _teller(request, hook)
    if request.authority == "keys" and copy_lease is None:
        raise LoadRefused("COPY is to read with keys, and no lease gives any")
    tell("counting", f"{len(request.files)} files")
    files = await count_files(request.files, request.format, threads)
    plan = plan_stage(files, request.staging, request.load_id)
    # A wrong password should be known before a byte moves. Not kept open: staging may take hours.
    await _close(await connect())
    kept = "staged files, if any, are kept"
    try:
        tell("staging", f"{plan.rows} rows to {plan.folder}")
        staged = await _stage(plan, stage, threads)
        kept = "staged files are kept"
        executor = await connect()
        try:
            loaded = await run_transaction(
                request, plan, executor, copy_lease, threads=threads, tell=tell
            )
        finally:
            await _close(executor)
    except EngineError as error:
        error.add_note(f"{kept} under {plan.folder}")
        raise
    unswept = ""
    keep = request.keep_staged or loaded.rows_rejected > 0  # refused rows are only there
    if not keep:
        tell("sweeping", f"{len(staged) + 1} objects")
        unswept = await _sweep(stage, plan, staged)
    seconds = clock.monotonic() - started
    return _report(request, plan, staged, loaded, keep=keep, unswept=unswept, seconds=seconds)


def _teller(request: LoadRequest, hook: Emit) -> Tell:
    def tell(step: str, detail: str) -> None:
        # A listener that fails must not turn a committed load into a failed one.
        with contextlib.suppress(Exception):
            hook(LoadStep(request.load_id, step, detail))

    return tell


async def _stage(plan: StagePlan, stage: Stage, threads: ThreadDoor) -> tuple[StagedFile, ...]:
    """Files, then the manifest: a manifest that exists names files that are there."""
    staged = await stage.put_files([(file.path, url) for file, url in plan.files])
    await check_unchanged([file for file, _ in plan.files], threads)
    plan.check_staged(staged)
    by_url = {file.url: file for file in staged}
    ordered = tuple(by_url[url] for _, url in plan.files)
    await stage.put_bytes(plan.manifest_url, CopyManifest.of(ordered).encode())
    return ordered


async def _sweep(stage: Stage, plan: StagePlan, staged: Sequence[StagedFile]) -> str:
    """Delete what was staged; what went wrong, in words. The load is committed by now."""
    reason = f"not done after {_SWEEP_SECONDS:.0f} s"
    with anyio.move_on_after(_SWEEP_SECONDS, shield=True) as scope:
        try:
            await stage.sweep([*(file.url for file in staged), plan.manifest_url])
        except anyio.get_cancelled_exc_class():
            if scope.cancel_called:
                raise
            reason = "cancelled"  # a native cancel gets through the shield
        except Exception as error:
            # Whatever it is, a committed load must not be reported as failed.
            reason = str(error) or type(error).__name__
        else:
            return ""
    return f"staged files are still under {plan.folder}: {reason}"


async def _close(executor: Executor) -> None:
    """End the session, whatever it takes; the server rolls back what is open."""
    # A native cancel gets through the shield; after a COMMIT it must not hide the load.
    ignored = (EngineError, anyio.get_cancelled_exc_class())
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True), contextlib.suppress(*ignored):
        await executor.aclose()


def _report(
    request: LoadRequest,
    plan: StagePlan,
    staged: Sequence[StagedFile],
    loaded: Loaded,
    *,
    keep: bool,
    unswept: str,
    seconds: float,
) -> LoadReport:
    empty = "" if plan.rows else "the files hold no rows; nothing was added to the table"
    unread = "" if loaded.files_compared else "file names not compared: load history is hidden"
    return LoadReport(
        load_id=request.load_id,
        table=request.table,
        files_loaded=len(staged),
        rows_loaded=loaded.rows,
        rows_rejected=loaded.rows_rejected,
        rejected=loaded.rejected,
        bytes_staged=sum(file.size for file in staged),
        staged_urls=tuple(file.url for file in staged),
        manifest_url=plan.manifest_url,
        copy_id=loaded.query_id,
        seconds=seconds,
        kept_stage=keep or bool(unswept),
        warnings=tuple(text for text in (empty, unread, unswept) if text),
    )
