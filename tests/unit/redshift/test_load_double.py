"""load() against the Redshift double, which reads the staged files from the gate's S3."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import final

import anyio
import pytest

from engine.clock import LoopClock
from engine.errors import CommitUnknown, CopyFailed, CountMismatch, DatabaseError, LoadRefused
from engine.protocols import Lease
from engine.redshift import CopyOptions, CopyRole, CsvFormat, JdbcUrl, LoadReport, LoadRequest, load
from engine.redshift.copy_manifest import StagedFile
from engine.redshift.executors.wire import WireExecutor
from engine.redshift.reconcile import RejectedRow
from engine.redshift.request import Stage
from engine.testing.aws import AwsDouble
from engine.testing.redshift import RedshiftDouble
from engine.threads import ThreadDoor
from engine.types import Credentials, S3Url
from tests.unit.redshift.scripted import FixedLease, write

pytestmark = pytest.mark.slow

BUCKET = "stage-bucket"
ROLE = "arn:aws:iam::111122223333:role/copy"
POOR_ROLE = "arn:aws:iam::111122223333:role/poor"
PASSWORD = "Canary2hunter2"


@final
class GateStage(Stage):
    """Writes straight into the gate's store."""

    def __init__(self, aws: AwsDouble) -> None:
        self._gate = aws.gate

    async def put_files(self, files: Sequence[tuple[Path, S3Url]]) -> Sequence[StagedFile]:
        return [await self._put(url, path.read_bytes()) for path, url in files]

    async def put_bytes(self, url: S3Url, data: bytes) -> None:
        await self._put(url, data)

    async def sweep(self, urls: Sequence[S3Url]) -> None:
        self.swept = list(urls)

    async def _put(self, url: S3Url, data: bytes) -> StagedFile:
        etag = await anyio.to_thread.run_sync(self._gate.put_object, url.bucket, url.key, data)
        return StagedFile(url, len(data), etag)


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        double.gate.create_bucket(BUCKET, double.account)
        yield double


@pytest.fixture(scope="module")
def keys(aws: AwsDouble) -> Credentials:
    return Credentials(aws.admin.access_key_id, aws.admin.secret_access_key)


@pytest.fixture(scope="module")
def process(aws: AwsDouble, keys: Credentials) -> Iterator[RedshiftDouble]:
    poor = aws.gate.add_user(aws.account, "poor").credentials
    with RedshiftDouble(
        s3_endpoint=aws.endpoint,
        region=aws.region,
        roles={ROLE: keys, POOR_ROLE: poor},
        user="loader",
        password=PASSWORD,
        database="dev",
        slices=2,
    ) as double:
        yield double


@pytest.fixture
def redshift(process: RedshiftDouble) -> Iterator[RedshiftDouble]:
    process.query("drop table if exists orders")
    process.query("create table orders (id int not null, amount numeric(12,2), note varchar(40))")
    process.query("grant all on orders to loader")
    yield process
    process.faults.clear()


class Case:
    """One load of some files, and what the table holds afterwards."""

    def __init__(self, aws: AwsDouble, redshift: RedshiftDouble, folder: Path) -> None:
        self.redshift = redshift
        self.folder = folder
        self.stage = GateStage(aws)
        self.request = LoadRequest(
            files=(
                write(folder, "x/a.csv", 'id,amount,note\n1,1.50,"a ""b""\nc"\n2,,x\n'),
                write(folder, "y/a.csv", "id,amount,note\n3,3.00,NA\n"),
            ),
            table="public.orders",
            staging=S3Url(BUCKET, f"load/{folder.name}"),
            load_id="run-1",
            authority=CopyRole((ROLE,)),
            format=CsvFormat(header=True, null_as="NA"),
        )

    def change(self, **values: object) -> None:
        self.request = dataclasses.replace(self.request, **values)  # type: ignore[arg-type]  # tests

    async def load(self, lease: Lease | None = None) -> LoadReport:
        url = JdbcUrl.parse(self.redshift.jdbc_url)
        return await load(
            self.request,
            self.stage,
            lambda: WireExecutor.connect(url, user="loader", password=PASSWORD),
            copy_lease=lease,
            clock=LoopClock(),
            threads=ThreadDoor(),
        )

    async def rows(self) -> list[tuple[str | None, ...]]:
        async with self.session() as session:
            return await session.fetch_strings(
                "select cast(id as varchar), cast(amount as varchar), note from orders order by id"
            )

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[WireExecutor]:
        url = JdbcUrl.parse(self.redshift.jdbc_url)
        session = await WireExecutor.connect(url, user="loader", password=PASSWORD)
        try:
            yield session
        finally:
            await session.aclose()


@pytest.fixture
def case(aws: AwsDouble, redshift: RedshiftDouble, tmp_path: Path) -> Case:
    return Case(aws, redshift, tmp_path)


THREE = [("1", "1.50", 'a "b"\nc'), ("2", None, "x"), ("3", "3.00", None)]


async def test_csv(case: Case) -> None:
    report = await case.load()
    assert (report.files_loaded, report.rows_loaded) == (2, 3)
    assert report.warnings == ()
    assert case.stage.swept == [*report.staged_urls, report.manifest_url]
    assert await case.rows() == THREE


async def test_gzip_and_columns(case: Case) -> None:
    packed = case.folder / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"x|7\n" * 100))
    case.change(
        files=(packed,), columns=("note", "id"), format=CsvFormat(delimiter="|"), load_id="run-2"
    )
    assert (await case.load()).rows_loaded == 100
    assert len(await case.rows()) == 100


async def test_an_empty_file_beside_a_full_one(case: Case) -> None:
    files = (write(case.folder, "none.csv", ""), write(case.folder, "some.csv", "1,2,c\n"))
    case.change(files=files, format=CsvFormat())
    assert (await case.load()).rows_loaded == 1


async def test_bad_row(case: Case) -> None:
    bad = write(case.folder, "bad.csv", "id,amount,note\n4,4.00,ok\n5,1.2.3,bad\n")
    case.change(files=(*case.request.files, bad))
    with pytest.raises(CopyFailed) as caught:
        await case.load()
    error = caught.value
    assert "1 bad row, MAXERROR 0; rolled back, table unchanged" in error.headline
    assert (error.facts["file"], error.facts["line"]) == (bad, "3")
    assert str(error.facts["column"]).startswith("amount numeric")
    assert str(error.facts["reason"]).startswith("1207: ")
    assert error.facts["value"] == "1.2**" and "1.2.3" not in str(error)
    assert f"{case.request.staging}/run-1/" in str(error)
    (row,) = error.rejected
    assert isinstance(row, RejectedRow)
    assert (row.value, row.raw_line) == ("1.2.3", "5,1.2.3,bad")
    assert await case.rows() == []


async def test_max_errors(case: Case) -> None:
    bad = write(case.folder, "bad.csv", "id,amount,note\n4,4.00,ok\n5,1.2.3,bad\n")
    case.change(files=(bad,), options=CopyOptions(max_errors=2))
    report = await case.load()
    assert (report.rows_loaded, report.rows_rejected, report.rejected[0].line) == (1, 1, 3)


async def test_no_table_and_denied_role(case: Case) -> None:
    case.change(table="public.nowhere")
    with pytest.raises(CopyFailed, match="does not exist") as caught:
        await case.load()
    assert caught.value.rejected == ()
    case.change(table="public.orders", authority=CopyRole((ROLE + "-unknown",)))
    with pytest.raises(CopyFailed):
        await case.load()
    case.change(authority=CopyRole((POOR_ROLE,)))
    with pytest.raises(CopyFailed, match="no read permission on the manifest"):
        await case.load()


async def test_keys(case: Case, keys: Credentials) -> None:
    case.change(authority="keys")
    lease = FixedLease(100)
    with pytest.raises(LoadRefused, match="live 100 s and have to live 210 s"):
        await case.load(lease)
    lease.seconds, lease.keys = float("inf"), keys
    assert (await case.load(lease)).rows_loaded == 3
    wrong = dataclasses.replace(keys, secret_access_key="Canary0" + "s" * 33)
    lease.keys = wrong
    case.change(load_id="run-2")
    with pytest.raises(CopyFailed, match="may not read") as caught:
        await case.load(lease)
    cause = caught.value.__cause__
    assert isinstance(cause, DatabaseError)
    assert "Canary0" not in f"{caught.value}{cause}{cause.__dict__}"
    assert len(await case.rows()) == 3


@pytest.mark.parametrize(("fault", "committed"), [("before", 0), ("after", 3)])
async def test_lost_commit(case: Case, fault: str, committed: int) -> None:
    case.redshift.faults.add(f"drop-{fault}-commit")
    with pytest.raises(CommitUnknown) as caught:
        await case.load()
    assert caught.value.exit_code == 4
    assert caught.value.facts["rows_if_committed"] == 3
    check = str(caught.value.facts["check"]).replace("count(*)", "cast(count(*) as varchar)")
    async with case.session() as session:
        assert await session.fetch_strings(check) == [(str(committed),)]


@pytest.mark.parametrize("fault", ["drop-before-copy", "drop-after-copy", "1023"])
async def test_faults_before_commit_leave_nothing(case: Case, fault: str) -> None:
    case.redshift.faults.add(fault)
    with pytest.raises(CopyFailed, match="Load again; nothing was loaded"):
        await case.load()
    assert await case.rows() == []
    case.change(load_id="run-2")
    await case.load()
    assert await case.rows() == THREE


async def test_lost_rows_are_a_count_mismatch(case: Case) -> None:
    case.redshift.faults.add("drop-rows", rows=1)
    with pytest.raises(CountMismatch, match="loaded 2 rows of 3 staged"):
        await case.load()
    assert await case.rows() == []


async def test_cancelled_copy_leaves_nothing(case: Case) -> None:
    case.redshift.faults.add("copy-delay", seconds=30)
    with anyio.move_on_after(1) as scope:
        await case.load()
    assert scope.cancelled_caught
    assert await case.rows() == []
