"""Random sequences of what a run tells its journal, with crashes, against a model.

After a crash the journal holds what had been told up to some moment: not before the last word that
was acknowledged as kept, in the order in which it was told, and nothing else.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.batch.journal import Journal
from engine.batch.journal.entries import key_of
from engine.batch.journal.objects import Found, KeptObject, Key
from engine.batch.manifest import ManifestEntry
from engine.records import DownloadRecord, KeptRange, UploadRecord
from engine.testing.clock import run_virtual
from engine.types import PartReceipt
from tests.unit.batch.journal.kit import (
    contents,
    download_record,
    entry,
    journal,
    part,
    result,
    upload_record,
)

_UPS, _DOWNS = (0, 1), (2, 3)
Op = tuple[str, int, int]

_ups, _downs = st.sampled_from(_UPS), st.sampled_from(_DOWNS)
_small = st.integers(1, 4)
_op: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("create"), _ups, _small),
    st.tuples(st.just("begin"), _ups, _small),
    st.tuples(st.just("part"), _ups, _small),
    st.tuples(st.just("fetch"), _downs, _small),
    st.tuples(st.just("range"), _downs, _small),
    st.tuples(st.just("end"), st.sampled_from(_UPS + _DOWNS), _small),
    st.tuples(st.just("done"), st.sampled_from(_UPS + _DOWNS), _small),
    st.tuples(st.just("sleep"), st.just(0), _small),
    st.tuples(st.sampled_from(("crash", "crash", "stop")), st.just(0), _small),
)


@dataclass
class _Object:
    """What a journal holds of one object under way."""

    uploads: list[tuple[UploadRecord | None, dict[int, PartReceipt]]] = field(default_factory=list)
    download: DownloadRecord | None = None
    ranges: dict[int, KeptRange] = field(default_factory=dict)

    def shown(self) -> tuple[Any, ...]:
        begun = [(record, parts) for record, parts in self.uploads if record is not None]
        record, parts = begun[-1] if begun else (None, {})
        ranges = [self.ranges[start] for start in sorted(self.ranges)]
        return record, parts, len(self.uploads) - len(begun), self.download, ranges


@dataclass
class _Model:
    """States that the journal may be in: the last that is certain, and those after it."""

    under_way: dict[Key, _Object] = field(default_factory=dict)
    done: dict[Key, tuple[Any, ...]] = field(default_factory=dict)

    def shown(self) -> tuple[Any, ...]:
        return {key: kept.shown() for key, kept in self.under_way.items()}, dict(self.done)


def _shown(found: dict[Key, Found], done: dict[Key, tuple[Any, ...]]) -> tuple[Any, ...]:
    return {
        key: (kept.upload, dict(kept.parts), len(kept.intents), kept.download, list(kept.ranges))
        for key, kept in found.items()
    }, done


class _Run:
    """One sequence: the journal, and the model beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = _Model()
        self.states = [self.model.shown()]
        self.models = [copy.deepcopy(self.model)]
        self.open: dict[Key, str] = {}

    def told(self, certain: bool) -> None:
        if certain:
            self.states, self.models = [], []
        self.states.append(self.model.shown())
        self.models.append(copy.deepcopy(self.model))

    async def play(self, ops: list[Op]) -> None:
        while True:
            kept = journal(self.folder)
            async with kept:
                left = await self._until_the_end(kept, ops)
            self._compare(kept)
            if left is None:
                return
            ops = left

    async def _until_the_end(self, kept: Journal, ops: list[Op]) -> list[Op] | None:
        self.open = {}
        for place, (what, number, extra) in enumerate(ops):
            if what == "crash":
                kept.abandon()
                return ops[place + 1 :]
            if what == "stop":
                self._all_certain(kept)
                return ops[place + 1 :]
            await self._do(kept, what, number, extra)
        self._all_certain(kept)
        return None

    def _all_certain(self, kept: Journal) -> None:
        if kept.kept:
            self.told(True)

    async def _do(self, kept: Journal, what: str, number: int, extra: int) -> None:
        if what == "sleep":
            await anyio.sleep(extra * 0.3)
            return
        each = entry(self.folder, number, "upload" if number in _UPS else "download")
        if what == "done":
            await self._done(kept, each, extra)
            return
        handle = await kept.object(each)
        key = key_of(each)
        model = self.model.under_way.setdefault(key, _Object())
        if what == "create":
            await handle.upload_creating()
            model.uploads.append((None, {}))
            self.open[key] = "created"
        elif what == "begin" and self.open.get(key) == "created":
            record = upload_record(f"id-{extra}")
            await handle.upload_begun(record)
            model.uploads[-1] = (record, {})
            self.open[key] = "begun"
        elif what == "part" and self._has_upload(key, model):
            await handle.part_done(part(extra))
            [record for record in model.uploads if record[0] is not None][-1][1][extra] = part(
                extra
            )
        elif what == "fetch":
            await handle.download_begun(download_record(f"{extra}"))
            model.download = download_record(f"{extra}")
        elif what == "range" and model.download is not None:
            await handle.range_done(KeptRange(extra, extra + 1, extra))
            model.ranges[extra] = KeptRange(extra, extra + 1, extra)
        elif what == "end":
            await handle.ended()
            self._ended(key, handle)
            self.told(False)
            return
        else:
            if model == _Object():
                del self.model.under_way[key]
            return
        self.told(True)

    def _has_upload(self, key: Key, model: _Object) -> bool:
        """Of this process, or the last one of those before."""
        begun = [record for record, _ in model.uploads if record is not None]
        return bool(begun) and self.open.get(key) != "created"

    async def _done(self, kept: Journal, each: ManifestEntry, extra: int) -> None:
        handle = kept._under_way.get(key_of(each))
        at_once = handle is not None and handle.is_kept
        await kept.done(each, result(each), f"v{extra}")
        if at_once and handle is not None:
            self._ended(key_of(each), handle)
        self.model.done[key_of(each)] = (20, '"etag"', f"v{extra}")
        self.told(at_once and kept.kept)

    def _ended(self, key: Key, handle: KeptObject) -> None:
        self.open.pop(key, None)
        self.model.under_way.pop(key, None)
        stays = handle.stays()
        if stays is not None:
            self.model.under_way[key] = _Object([(None, {}) for _ in stays.intents])

    def _compare(self, kept: Journal) -> None:
        assert kept.path is not None
        if not kept.path.exists():
            assert self.states[0] == ({}, {}), "what was certain is gone"
            self.model = _Model()
            self.told(True)
            return
        found = _shown(*contents(kept.path))
        places = [place for place, state in enumerate(self.states) if state == found]
        assert places, f"{found}\nis none of\n{self.states}"
        self.model = self.models[places[-1]]
        self.told(True)


def _play(folder: Path, ops: list[Op]) -> None:
    for path in (*folder.glob("runs/*"), *folder.glob("file-*")):
        path.unlink()

    async def work() -> None:
        await _Run(folder).play(ops)

    run_virtual(work)


_settings = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@_settings
@given(ops=st.lists(_op, max_size=20))
def test_what_is_found_is_what_was_told(tmp_path: Path, ops: list[Op]) -> None:
    _play(tmp_path, ops)


@pytest.mark.prove
@pytest.mark.timeout(900)
@settings(parent=_settings, max_examples=3000)
@given(ops=st.lists(_op, max_size=60))
def test_long_sequences(tmp_path: Path, ops: list[Op]) -> None:
    _play(tmp_path, ops)
