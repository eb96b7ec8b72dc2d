"""Rows counted as csv.reader counts them, over block borders, plain and gzip."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import LoadRefused, UsageError
from engine.redshift import rows
from engine.redshift.formats import FORMATS
from engine.redshift.formats.csv import CsvFormat
from engine.redshift.rows import RowScan, raw_line, scan_csv


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", RowScan(0, 0, 0)),
        (b"\n", RowScan(1, 1, 1)),
        (b"a", RowScan(1, 1, 1)),
        (b"a\n", RowScan(1, 1, 2)),
        (b"a\nb", RowScan(2, 2, 3)),
        (b"a\n\nb\n", RowScan(3, 3, 5)),
        (b'"a\nb",c\r\nd,"e"', RowScan(2, 3, 14)),
        (b'"say ""\n""",x\n', RowScan(1, 2, 14)),
    ],
)
def test_small(tmp_path: Path, content: bytes, expected: RowScan) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert scan_csv(path) == expected


# A lone CR would be left bare by csv.writer and end a row for csv.reader; COPY ends rows at LF.
_FIELD = st.lists(st.sampled_from([*'ab,"\n\u00e9 ', "\r\n"]), max_size=6).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    table=st.lists(st.lists(_FIELD, min_size=2, max_size=3), max_size=12),
    block=st.integers(1, 9),
    packed=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    cut=st.booleans(),
)
def test_like_csv_reader(
    tmp_path: Path, table: list[list[str]], block: int, packed: bool, end: str, cut: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(table)
    content = text.getvalue()
    if cut:
        content = content.removesuffix(end)
    expected = list(csv.reader(io.StringIO(content, newline="")))
    data = content.encode()
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    old, rows._BLOCK = rows._BLOCK, block
    try:
        scan = scan_csv(path, gzip=packed)
        lines = data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        for number, line in enumerate(lines, 1):
            shown = line.removesuffix(b"\r").decode("utf-8", "replace")
            assert raw_line(path, number, packed) == shown
        assert raw_line(path, len(lines) + 1, packed) is None
        assert raw_line(path, 0, packed) is None
    finally:
        rows._BLOCK = old
    assert (scan.rows, scan.lines, scan.bytes) == (len(expected), len(lines), len(data))


def test_another_quote(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"'a\nb';\"\nc\n")
    assert scan_csv(path, "'").rows == 2
    with pytest.raises(LoadRefused, match=r"a\.csv ends inside a quoted field"):
        scan_csv(path)


def test_refused_files(tmp_path: Path) -> None:
    with pytest.raises(LoadRefused, match=r"missing\.csv cannot be read"):
        scan_csv(tmp_path / "missing.csv")
    whole = gzip.compress(b"a\n" * 1000)
    for name, content in (("cut.gz", whole[:-9]), ("none.gz", b"plain"), ("bad.gz", whole[:12])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LoadRefused, match="not a whole gzip file"):
            scan_csv(tmp_path / name, gzip=True)
    (tmp_path / "hidden.csv").write_bytes(whole)
    with pytest.raises(LoadRefused, match="does not end in .gz"):
        scan_csv(tmp_path / "hidden.csv")


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * (3 << 20) + b"\nlast")
    assert len(raw_line(path, 1) or "") == rows.MAX_RAW_LINE
    assert raw_line(path, 2) == "last"


def test_format_options() -> None:
    assert FORMATS.get("csv") is CsvFormat
    with pytest.raises(UsageError, match="csw"):
        FORMATS.get("csw")
    assert (CsvFormat().header_rows, CsvFormat(header=True).header_rows) == (0, 1)
    wrong: list[dict[str, str]] = [
        {"delimiter": ""},
        {"delimiter": "||"},
        {"quote": "\n"},
        {"quote": "\u00e9"},
        {"quote": ","},
        {"null_as": "\0"},
    ]
    for options in wrong:
        with pytest.raises(UsageError):
            CsvFormat(**options)  # type: ignore[arg-type]  # only str options are listed
