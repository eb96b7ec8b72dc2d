"""The words of a load that failed: what, where, why, what to do, and where the stage is kept.

What lives here: errors made from facts. What must not: deciding whether something failed.
"""

from __future__ import annotations

import dataclasses

from engine.errors import CommitUnknown, CopyFailed, CountMismatch, DatabaseError, LoadRefused
from engine.redshift.copy_statement import table_name
from engine.redshift.errors import Kind, classify
from engine.redshift.reconcile import MAX_REJECTED, Loaded, RejectedRow, history_name
from engine.redshift.request import LoadRequest
from engine.redshift.rows import raw_line
from engine.redshift.staging import LocalFile, StagePlan
from engine.threads import ThreadDoor


async def copy_failed(
    request: LoadRequest,
    plan: StagePlan,
    error: DatabaseError,
    query_id: int | None,
    rejected: tuple[RejectedRow, ...],
    threads: ThreadDoor,
) -> CopyFailed:
    """The error of a COPY that was rolled back; rows without their line get it from the file."""
    meaning = classify(error)
    query_id = query_id or _number(error.facts.get("query_id"))
    if not rejected:
        return CopyFailed(
            f"COPY {request.table} stopped: {meaning.cause}; rolled back, table unchanged",
            query_id=query_id,
            fix=meaning.fix,
            reason=error.headline,
            detail=error.facts.get("detail"),
            sqlstate=error.sqlstate,
            staged_files=plan.folder,
            manifest=plan.manifest_url,
        )
    files = {history_name(str(url)): file for file, url in plan.files}
    whole = [await _with_line(row, files.get(row.url), threads) for row in rejected]
    first = whole[0]
    source = files.get(first.url)
    limit = request.options.max_errors
    accepted = f"MAXERROR {limit} accepts {limit - 1}" if limit else "MAXERROR 0"
    more = " or more" if len(whole) == MAX_REJECTED else ""
    rows = f"{len(whole)}{more} bad row{'s' if len(whole) > 1 else ''}"
    return CopyFailed(
        f"COPY {request.table} stopped: {rows}, {accepted}; rolled back, table unchanged",
        rejected=tuple(whole),
        query_id=query_id,
        fix=meaning.fix if meaning.kind is Kind.BAD_ROWS else "",
        file=source.path if source else first.url,
        line=f"{first.line:,}",
        column=f"{first.column} {first.column_type}".strip(),
        position=first.position,
        value=first.masked_value,
        reason=f"{first.code}: {first.masked_reason}",
        staged=first.url,
        staged_files=plan.folder,
        manifest=plan.manifest_url,
    )


def count_mismatch(request: LoadRequest, plan: StagePlan, error: CountMismatch) -> CountMismatch:
    """The same error with the load's own facts."""
    return CountMismatch(
        f"{error.headline}; {request.table} is rolled back, table unchanged",
        fix="The staged files are kept; compare them with the ones named",
        load_id=request.load_id,
        staged_files=plan.folder,
        manifest=plan.manifest_url,
        **error.facts,
    )


def commit_refused(request: LoadRequest, plan: StagePlan, error: DatabaseError) -> CopyFailed:
    """The server answered COMMIT with an error: nothing was loaded."""
    meaning = classify(error)
    return CopyFailed(
        f"COMMIT of the load into {request.table} was refused: {meaning.cause}; rolled back",
        fix=meaning.fix,
        reason=error.headline,
        sqlstate=error.sqlstate,
        staged_files=plan.folder,
        manifest=plan.manifest_url,
    )


def commit_unknown(
    request: LoadRequest, plan: StagePlan, loaded: Loaded, reason: str
) -> CommitUnknown:
    """COMMIT was sent, and nothing says what became of it."""
    return CommitUnknown(
        f"whether load {request.load_id} into {request.table} is committed is unknown: {reason}",
        fix="Look before loading again: committed, the table holds these rows once already",
        load_id=request.load_id,
        table=request.table,
        staged_rows=plan.rows,
        rows_if_committed=loaded.rows,
        query_id=loaded.query_id,
        check=f"SELECT count(*) FROM {table_name(request.table)}",
        staged_files=plan.folder,
        manifest=plan.manifest_url,
    )


async def _with_line(row: RejectedRow, file: LocalFile | None, threads: ThreadDoor) -> RejectedRow:
    """``sys_`` views hold no raw line; the local file, still the one that was staged, does."""
    if row.raw_line is not None or file is None:
        return row
    try:
        text = await threads.run(raw_line, file.path, row.line, file.gzip)
    except LoadRefused:
        # The file went away meanwhile; the row is reported without its line.
        return row
    return dataclasses.replace(row, raw_line=text)


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, str) and value.isdecimal() else None
