"""The extended protocol of one session: Parse, Bind, Describe, Execute, Close, Flush, Sync.

What lives here: which statement names and portals are the double's own, and which are forwarded.
What must not: running COPY (``proxy.py`` and ``copy.py``).

Theory of operation: every forwarded message is followed by Flush and awaited on the message that
ends its answer, so the two sides stay in step whether the client sends Flush (asyncpg) or Sync
(redshift_connector) after Describe. After an error everything up to Sync is skipped, by the
double as by PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.testing.redshift import numeric, pgwire, sql
from engine.testing.redshift.backend import Backend
from engine.testing.redshift.client import Client
from engine.testing.redshift.pgwire import Column, ServerError
from engine.testing.redshift.statements import Role, Statement, understand

_PARSE_DONE = pgwire.message(b"1")
_BIND_DONE = pgwire.message(b"2")
_CLOSE_DONE = pgwire.message(b"3")
_NO_DATA = pgwire.message(b"n")
_NO_PARAMETERS = pgwire.message(b"t", b"\0\0")
_FLUSH = pgwire.message(b"H")
# The message types that end the answer to each request; an error ends each of them.
_ENDS = {b"P": b"1E", b"B": b"2E", b"D": b"TnE", b"E": b"CIsE", b"C": b"3E", b"S": b"Z"}
_BINARY = 1


class Owner(Protocol):
    """What this file needs of the session."""

    client: Client
    backend: Backend

    async def relay(self, request: bytes, until: bytes) -> bool: ...
    async def copy(self, text: str) -> bool: ...
    async def fail(self, error: ServerError) -> bool: ...
    async def ready(self) -> None: ...
    async def before(self, role: Role) -> None: ...
    async def after(self, role: Role) -> None: ...


@dataclass(slots=True)
class _Prepared:
    statement: Statement
    columns: tuple[Column, ...] = ()

    @property
    def own(self) -> bool:
        return self.statement.role is Role.COPY


@dataclass(slots=True)
class _Portal:
    prepared: _Prepared
    formats: tuple[int, ...]

    def numerics(self) -> dict[int, int]:
        """Index -> modifier of the columns that Redshift sends in its own binary form."""
        out = {}
        for index, column in enumerate(self.prepared.columns):
            one = len(self.formats) == 1
            code = self.formats[0 if one else index] if self.formats else 0
            if column.type_oid == pgwire.TYPE_NUMERIC and code == _BINARY:
                out[index] = column.modifier
        return out


class Extended:
    """The state of the extended protocol.

    Attributes:
        skipping: An error was answered and Sync has not come yet.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._prepared: dict[str, _Prepared] = {}
        self._portals: dict[str, _Portal] = {}
        self._described: _Prepared | None = None
        self._numerics: dict[int, int] = {}
        self.skipping = False

    async def handle(self, kind: bytes, payload: bytes) -> None:
        """Handle one message of the client."""
        if kind == b"S":
            self.skipping = False
            await self._owner.relay(pgwire.message(b"S"), _ENDS[b"S"])
            if self._owner.backend.status == b"I":
                self._portals.clear()  # portals end with their transaction
            await self._owner.ready()
        elif kind == b"H":
            await self._owner.client.flush()
        elif not self.skipping:
            good = await self._dispatch(kind, payload)
            self.skipping = not good
            if not good:
                await self._owner.client.flush()

    def seen(self, kind: bytes, payload: bytes) -> bytes:
        """Look at an answer of the backend on its way to the client; returns what to send."""
        if kind == b"T" and self._described is not None:
            self._described.columns = pgwire.row_description(payload)
        if kind == b"D" and self._numerics:
            values = pgwire.data_row(payload)
            for index, modifier in self._numerics.items():
                value = values[index]
                if value is not None:
                    values[index] = numeric.to_redshift(value, modifier)
            return pgwire.encode_row(values)[5:]
        return payload

    async def _dispatch(self, kind: bytes, payload: bytes) -> bool:
        if kind == b"P":
            return await self._parse(payload)
        if kind == b"B":
            return await self._bind(payload)
        if kind == b"E":
            return await self._execute(payload)
        target, name = payload[:1], pgwire.take_cstring(payload, 1)[0]
        prepared = self._find(target, name)
        if kind == b"D":
            return await self._describe(payload, target, prepared)
        (self._prepared if target == b"S" else self._portals).pop(name, None)
        if prepared is not None and prepared.own:
            self._owner.client.write(_CLOSE_DONE)
            return True
        return await self._forward(kind, payload)

    async def _parse(self, payload: bytes) -> bool:
        name, text, types = pgwire.split_parse(payload)
        found = [understand(piece) for piece in sql.statements(text)]
        # Several statements in one Parse are an error that PostgreSQL words itself.
        statement = found[0] if len(found) == 1 else Statement(text)
        known = self._prepared.get(name)
        if known is None or known.statement != statement:
            # asyncpg parses an unnamed statement a second time and does not describe it again.
            self._prepared[name] = _Prepared(statement)
        if statement.role is Role.REFUSED:
            return await self._owner.fail(ServerError(statement.refusal, "0A000"))
        if statement.role is Role.COPY:
            self._owner.client.write(_PARSE_DONE)
            return True
        request = pgwire.parse_message(name, statement.text, types)
        return await self._owner.relay(request + _FLUSH, _ENDS[b"P"])

    async def _bind(self, payload: bytes) -> bool:
        portal, name, formats = pgwire.split_bind(payload)
        prepared = self._prepared.get(name)
        if prepared is None:
            return await self._forward(b"B", payload)  # PostgreSQL says that it does not exist
        self._portals[portal] = _Portal(prepared, formats)
        if prepared.own:
            self._owner.client.write(_BIND_DONE)
            return True
        return await self._forward(b"B", payload)

    async def _describe(self, payload: bytes, target: bytes, prepared: _Prepared | None) -> bool:
        if prepared is not None and prepared.own:
            self._owner.client.write((_NO_PARAMETERS if target == b"S" else b"") + _NO_DATA)
            return True
        self._described = prepared
        try:
            return await self._forward(b"D", payload)
        finally:
            self._described = None

    async def _execute(self, payload: bytes) -> bool:
        portal = self._portals.get(pgwire.take_cstring(payload, 0)[0])
        if portal is None:
            return await self._forward(b"E", payload)
        statement = portal.prepared.statement
        if portal.prepared.own:
            return await self._owner.copy(statement.text)
        await self._owner.before(statement.role)
        self._numerics = portal.numerics()
        try:
            good = await self._forward(b"E", payload)
        finally:
            self._numerics = {}
        if good and statement.role in (Role.COMMIT, Role.TRUNCATE):
            # The status is known only from ReadyForQuery, which the client has not asked for yet.
            await self._owner.relay(pgwire.message(b"S"), _ENDS[b"S"])
            await self._owner.after(statement.role)
        return good

    async def _forward(self, kind: bytes, payload: bytes) -> bool:
        return await self._owner.relay(pgwire.message(kind, payload) + _FLUSH, _ENDS[kind])

    def _find(self, target: bytes, name: str) -> _Prepared | None:
        if target == b"S":
            return self._prepared.get(name)
        portal = self._portals.get(name)
        return portal.prepared if portal else None
