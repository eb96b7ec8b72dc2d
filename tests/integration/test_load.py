"""load() through the engine: files staged by the transfer room, loaded by the Redshift double."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from engine import (
    CommitUnknown,
    CopyFailed,
    CountMismatch,
    CsvFormat,
    LoadRefused,
    LoadReport,
    MiB,
    RoleSpec,
    TransferConfig,
)
from engine.errors import TransferError
from engine.testing.redshift import COPY_ROLE, RedshiftDouble
from tests.integration.conftest import ACCOUNT, Scene

pytestmark = pytest.mark.slow

TABLE = "create table sales (id integer not null, day date, note varchar(20))"


@pytest.fixture
def target(scene: Scene, s3engine_redshift: RedshiftDouble) -> RedshiftDouble:
    s3engine_redshift.query(TABLE)
    s3engine_redshift.query("grant all on sales to public")
    return s3engine_redshift


def rows(first: int, count: int) -> str:
    return "".join(f'{n},2026-11-24,"note, {n}"\n' for n in range(first, first + count))


def files(folder: Path, texts: list[str], *, zipped: bool = False) -> list[Path]:
    made = []
    for number, text in enumerate(texts):
        path = folder / f"part-{number}.csv{'.gz' if zipped else ''}"
        data = f"id,day,note\n{text}".encode()
        path.write_bytes(gzip.compress(data) if zipped else data)
        made.append(path)
    return made


async def load(scene: Scene, target: RedshiftDouble, paths: list[Path], **more: Any) -> LoadReport:
    settings: dict[str, Any] = {"copy_role": COPY_ROLE, **more}
    config = settings.pop("config", None)
    async with scene.engine(config=config) as s3:
        return await s3.load(
            paths,
            table="public.sales",
            staging=scene.url("load/"),
            database=target.jdbc_url,
            user=target.user,
            password=target.password,
            format=CsvFormat(header=True),
            **settings,
        )


@pytest.mark.parametrize("zipped", [False, True])
async def test_files_are_loaded_counted_and_swept(
    scene: Scene, target: RedshiftDouble, tmp_path: Path, zipped: bool
) -> None:
    paths = files(tmp_path, [rows(0, 100), rows(100, 50), rows(150, 1)], zipped=zipped)
    report = await load(scene, target, paths)
    assert (report.files_loaded, report.rows_loaded, report.rows_rejected) == (3, 151, 0)
    assert target.query("select count(*), min(id), max(id) from sales") == [(151, 0, 150)]
    assert scene.aws.gate.list_keys(scene.bucket) == []
    assert not report.kept_stage


async def test_a_big_file_goes_up_in_parts(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB)
    paths = files(tmp_path, [rows(0, 250_000)])
    report = await load(scene, target, paths, config=config, keep_staged=True)
    assert report.rows_loaded == 250_000
    assert len(scene.log("UploadPart")) == 2
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 2
    (url,) = report.staged_urls
    assert scene.aws.gate.get_object(scene.bucket, url.key) == paths[0].read_bytes()


async def test_one_bad_row_rolls_back_and_is_named(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    target.query("insert into sales values (1, null, 'before')")
    bad = rows(0, 10) + "11,not-a-date,x\n" + rows(12, 10)
    paths = files(tmp_path, [rows(100, 5), bad])
    with pytest.raises(CopyFailed) as caught:
        await load(scene, target, paths)
    error = caught.value
    (row,) = error.rejected
    assert str(paths[1]) in str(error)
    assert (row.line, row.column, row.value) == (12, "day", "not-a-date")  # type: ignore[attr-defined]
    assert "not-a-date" not in str(error)
    assert error.exit_code == 1
    assert target.query("select note from sales") == [("before",)]
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 3


async def test_a_row_that_copy_lost_is_noticed(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    target.faults.add("drop-rows", rows=1)
    with pytest.raises(CountMismatch, match=r"9 rows of 10 staged"):
        await load(scene, target, files(tmp_path, [rows(0, 10)]))
    assert target.query("select count(*) from sales") == [(0,)]


@pytest.mark.parametrize(
    ("fault", "loaded"), [("drop-before-commit", 0), ("drop-after-commit", 10)]
)
async def test_a_lost_commit_is_unknown_and_not_repeated(
    scene: Scene, target: RedshiftDouble, tmp_path: Path, fault: str, loaded: int
) -> None:
    target.faults.add(fault)
    with pytest.raises(CommitUnknown) as caught:
        await load(scene, target, files(tmp_path, [rows(0, 10)]))
    assert caught.value.exit_code == 4
    assert target.query("select count(*) from sales") == [(loaded,)]
    assert len(target.copies) == 1
    assert scene.aws.gate.list_keys(scene.bucket) != []


async def test_keys_of_a_role_that_live_long_enough_are_used(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    reader = scene.role_with("reader", allow=[("s3:GetObject", "*")])
    report = await load(
        scene,
        target,
        files(tmp_path, [rows(0, 10)]),
        copy_role=None,
        copy_keys_role=RoleSpec(reader),
    )
    assert report.rows_loaded == 10
    (copy,) = target.copies
    assert "SESSION_TOKEN" in copy.statement.upper()
    assert "IQoJ" not in copy.statement


async def test_loads_of_one_keys_role_share_its_session(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    reader = RoleSpec(scene.role_with("reader", allow=[("s3:GetObject", "*")]))
    async with scene.engine() as s3:
        for number in range(3):
            await s3.load(
                files(tmp_path, [rows(number, 1)]),
                table="sales",
                staging=scene.url("load/"),
                database=target.jdbc_url,
                user=target.user,
                password=target.password,
                copy_keys_role=reader,
                format=CsvFormat(header=True),
            )
    assert len(scene.log("AssumeRole")) == 2  # for the stage and for the keys


async def test_keys_that_end_too_soon_are_refused_before_begin(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    reader = scene.role_with("reader", allow=[("s3:GetObject", "*")])
    with pytest.raises(LoadRefused, match=r"\d+ s.*\d+ s"):
        await load(
            scene,
            target,
            files(tmp_path, [rows(0, 10)]),
            copy_role=None,
            copy_keys_role=RoleSpec(reader),
            estimate_seconds=600,
        )
    assert target.copies == ()


async def test_a_role_that_may_not_read_the_stage_is_explained(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    scene.aws.gate.add_role(
        ACCOUNT,
        "redshift-copy",
        trust=[f"arn:aws:iam::{ACCOUNT}:user/redshift-cluster"],
        allow=[("s3:ListBucket", "*")],
    )
    with pytest.raises(CopyFailed) as caught:
        await load(scene, target, files(tmp_path, [rows(0, 10)]))
    assert "permission" in str(caught.value)


async def test_a_stage_that_cannot_be_written_leaves_redshift_alone(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    scene.role_with(allow=[("s3:GetObject", "*")])
    with pytest.raises(TransferError):
        await load(scene, target, files(tmp_path, [rows(0, 10)]))
    assert target.copies == ()


async def test_what_cannot_be_loaded_is_refused_before_a_byte_moves(
    scene: Scene, target: RedshiftDouble, tmp_path: Path
) -> None:
    paths = files(tmp_path, [rows(0, 3)])
    refusals: list[tuple[list[Path], dict[str, Any]]] = [
        ([], {}),
        ([tmp_path / "none.csv"], {}),
        (paths, {"copy_role": None}),
        (paths, {"copy_role": "arn:aws:iam::1:role/x"}),
        ([*paths, *files(tmp_path, [rows(3, 3)], zipped=True)], {}),
    ]
    for given, settings in refusals:
        with pytest.raises(LoadRefused):
            await load(scene, target, given, **settings)
    assert scene.aws.gate.log.where(method="PUT") == []
    assert target.copies == ()
