"""KeptObject: what the journal keeps of one object under way.

What lives here: the rows that each event makes, and what is read back. What must not: when they are
written (``commits.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, final

import msgspec

from engine.batch.journal.instants import as_text, by_own_clock, from_text, is_own
from engine.batch.journal.store import Row, Store, damaged
from engine.errors import JournalError
from engine.protocols import Clock, ObjectJournal
from engine.records import DownloadRecord, KeptRange, UploadIntent, UploadRecord
from engine.transfer.nameless import is_over
from engine.types import OpenUpload, PartReceipt, UploadId

T = TypeVar("T")

Key = tuple[str, bytes, str]
"""URL, name of the other end, operation: what is moved where."""

_OBJECT = "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?)"
_CREATING = "INSERT INTO uploads VALUES (?, ?, ?, ?, NULL)"
_BEGUN = "UPDATE uploads SET record = ? WHERE id = ?"
_PART = "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)"
_DOWNLOAD = "INSERT OR REPLACE INTO downloads VALUES (?, ?)"
_RANGE = "INSERT OR REPLACE INTO ranges VALUES (?, ?, ?)"
_ENDED = (
    "DELETE FROM parts WHERE upload IN (SELECT id FROM uploads WHERE object = ?)",
    "DELETE FROM uploads WHERE object = ?",
    "DELETE FROM downloads WHERE object = ?",
    "DELETE FROM ranges WHERE object = ?",
    "DELETE FROM objects WHERE id = ?",
)


class Desk(Protocol):
    """What a KeptObject asks of its journal."""

    clock: Clock
    session: str

    def number(self) -> int:
        """Of a row that is new."""
        ...

    def later(self, rows: Sequence[Row]) -> None:
        """Write them with the next."""
        ...

    async def now(self, rows: Sequence[Row]) -> None:
        """Write them; what cannot be written is remembered."""
        ...

    async def on_disk(self, rows: Sequence[Row]) -> None:
        """Write them to the disk. Raises JournalError if that cannot be."""
        ...

    async def of_others(self, uploads: Sequence[OpenUpload]) -> frozenset[UploadId]:
        """Which of them are of the journals beside this one."""
        ...


class Found(msgspec.Struct, frozen=True):
    """What is kept of an object by earlier processes."""

    number: int
    upload_number: int | None = None
    upload: UploadRecord | None = None
    parts: Mapping[int, PartReceipt] = msgspec.field(default_factory=dict)
    intents: Mapping[int, UploadIntent] = msgspec.field(default_factory=dict)
    download: DownloadRecord | None = None
    ranges: Sequence[KeptRange] = ()

    @property
    def only_intents(self) -> bool:
        """Whether all there is are uploads that may have been begun."""
        return bool(self.intents) and self.upload is None and self.download is None


@final
class KeptObject(ObjectJournal):
    """One object under way, see the protocol.

    Attributes:
        is_kept: Whether the journal has, or had, something of it.
    """

    def __init__(self, desk: Desk, key: Key, found: Found | None = None) -> None:
        self._desk = desk
        self._key = key
        self.is_kept = found is not None
        self._number = found.number if found is not None else None
        self._upload = found.upload_number if found is not None else None
        self.upload: UploadRecord | None = found.upload if found is not None else None
        self.parts: Mapping[int, PartReceipt] = found.parts if found is not None else {}
        self._asked: Mapping[int, UploadIntent] = found.intents if found is not None else {}
        self.intents: Sequence[UploadIntent] = tuple(self._asked.values())
        self._found_at = desk.clock.monotonic()
        self.download: DownloadRecord | None = found.download if found is not None else None
        self.ranges: Sequence[KeptRange] = found.ranges if found is not None else ()

    async def upload_creating(self) -> None:
        self._upload = self._desk.number()
        told = self._desk.clock.of_servers()
        at = as_text(told) if told is not None else by_own_clock(self._desk.clock.now())
        rows = self._rows((_CREATING, (self._upload, self._known(), self._desk.session, at)))
        await self._desk.on_disk(rows)

    async def upload_begun(self, record: UploadRecord) -> None:
        assert self._upload is not None, "an upload is asked for before it is begun"
        await self._desk.on_disk([(_BEGUN, (_json(record), self._upload))])

    async def part_done(self, receipt: PartReceipt) -> None:
        assert self._upload is not None, "a part is one of an upload that was begun"
        await self._desk.now([(_PART, (self._upload, receipt.number, _json(receipt)))])

    async def download_begun(self, record: DownloadRecord) -> None:
        await self._desk.on_disk(self._rows((_DOWNLOAD, (self._known(), _json(record)))))

    async def range_done(self, kept: KeptRange) -> None:
        await self._desk.now([(_RANGE, (self._known(), kept.start, _json(kept)))])

    async def of_others(self, uploads: Sequence[OpenUpload]) -> frozenset[UploadId]:
        return await self._desk.of_others(uploads)

    async def ended(self) -> None:
        ago = self._desk.clock.monotonic() - self._found_at
        self._asked = {
            number: intent
            for number, intent in self._asked.items()
            if not is_over(intent, self._desk.clock, ago)
        }
        if self._number is not None:
            self._desk.later([(sql, (self._number,)) for sql in _ENDED])
        if self._asked:
            asked = [self._asked_again(*each) for each in self._asked.items()]
            self._desk.later([*self._rows(asked[0]), *asked[1:]])
        else:
            self._number = None
        self._upload = self.upload = self.download = None
        self.parts, self.intents, self.ranges = {}, (), ()

    def stays(self) -> Found | None:
        """Of an object that has ended: uploads that may be begun yet, by requests of processes
        that died."""
        if not self._asked:
            return None
        return Found(number=self._known(), intents=self._asked)

    def _asked_again(self, number: int, intent: UploadIntent) -> Row:
        at = by_own_clock(intent.at) if intent.own_clock else as_text(intent.at)
        return (_CREATING, (number, self._known(), intent.session, at))

    def _known(self) -> int:
        if self._number is None:
            self.is_kept, self._number = True, self._desk.number()
        return self._number

    def _rows(self, row: Row) -> list[Row]:
        """With what names the object, which may be the first that is kept of it."""
        return [(_OBJECT, (self._known(), *self._key)), row]

    def __repr__(self) -> str:
        url, _, operation = self._key
        kept = len(self.parts) or len(self.ranges)
        return f"<KeptObject {operation} {url} found={kept}>"


def last_number(store: Store) -> int:
    """The highest number of any object or upload; in a thread."""
    ((objects, uploads),) = store.read(
        "SELECT (SELECT max(id) FROM objects), (SELECT max(id) FROM uploads)"
    )
    return max(_integer(store, objects or 0), _integer(store, uploads or 0))


def find_all(store: Store) -> dict[Key, Found]:
    """All objects that earlier processes had under way: some, each of many parts; in a thread."""
    found: dict[Key, Found] = {}
    for number, url, name, operation in store.read("SELECT id, url, name, operation FROM objects"):
        right = isinstance(url, str) and isinstance(name, bytes) and isinstance(operation, str)
        if not right:
            raise damaged(store.path, "an object has no name")
        found[(url, name, operation)] = _find(store, _integer(store, number))
    return found


def _find(store: Store, number: int) -> Found:
    uploads = store.read(
        "SELECT id, session, creating_at, record FROM uploads WHERE object = ? ORDER BY id",
        (number,),
    )
    intents = {
        _integer(store, number): UploadIntent(
            at=from_text(at, store.path), session=str(session), own_clock=is_own(at)
        )
        for number, session, at, record in uploads
        if record is None or _value(store, record, UploadRecord).lost
    }
    begun = [(row[0], row[3]) for row in uploads if row[3] is not None]
    upload_number, upload = begun[-1] if begun else (None, None)
    parts = store.read("SELECT receipt FROM parts WHERE upload = ?", (upload_number,))
    receipts = [_value(store, text, PartReceipt) for (text,) in parts]
    downloads = store.read("SELECT record FROM downloads WHERE object = ?", (number,))
    ranges = store.read("SELECT kept FROM ranges WHERE object = ? ORDER BY start", (number,))
    return Found(
        number=number,
        upload_number=upload_number,
        upload=_value(store, upload, UploadRecord) if upload is not None else None,
        parts={receipt.number: receipt for receipt in receipts},
        intents=intents,
        download=_value(store, downloads[0][0], DownloadRecord) if downloads else None,
        ranges=[_value(store, text, KeptRange) for (text,) in ranges],
    )


def _json(record: Any) -> str:
    return msgspec.json.encode(record).decode()


def _value(store: Store, text: object, kind: type[T]) -> T:
    if not isinstance(text, str):
        raise damaged(store.path, f"no {kind.__name__}")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, JournalError, ValueError, RecursionError) as error:
        raise damaged(store.path, str(error)) from None


def _integer(store: Store, value: object) -> int:
    if not isinstance(value, int):
        raise damaged(store.path, "a number is none")
    return value
