"""load(): the order of its steps, and every end it can have."""

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from engine.clock import LoopClock
from engine.errors import (
    CommitUnknown,
    CopyFailed,
    CountMismatch,
    DatabaseError,
    LoadRefused,
    SourceChanged,
)
from engine.events import Event, LoadStep
from engine.protocols import Lease
from engine.redshift import CopyOptions, CopyRole, CsvFormat, LoadReport, LoadRequest, load
from engine.redshift.reconcile import mask_value
from engine.threads import ThreadDoor
from engine.types import S3Url
from tests.unit.redshift.scripted import (
    FixedLease,
    MemoryStage,
    Rows,
    ScriptedExecutor,
    touch,
    write,
)

STAGING = S3Url("stage-bucket", "load/")
FOLDER = "s3://stage-bucket/load/run-1/"
NAMES = (FOLDER + "00001-a.csv", FOLDER + "00002-a.csv")
BAD_ROWS = DatabaseError(
    "Load into table 'orders' failed.  Check 'stl_load_errors' system table for details.",
    sqlstate="XX000",
)
BAD_ROW = (
    NAMES[1] + "  ", "2", "amount   ", "numeric", "12,2", "3", "1207",
    "Invalid digit, Value '.', Pos 3", "1.2.3", "3,1.2.3",
)  # fmt: skip


class Case:
    """Two files with three rows, and an executor that loads them."""

    def __init__(self, folder: Path) -> None:
        self.files = (
            write(folder, "x/a.csv", "1,1.0\n2,2.0\n"),
            write(folder, "y/a.csv", "3,1.2.3"),
        )
        self.request = LoadRequest(
            files=self.files,
            table="public.orders",
            staging=STAGING,
            load_id="run-1",
            authority=CopyRole("default"),
        )
        self.stage = MemoryStage()
        self.executor = ScriptedExecutor(rows=3, files=[(NAMES[0], "2"), (NAMES[1] + " ", "1")])
        self.lease: Lease | None = None
        self.steps: list[str] = []
        self.hook: Callable[[Event], None] = self._note

    def change(self, **values: object) -> None:
        self.request = dataclasses.replace(self.request, **values)  # type: ignore[arg-type]  # tests

    async def load(self) -> LoadReport:
        return await load(
            self.request,
            self.stage,
            self._connect,
            copy_lease=self.lease,
            clock=LoopClock(),
            threads=ThreadDoor(),
            hook=self.hook,
        )

    async def _connect(self) -> ScriptedExecutor:
        return self.executor

    def _note(self, event: Event) -> None:
        assert isinstance(event, LoadStep)
        self.steps.append(event.step)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_happy_path(case: Case) -> None:
    report = await case.load()
    assert (report.files_loaded, report.rows_loaded, report.rows_rejected) == (2, 3, 0)
    assert (report.copy_id, report.bytes_staged) == (18, 19)
    assert [str(url) for url in report.staged_urls] == list(NAMES)
    assert not report.warnings and not report.kept_stage and not case.stage.objects
    assert case.executor.words == ["SET", "SET", "BEGIN", "COPY", "COMMIT"]
    assert case.executor.closed
    assert "SET query_group TO 'run-1'" in case.executor.seen
    assert case.steps == [
        "counting", "staging", "copying", "reconciling", "committing", "committed", "sweeping",
    ]  # fmt: skip


async def test_manifest_and_kept_stage(case: Case) -> None:
    case.change(keep_staged=True)
    report = await case.load()
    assert report.kept_stage
    manifest = json.loads(case.stage.objects[report.manifest_url])
    assert [(e["url"], e["meta"]["content_length"]) for e in manifest["entries"]] == [
        (NAMES[0], 12),
        (NAMES[1], 7),
    ]


async def test_header_rows_are_not_data(case: Case) -> None:
    case.change(format=CsvFormat(header=True))
    case.executor.rows = 1
    case.executor.files = [(NAMES[0], "2")]
    assert (await case.load()).rows_loaded == 1
    assert "IGNOREHEADER 1" in next(sql for sql in case.executor.seen if sql.startswith("COPY"))


@pytest.mark.parametrize(
    ("rows", "files", "text"),
    [
        (2, [(NAMES[0], "1"), (NAMES[1], "1")], f"{NAMES[0]}: 1 lines scanned, 2 rows staged"),
        (4, [(NAMES[0], "2"), (NAMES[1], "1")], "loaded 4 rows of 3 staged"),
        (3, [(NAMES[0], "2")], f"missing: {NAMES[1]}"),
        (3, [(NAMES[0], "2"), (NAMES[1], "1"), ("s3://x/y", "1")], "foreign: s3://x/y"),
    ],
)
async def test_count_mismatch(case: Case, rows: int, files: Rows, text: str) -> None:
    case.executor.rows, case.executor.files = rows, files
    with pytest.raises(CountMismatch) as caught:
        await case.load()
    assert text in str(caught.value) and FOLDER in str(caught.value)
    assert case.executor.words == ["SET", "SET", "BEGIN", "COPY", "ROLLBACK"]
    assert len(case.stage.objects) == 3 and case.executor.closed


async def test_a_copy_that_left_no_trace_is_not_believed(case: Case) -> None:
    case.executor.copies = False
    with pytest.raises(CountMismatch, match="no COPY of this session"):
        await case.load()


async def test_bad_row(case: Case) -> None:
    case.executor.fail["COPY"] = BAD_ROWS
    case.executor.refused = [BAD_ROW]
    with pytest.raises(CopyFailed) as caught:
        await case.load()
    error = caught.value
    assert error.headline == (
        "COPY public.orders stopped: 1 bad row, MAXERROR 0; rolled back, table unchanged"
    )
    facts = error.facts
    assert facts["file"] == case.files[1] and facts["line"] == "2"
    assert facts["column"] == "amount numeric(12,2)" and facts["position"] == 3
    assert facts["value"] == "1.2**"
    assert facts["reason"] == "1207: Invalid digit, Value '*', Pos 3"
    assert str(facts["staged_files"]) == FOLDER
    assert "1.2.3" not in f"{error} {error!r} {error.rejected!r} {error.rejected[0]}"
    (row,) = error.rejected
    assert 'value "1.2.3"' in row.show()  # type: ignore[attr-defined]  # a RejectedRow
    assert case.executor.words == ["SET", "SET", "BEGIN", "COPY", "ROLLBACK"]
    assert len(case.stage.objects) == 3


async def test_serverless_rows_get_their_line_from_the_file(case: Case) -> None:
    case.executor.fail["COPY"] = BAD_ROWS
    case.executor.hidden = ("stl_",)
    case.executor.refused = [(NAMES[1], "1", *BAD_ROW[2:8])]
    with pytest.raises(CopyFailed) as caught:
        await case.load()
    (row,) = caught.value.rejected
    assert row.raw_line == "3,1.2.3"  # type: ignore[attr-defined]  # a RejectedRow
    assert "value" not in caught.value.facts


async def test_rows_of_an_older_copy_are_not_shown(case: Case) -> None:
    case.executor.fail["COPY"] = DatabaseError("Cannot COPY into nonexistent table orders")
    case.executor.copies = False
    case.executor.refused = [BAD_ROW]
    with pytest.raises(CopyFailed, match="does not exist") as caught:
        await case.load()
    assert caught.value.rejected == ()


async def test_max_errors(case: Case) -> None:
    case.change(options=CopyOptions(max_errors=5))
    case.executor.rows = 2
    case.executor.refused = [BAD_ROW]
    report = await case.load()
    assert (report.rows_loaded, report.rows_rejected, len(report.rejected)) == (2, 1, 1)
    case.executor.rows = 1
    with pytest.raises(CountMismatch, match="rejected rows: 1"):
        await case.load()


async def test_hidden_history_is_a_warning(case: Case) -> None:
    case.executor.hidden = ("stl_", "sys_")
    case.executor.files = []
    assert (await case.load()).warnings == ("file names not compared: load history is hidden",)


async def test_connection_lost_in_copy(case: Case) -> None:
    case.executor.fail["COPY"] = DatabaseError("gone", lost=True)
    case.executor.fail["ROLLBACK"] = DatabaseError("gone", lost=True)
    with pytest.raises(CopyFailed, match="lost before COMMIT; rolled back"):
        await case.load()
    assert "COMMIT" not in case.executor.words


async def test_connection_lost_in_commit(case: Case) -> None:
    case.executor.fail["COMMIT"] = DatabaseError("gone", lost=True)
    with pytest.raises(CommitUnknown) as caught:
        await case.load()
    facts = caught.value.facts
    assert (facts["load_id"], facts["table"], facts["staged_rows"]) == ("run-1", "public.orders", 3)
    assert facts["check"] == 'SELECT count(*) FROM "public"."orders"'
    assert caught.value.exit_code == 4
    assert case.executor.words == ["SET", "SET", "BEGIN", "COPY", "COMMIT"]
    assert len(case.stage.objects) == 3
    assert caught.value.__notes__ == [f"staged files are kept under {FOLDER}"]


async def test_commit_refused_is_rolled_back(case: Case) -> None:
    case.executor.fail["COMMIT"] = DatabaseError("1023", sqlstate="XX000")
    with pytest.raises(CopyFailed, match="another transaction"):
        await case.load()


async def test_cancelled_in_copy_rolls_back(case: Case) -> None:
    case.executor.hold.add("COPY")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(case.load)
        while "COPY" not in case.executor.words:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert case.executor.words == ["SET", "SET", "BEGIN", "COPY", "ROLLBACK"]
    assert case.executor.closed


async def test_cancelled_in_commit_is_unknown(case: Case) -> None:
    case.executor.hold.add("COMMIT")
    async with anyio.create_task_group() as tasks:

        async def load() -> None:
            with pytest.raises(CommitUnknown, match="cancelled"):
                await case.load()

        tasks.start_soon(load)
        while "COMMIT" not in case.executor.words:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert case.executor.words[-1] == "COMMIT" and case.executor.closed


async def test_keys(case: Case) -> None:
    case.change(authority="keys", estimate_seconds=100.0, queue_seconds=40.0)
    case.lease = FixedLease(900)
    await case.load()
    assert case.executor.seen[3] == "SET statement_timeout TO 870000"
    public = next(text for text in case.executor.public if text)
    assert "CANARY" not in public and "SESSION_TOKEN '***'" in public
    case.lease = FixedLease(299)
    case.executor.seen.clear()
    with pytest.raises(LoadRefused) as caught:
        await case.load()
    assert (caught.value.facts["have_seconds"], caught.value.facts["need_seconds"]) == (299, 300)
    assert case.executor.words == []
    case.lease = None
    with pytest.raises(LoadRefused, match="no lease"):
        await case.load()


async def test_a_failed_sweep_and_a_failed_hook_change_nothing(case: Case) -> None:
    def broken(event: Event) -> None:
        raise ValueError("a listener's own mistake")

    case.hook = broken
    case.stage.sweep_error = RuntimeError("boom")
    report = await case.load()
    assert report.rows_loaded == 3 and report.kept_stage
    assert report.warnings == (f"staged files are still under {FOLDER}: boom",)


async def test_source_changed_while_staged(case: Case) -> None:
    case.stage.before_return = lambda: touch(case.files[1])
    with pytest.raises(SourceChanged, match=r"y/a\.csv changed"):
        await case.load()
    case.stage.before_return = case.files[1].unlink
    with pytest.raises(SourceChanged, match=r"y/a\.csv is gone"):
        await case.load()
    assert case.executor.seen == []


async def test_short_object_is_not_copied(case: Case) -> None:
    def cut() -> None:
        case.stage.objects[S3Url.parse(NAMES[0])] = b"1"

    case.stage.before_return = cut
    with pytest.raises(SourceChanged, match="was not staged as it was counted"):
        await case.load()


async def test_refused_files(case: Case, tmp_path: Path) -> None:
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(b"1,2\n"))
    link = tmp_path / "link.csv"
    link.symlink_to(case.files[0])
    for files, text in (
        ((case.files[0], packed), "gzip and plain"),
        ((case.files[0], link), "named twice"),
        ((tmp_path,), "not a regular file"),
        ((tmp_path / "none.csv",), "No such file"),
        ((write(tmp_path, "a.csv.zst", ""),), "Use gzip"),
    ):
        case.change(files=files)
        with pytest.raises(LoadRefused, match=text):
            await case.load()
    assert not case.stage.objects


@pytest.mark.parametrize(
    "values",
    [
        {"files": ()},
        {"table": "a.b.c"},
        {"columns": ("",)},
        {"load_id": "../x"},
        {"load_id": "x" * 65},
        {"estimate_seconds": float("nan")},
    ],
)
def test_refused_requests(case: Case, values: dict[str, object]) -> None:
    with pytest.raises(LoadRefused):
        case.change(**values)


@pytest.mark.parametrize(
    ("value", "masked"),
    [("", ""), ("1", "*"), ("NA", "N*"), ("1.2.3", "1.2**"), ("x" * 50, "xxx" + "*" * 10)],
)
def test_masks(value: str, masked: str) -> None:
    assert mask_value(value) == masked
