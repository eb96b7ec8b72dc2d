"""A client's session: what is Redshift's is done here, everything else goes to PostgreSQL.

What lives here: the loop over the client's messages, the simple protocol, COPY, faults. What must
not: the extended protocol's bookkeeping (``extended.py``), how COPY works (``copy.py``).

Theory of operation: messages are handled one at a time. A statement that PostgreSQL understands
is forwarded and its answers are relayed; types, errors and transactions come free that way. An
error that the double itself answers must also fail the open transaction in PostgreSQL, else the
client could go on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.testing.redshift import pgwire, sql, tables
from engine.testing.redshift.backend import Backend, BackendLost
from engine.testing.redshift.client import Client, ClientGone
from engine.testing.redshift.copy import CopyRecord, CopyRun, CopyWorld
from engine.testing.redshift.extended import Extended
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.statements import Role, Statement, understand

# Answers of the backend that are about its own startup or that would unmask it as PostgreSQL.
_HIDDEN_PARAMETERS = frozenset(
    {
        b"server_version",
        b"server_encoding",
        b"client_encoding",
        b"standard_conforming_strings",
        b"in_hot_standby",
        b"default_transaction_read_only",
        b"scram_iterations",
        b"search_path",
    }
)
_FLUSH_EVERY = 256 * 1024
_TIMEOUT_SETTING = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"
_TRANSACTION_ROLES = frozenset({Role.BEGIN, Role.COMMIT, Role.ROLLBACK, Role.TRUNCATE})


class Session:
    """One client and its backend."""

    def __init__(self, world: CopyWorld, client: Client, backend: Backend) -> None:
        self.client = client
        self.backend = backend
        self._world = world
        self._extended = Extended(self)
        self._in_copy = False
        self._copying: asyncio.Timeout | None = None
        self._canceled = False
        self._kept_copy_id: int | None = None
        self._unflushed = 0

    async def serve(self) -> None:
        """Handle messages until the client or PostgreSQL is gone."""
        try:
            while True:
                kind, payload = await self.client.read()
                if kind == b"X":
                    return
                if kind == b"Q" and not self._extended.skipping:
                    await self._simple(pgwire.take_cstring(payload, 0)[0])
                elif kind in b"PBDECHS":
                    await self._extended.handle(kind, payload)
                # Anything else is the rest of a COPY FROM STDIN that was refused: asyncpg sends
                # CopyFail after the error, and an answer would put the two out of step.
        except ClientGone:
            return
        except BackendLost:
            self.client.write(
                ServerError(
                    "terminating connection due to administrator command",
                    "57P01",
                    severity="FATAL",
                ).encode()
            )
        finally:
            self.backend.close()

    async def cancel(self) -> None:
        """Cancel what runs now. A COPY is the double's own work; the rest is PostgreSQL's."""
        if self._in_copy:
            self._canceled = True
            if self._copying is not None:
                self._copying.reschedule(asyncio.get_running_loop().time())
        else:
            await self.backend.cancel()

    async def _simple(self, text: str) -> None:
        found = [understand(piece) for piece in sql.statements(text)]
        if all(s.role is Role.PLAIN for s in found):
            await self.relay(pgwire.query(";".join(s.text for s in found)), b"Z")
        else:
            await self._one_by_one(found)
        await self.ready()

    async def _one_by_one(self, found: Sequence[Statement]) -> None:
        """Run the statements of one Query message; they are one transaction if none says else."""
        implicit = (
            self.backend.status == b"I"
            and len(found) > 1
            and not any(s.role in _TRANSACTION_ROLES for s in found)
        )
        if implicit:
            await self.backend.rows("BEGIN")
        good = True
        for statement in found:
            good = good and await self._one(statement)
        if implicit:
            await self.backend.rows("COMMIT" if good else "ROLLBACK")

    async def _one(self, statement: Statement) -> bool:
        """Run one statement and relay its answers without ReadyForQuery; False on an error."""
        if statement.role is Role.COPY:
            return await self.copy(statement.text)
        if statement.role is Role.REFUSED:
            return await self.fail(ServerError(statement.refusal, "0A000"))
        await self.before(statement.role)
        good = await self.relay(pgwire.query(statement.text), b"Z")
        await self.after(statement.role)
        return good

    async def before(self, role: Role) -> None:
        """What happens before a statement runs.

        Raises:
            ClientGone: A fault closed the connection.
        """
        if role is Role.COMMIT:
            self._maybe_drop("drop-before-commit")

    async def after(self, role: Role) -> None:
        """What happens after a statement ran, before the client hears of it.

        Raises:
            ClientGone: A fault closed the connection.
        """
        if role is Role.TRUNCATE and self.backend.status == b"T":
            await self.backend.rows("COMMIT")  # in Redshift TRUNCATE ends the transaction
        if role is Role.COMMIT:
            self._maybe_drop("drop-after-commit")

    async def copy(self, text: str) -> bool:
        """Run a COPY and answer it; False on an error."""
        if self.backend.status == b"E":
            message = "current transaction is aborted, commands ignored until end of transaction"
            return await self.fail(ServerError(f"{message} block", "25P02"))
        self._maybe_drop("drop-before-copy")
        record = CopyRecord(next(self._world.queries), sql.without_literals(text.strip()))
        # From the moment on that somebody can see this COPY, it can be cancelled.
        self._in_copy, self._canceled = True, False
        self._world.records.append(record)
        run = CopyRun(self._world, self.backend, text, record)
        try:
            error = await self._copy_in_time(run)
        except BaseException as lost:
            record.state, record.error = "failed", repr(lost)
            raise
        if error is not None:
            canceled = error.sqlstate == "57014"
            await run.abandon(error.message, canceled=canceled)
            if run.refused_data:
                self._kept_copy_id = record.query
        self._maybe_drop("drop-after-copy")
        if error is not None:
            self.client.write(error.encode())
            return False
        for notice in run.notices:
            self.client.write(ServerError(notice, "00000", severity="INFO").encode_notice())
        self.client.write(pgwire.command_complete("COPY"))
        return True

    async def _copy_in_time(self, run: CopyRun) -> ServerError | None:
        try:
            milliseconds = int((await self.backend.rows(_TIMEOUT_SETTING))[0][0] or 0)
            if self._canceled:
                return _canceled(next(self._world.queries))
            async with asyncio.timeout(milliseconds / 1000 or None) as self._copying:
                await run.run()
        except TimeoutError:
            return _canceled(next(self._world.queries))
        except ServerError as error:
            return error
        finally:
            self._in_copy, self._copying = False, None
        return None

    async def fail(self, error: ServerError) -> bool:
        """Answer an error of the double's own, and fail the transaction; always False."""
        await self.backend.abort_transaction()
        self.client.write(error.encode())
        return False

    async def ready(self) -> None:
        """End a round: ReadyForQuery with the backend's status."""
        if self._kept_copy_id is not None and self.backend.status == b"I":
            # A COPY that refused rows keeps its id through the rollback; other failures do not.
            await self.backend.rows(tables.set_last_copy(self._kept_copy_id, 0))
            self._kept_copy_id = None
        self.client.write(pgwire.ready(self.backend.status))
        await self.client.flush()

    async def relay(self, request: bytes, until: bytes) -> bool:
        """Send to the backend and pass its answers on, up to one whose type is in ``until``.

        ReadyForQuery is never passed on. Returns False if an error came.
        """
        good = True
        await self.backend.send(request)
        while True:
            kind, payload = await self.backend.read()
            if kind == b"E":
                good = False
                self.client.write(self._translate(ServerError.parse(payload)).encode())
            elif kind == b"G":
                await self.backend.send(pgwire.message(b"f", b"not supported\0"))
            elif kind != b"Z" and not _hidden(kind, payload):
                await self._pass_on(kind, payload)
            if kind in until:
                return good

    async def _pass_on(self, kind: bytes, payload: bytes) -> None:
        self.client.write(pgwire.message(kind, self._extended.seen(kind, payload)))
        self._unflushed += len(payload)
        if self._unflushed > _FLUSH_EVERY:
            self._unflushed = 0
            await self.client.flush()

    def _translate(self, error: ServerError) -> ServerError:
        """PostgreSQL's error as Redshift words it, where the difference is known."""
        if error.sqlstate == "57014":
            return _canceled(next(self._world.queries))
        if error.sqlstate == "40001":
            text = "could not complete because of conflict with concurrent transaction"
            return ServerError(text)
        if error.sqlstate == "21000" and "MERGE" in error.message:
            return ServerError("Found multiple matches to update the same tuple.")
        return error

    def _maybe_drop(self, kind: str) -> None:
        if self._world.faults.take(kind):
            self.client.drop()
            raise ClientGone


def _canceled(query: int) -> ServerError:
    """A query that was cancelled, by the user or by statement_timeout: one text for both."""
    return ServerError(f"Query ({query}) canceled on user's request", "57014")


def _hidden(kind: bytes, payload: bytes) -> bool:
    return kind == b"S" and payload.partition(b"\0")[0] in _HIDDEN_PARAMETERS
