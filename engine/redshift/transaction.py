"""The transaction of a load: BEGIN, COPY, compare, COMMIT, and every other way out of it.

Rules of this file:
- Never COPY outside of a transaction: COPY goes on when its session is lost, and would commit
  minutes later. Inside BEGIN an unfinished block is rolled back by the server.
- After COMMIT was sent there are three ends: the answer says committed, it says refused, or it
  never came. The last one, cancellation included, is ``CommitUnknown``, and nothing repeats it.
- TRUNCATE commits in Redshift and has no place here.
https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-multiple-files.html
What must not live here: the wording of failures (``failures``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import anyio

from engine.errors import (
    CountMismatch,
    CredentialsError,
    DatabaseError,
    LoadRefused,
)
from engine.protocols import Executor, Lease
from engine.redshift.copy_statement import CopyAuthority, CopyKeys, CopyStatement, literal
from engine.redshift.failures import commit_refused, commit_unknown, copy_failed, count_mismatch
from engine.redshift.reconcile import (
    NO_COPY,
    History,
    Loaded,
    RejectedRow,
    choose_history,
    last_copy,
    reconcile,
    rejected_rows,
)
from engine.redshift.request import LoadRequest
from engine.redshift.staging import StagePlan
from engine.threads import ThreadDoor
from engine.types import Credentials

# With keys, COPY is stopped this long before they expire: it would retry S3 for up to 30 minutes.
_STOP_BEFORE_EXPIRY_SECONDS = 30.0
# The finite default in role mode; a load that takes longer should be cut into several.
_TIMEOUT_SECONDS = 6 * 3600.0
_ROLLBACK_SECONDS = 10.0
# A COMMIT may wait in the commit queue; a silence longer than this is no answer.
_COMMIT_SECONDS = 900.0
_HISTORY_SECONDS = 30.0

Tell = Callable[[str, str], None]


async def run_transaction(
    request: LoadRequest,
    plan: StagePlan,
    executor: Executor,
    lease: Lease | None,
    *,
    threads: ThreadDoor,
    tell: Tell,
) -> Loaded:
    """BEGIN, COPY, compare, COMMIT; every other end rolls back.

    Args:
        plan: Files that lie at S3, with their manifest.
        lease: Where the keys for COPY come from; None with a role.
        threads: Where lines of local files are read for error reports.
        tell: Is told each step and a detail.

    Raises:
        LoadRefused: The keys do not live long enough; nothing was begun.
        CopyFailed, CountMismatch: Rolled back.
        CommitUnknown: COMMIT was sent, and its answer is not known.
        DatabaseError: Refused before BEGIN.
    """
    history = await choose_history(executor)
    before = (await last_copy(executor)).query_id
    statement, seconds = await _statement(request, plan, lease)
    sql = statement.build()
    # Marks the statements of this load in Redshift's own history, and may choose its queue.
    await executor.execute(f"SET query_group TO {literal(request.load_id)}")
    await executor.execute(f"SET statement_timeout TO {int(seconds * 1000)}")
    tell("copying", f"COPY {request.table}")
    try:
        await executor.execute("BEGIN")
        await executor.execute(sql.text, sql.public)
        tell("reconciling", f"{plan.rows} rows")
        rows = {str(url): file.rows for file, url in plan.files}
        loaded = await reconcile(
            executor, history, rows, before=before, max_errors=request.options.max_errors
        )
    except DatabaseError as error:
        await _roll_back(executor)
        query_id, rejected = await _rejected(executor, history, before, error)
        raise await copy_failed(request, plan, error, query_id, rejected, threads) from error
    except CountMismatch as error:
        await _roll_back(executor)
        raise count_mismatch(request, plan, error) from None
    except BaseException:
        await _roll_back(executor)
        raise
    tell("committing", f"{loaded.rows} rows")
    await _commit(request, plan, executor, loaded)
    tell("committed", f"{loaded.rows} rows")
    return loaded


async def _statement(
    request: LoadRequest, plan: StagePlan, lease: Lease | None
) -> tuple[CopyStatement, float]:
    """The COPY, and the seconds that it may take."""
    if request.authority == "keys":
        assert lease is not None
        keys, remaining = await _keys(lease, request.lease_seconds)
        seconds = min(remaining - _STOP_BEFORE_EXPIRY_SECONDS, _TIMEOUT_SECONDS)
        authority: CopyAuthority = CopyKeys(keys)
    else:
        authority, seconds = request.authority, _TIMEOUT_SECONDS
    statement = CopyStatement(
        table=request.table,
        manifest_url=plan.manifest_url,
        authority=authority,
        columns=request.columns,
        format=request.format,
        gzip=plan.gzip,
        options=request.options,
    )
    return statement, seconds


async def _keys(lease: Lease, needed: float) -> tuple[Credentials, float]:
    """Keys that outlive the COPY, and the seconds they have.

    https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-access-permissions.html
    """
    cause: CredentialsError | None = None
    try:
        keys = await lease.at_least(needed)
    except CredentialsError as error:
        # Either no set lives that long, or none is to be had; the second raises again here.
        cause = error
        keys = await lease.ready()
    remaining = lease.remaining(keys)
    if remaining >= needed:
        return keys, remaining
    raise LoadRefused(
        f"the keys for COPY live {remaining:.0f} s and have to live {needed:.0f} s",
        fix="Use a role of the cluster (--copy-role), a longer --session-duration, or fewer files",
        have_seconds=round(remaining),
        need_seconds=round(needed),
    ) from cause


async def _commit(
    request: LoadRequest, plan: StagePlan, executor: Executor, loaded: Loaded
) -> None:
    try:
        with anyio.fail_after(_COMMIT_SECONDS):
            await executor.execute("COMMIT")
    except DatabaseError as error:
        if error.lost:
            raise commit_unknown(request, plan, loaded, "the connection was lost") from error
        await _roll_back(executor)
        raise commit_refused(request, plan, error) from error
    except TimeoutError:
        reason = f"no answer within {_COMMIT_SECONDS:.0f} s"
        raise commit_unknown(request, plan, loaded, reason) from None
    except anyio.get_cancelled_exc_class():
        # To pass the cancellation on would tell the caller that nothing was loaded.
        raise commit_unknown(request, plan, loaded, "cancelled while waiting") from None


async def _roll_back(executor: Executor) -> None:
    """ROLLBACK, even when cancelled. Where it fails, the end of the session does the same."""
    with (
        anyio.move_on_after(_ROLLBACK_SECONDS, shield=True),
        contextlib.suppress(DatabaseError),
    ):
        await executor.execute("ROLLBACK")


async def _rejected(
    executor: Executor, history: History, before: int, error: DatabaseError
) -> tuple[int | None, tuple[RejectedRow, ...]]:
    """The failed COPY's id and the rows that it refused, as far as they can be had; never a
    failure."""
    if error.lost:
        return None, ()
    with anyio.move_on_after(_HISTORY_SECONDS), contextlib.suppress(DatabaseError):
        last = await last_copy(executor)
        # A COPY refused at once (no table, no right) leaves the id of the one before it.
        if last.query_id not in (before, NO_COPY):
            return last.query_id, await rejected_rows(executor, history, last.query_id)
    return None, ()
