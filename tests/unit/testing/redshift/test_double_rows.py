"""CSV rows against the types of their columns."""

from __future__ import annotations

import io

import pytest

from engine.testing.redshift import rows as rows_module
from engine.testing.redshift.copy_statement import parse_copy
from engine.testing.redshift.fields import TableColumn
from engine.testing.redshift.rows import RefusedRow, RowReader

HEAD = "copy t from 's3://bkt/m' iam_role default manifest csv "


def column(type_name: str, modifier: int = -1, not_null: bool = False) -> TableColumn:
    return TableColumn("c", type_name, modifier, not_null)


def read(
    text: str | bytes, columns: list[TableColumn], options: str = ""
) -> tuple[list[str], list[RefusedRow]]:
    reader = RowReader(parse_copy(HEAD + options), columns)
    raw = text if isinstance(text, bytes) else text.encode()
    good, bad = [], []
    for batch in reader.batches(io.BytesIO(raw)):
        good += [row.removesuffix("\n") for row in batch.rows]
        bad += batch.refused
    return good, bad


NUMERIC_5_2 = (5 << 16) + 2 + 4
GOOD = [
    ("int2", -1, "-32768", "-32768"),
    ("int4", -1, " 7 ", "7"),
    ("numeric", NUMERIC_5_2, "1.005", "1.01"),
    ("numeric", NUMERIC_5_2, "-999.99", "-999.99"),
    ("numeric", -1, "2.5", "3"),
    ("float8", -1, "1e-3", "1e-3"),
    ("bool", -1, "Yes", "t"),
    ("date", -1, "2024-02-29", "2024-02-29"),
    ("timestamp", -1, "2024-02-29 01:02:03.5", "2024-02-29 01:02:03.500000"),
    ("varchar", 9, "héy", "héy"),
    ("bpchar", 7, "abc", "abc"),
    ("int4", -1, "", "\\N"),
    ("varchar", 9, "", ""),
    ("varchar", 9, "\\N", "\\N"),
    ("varchar", 9, "a\\b", "a\\\\b"),
]
BAD = [
    ("int2", -1, "32768", 1222),
    ("int4", -1, "1_0", 1207),
    ("int4", -1, "٣", 1207),
    ("numeric", NUMERIC_5_2, "999.999", 1204),
    ("numeric", NUMERIC_5_2, "x", 1207),
    ("float8", -1, "x", 1208),
    ("bool", -1, "maybe", 1210),
    ("date", -1, "2024-1-1", 1205),
    ("date", -1, "2023-02-29", 1205),
    ("timestamp", -1, "2024-01-01T00:00:00", 1206),
    ("varchar", 9, "héllo", 1204),
    ("varchar", -1, "x" * 257, 1204),
    ("bpchar", 7, "é", 1220),
    ("bpchar", 7, "abcd", 1204),
]


@pytest.mark.parametrize(("type_name", "modifier", "text", "value"), GOOD)
def test_good_fields(type_name: str, modifier: int, text: str, value: str) -> None:
    assert read(f'"{text}"\n', [column(type_name, modifier)]) == ([value], [])


@pytest.mark.parametrize(("type_name", "modifier", "text", "code"), BAD)
def test_bad_fields(type_name: str, modifier: int, text: str, code: int) -> None:
    good, (bad,) = read(text + "\n", [column(type_name, modifier)])
    assert (good, bad.code, bad.line_number, bad.raw_line) == ([], code, 1, text)


def test_nulls() -> None:
    both = [column("varchar", 9), column("int4")]
    assert read("NA,NA\n,\n  ,\n", both, "null as 'NA'")[0] == ["\\N\t\\N", "\t\\N", "  \t\\N"]
    assert read(",\n  ,\n", both, "emptyasnull")[0] == ["\\N\t\\N", "  \t\\N"]
    assert read(",\n  ,\n", both, "blanksasnull")[0] == ["\t\\N", "\\N\t\\N"]
    (bad,) = read("1\n\n", [column("int4", not_null=True)])[1]
    assert (bad.code, bad.line_number) == (1213, 2)


def test_times() -> None:
    stamp, day = [column("timestamp")], [column("date")]
    assert read("2024-01-02T03:04:05Z\n", stamp, "timeformat 'auto'")[0] == ["2024-01-02 03:04:05"]
    assert read("1700000000\n", stamp, "timeformat 'epochsecs'")[0] == ["2023-11-14 22:13:20"]
    assert read("02/01/2024 03:04:05\n", stamp, "timeformat 'DD/MM/YYYY HH:MI:SS'")[0] == [
        "2024-01-02 03:04:05"
    ]
    assert read("02.01.2024\n", day, "dateformat 'DD.MM.YYYY'")[0] == ["2024-01-02"]


def test_line_numbers_are_physical_lines() -> None:
    text = 'h,h\r\n1,"two\r\nlines"\r\nx,y\r\n2,z,extra\r\n3\r\n4,ok\r\n'
    good, bad = read(text, [column("int4"), column("varchar", 14)], "ignoreheader 1")
    assert good == ["1\ttwo\\r\\nlines", "4\tok"]
    assert [(r.line_number, r.code) for r in bad] == [(4, 1207), (5, 1202), (6, 1214)]
    assert bad[0].reason == "Invalid digit, Value 'x', Pos 0, Type: Integer"
    assert bad[0].raw_line == "x,y"
    assert (bad[1].raw_value, bad[2].reason) == ("extra", "Delimiter not found")


def test_rows_over_the_edge_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BATCH_LINES", 2)
    text = '1,a\n2,"b\nb\nb\nb"\n3,c\nx,d\n5,e\n'
    good, (bad,) = read(text, [column("int4"), column("varchar", 14)])
    assert good == ["1\ta", "2\tb\\nb\\nb\\nb", "3\tc", "5\te"]
    assert bad.line_number == 7


def test_malformed_quotes_do_not_hide_the_other_rows() -> None:
    good, bad = read('1,a\n2,"b"x\n3,c\n4,"open\n5,e\n', [column("int4"), column("varchar", 14)])
    assert good == ["1\ta", "3\tc"]
    assert [(r.line_number, r.code) for r in bad] == [(2, 1216), (4, 1216)]


def test_bytes_that_are_not_utf8() -> None:
    (bad,) = read(b"ok\nb\xffd\n", [column("varchar", 9)])[1]
    assert (bad.code, bad.line_number) == (1220, 2)
    assert "ff" in bad.reason
    assert read(b"b\xffd\n", [column("varchar", 9)], "acceptinvchars as '^'")[0] == ["b^d"]


def test_truncatecolumns_cuts_between_characters() -> None:
    assert read("héé\n", [column("varchar", 8)], "truncatecolumns")[0] == ["hé"]


def test_other_quotes_and_delimiters() -> None:
    good, _ = read("1;`a;``b`\n", [column("int4"), column("text")], "quote '`' delimiter ';'")
    assert good == ["1\ta;`b"]
