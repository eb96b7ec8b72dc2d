"""COPY text: quoting that no key can close, refusals, and secrets that never show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LoadRefused
from engine.redshift.copy_statement import (
    CopyKeys,
    CopyOptions,
    CopyRole,
    CopyStatement,
    identifier,
    literal,
    table_name,
)
from engine.redshift.formats.csv import CsvFormat
from engine.types import Credentials, S3Url

ARN = "arn:aws:iam::111122223333:role/copy"
MANIFEST = S3Url("stage-bucket", "load/x/manifest.json")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEBYaDEXAMPLETOKEN=="
KEYS = Credentials("ASIAIOSFODNN7EXAMPLE", SECRET, TOKEN)

# Redshift's lexical rule: a backslash escapes, a doubled quote is a quote.
_ONE_LITERAL = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)


def unquote(text: str) -> str:
    assert _ONE_LITERAL.fullmatch(text)
    return re.sub(r"''|\\(.)", lambda found: found[1] or "'", text[1:-1], flags=re.DOTALL)


def test_role_statement() -> None:
    sql = CopyStatement(
        "public.orders",
        MANIFEST,
        CopyRole((ARN, "arn:aws:iam::999988887777:role/path/other")),
        columns=("id", 'a"b'),
        format=CsvFormat(delimiter="|", header=True, null_as="\\N"),
        gzip=True,
        options=CopyOptions(
            max_errors=5, region="eu-west-1", timeformat="auto", statupdate=False, compupdate="OFF"
        ),
    ).build()
    assert sql.text == sql.public
    assert sql.text.splitlines() == [
        'COPY "public"."orders" ("id", "a""b")',
        "FROM 's3://stage-bucket/load/x/manifest.json'",
        f"IAM_ROLE '{ARN},arn:aws:iam::999988887777:role/path/other'",
        "MANIFEST",
        "FORMAT AS CSV",
        "QUOTE AS '\"'",
        "DELIMITER '|'",
        "NULL AS '\\\\N'",
        "IGNOREHEADER 1",
        "GZIP",
        "REGION 'eu-west-1'",
        "TIMEFORMAT 'auto'",
        "MAXERROR 5",
        "COMPUPDATE OFF",
        "STATUPDATE OFF",
    ]


def test_keys_never_show() -> None:
    statement = CopyStatement("t", MANIFEST, CopyKeys(KEYS), CsvFormat())
    sql = statement.build()
    assert f"SECRET_ACCESS_KEY '{SECRET}' SESSION_TOKEN '{TOKEN}'" in sql.text
    for shown in (repr(statement), str(statement), repr(sql), str(sql), f"{sql}", sql.public):
        assert SECRET not in shown and TOKEN not in shown
    assert "ACCESS_KEY_ID 'ASIA***LE' SECRET_ACCESS_KEY '***' SESSION_TOKEN '***'" in sql.public


def test_default_role_and_parse() -> None:
    assert (
        "IAM_ROLE default\n"
        in CopyStatement("t", MANIFEST, CopyRole("default"), CsvFormat()).build().text
    )
    assert CopyRole.parse(" DEFAULT ").arns == "default"
    assert CopyRole.parse(f"{ARN}, {ARN}2").arns == (ARN, ARN + "2")


@pytest.mark.parametrize(
    "keys",
    [
        Credentials("ASIAIOSFODNN7EXAMPLE", SECRET),
        Credentials("AKIA' --", SECRET),
        Credentials("AKIAIOSFODNN7EXAMPLE", SECRET + "'"),
        Credentials("AKIAIOSFODNN7EXAMPLE", SECRET, TOKEN + "\\"),
    ],
)
def test_unusable_keys_are_refused_without_quoting_them(keys: Credentials) -> None:
    with pytest.raises(LoadRefused) as caught:
        CopyKeys(keys)
    assert SECRET not in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "arn", ["", "x", ARN + "'", ARN + ",b", "arn:aws:iam::1:role/x", ARN + "\n"]
)
def test_unusable_arns(arn: str) -> None:
    with pytest.raises(LoadRefused):
        CopyRole((arn,))
    with pytest.raises(LoadRefused):
        CopyRole(())


@pytest.mark.parametrize("name", ["", "a" * 128, "\u00e9" * 64, "a\0b", "\ud800"])
def test_unusable_names(name: str) -> None:
    with pytest.raises(LoadRefused):
        identifier(name)


@pytest.mark.parametrize("table", ["", ".", "a.", "a.b.c"])
def test_unusable_tables(table: str) -> None:
    with pytest.raises(LoadRefused):
        table_name(table)


@pytest.mark.parametrize(
    "options",
    [
        {"max_errors": -1},
        {"max_errors": 100_001},
        {"region": "eu-west-1' --"},
        {"compupdate": "MAYBE"},
        {"acceptinvchars": "ab"},
    ],
)
def test_unusable_options(options: dict[str, object]) -> None:
    with pytest.raises(LoadRefused):
        CopyOptions(**options)  # type: ignore[arg-type]  # what a configuration file may hold


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_NASTY = st.text(st.sampled_from("'\\\"; -/*$\n"), max_size=20)


@given(_TEXT | _NASTY)
def test_a_literal_is_one_literal(text: str) -> None:
    assert unquote(literal(text)) == text


@given((_TEXT | _NASTY).filter(lambda text: 1 <= len(text.encode()) <= 127))
def test_an_identifier_is_one_identifier(name: str) -> None:
    quoted = identifier(name)
    assert re.fullmatch(r'"(?:[^"]|"")*"', quoted, re.DOTALL)
    assert quoted[1:-1].replace('""', '"') == name


@given(st.one_of(_TEXT, _NASTY).filter(bool))
def test_no_key_closes_the_literal(key: str) -> None:
    url = S3Url("stage-bucket", key)
    sql = CopyStatement("t", url, CopyRole("default"), CsvFormat()).build()
    start = sql.text.index("FROM ") + len("FROM ")
    found = _ONE_LITERAL.match(sql.text, start)
    assert found is not None
    assert unquote(found[0]) == str(url)
    assert sql.text[found.end() :].startswith("\nIAM_ROLE default\nMANIFEST\n")


@given(_NASTY.filter(lambda text: 0 < len(text)), st.sampled_from("|;'\\\t"))
def test_the_double_reads_what_was_meant(text: str, delimiter: str) -> None:
    double = pytest.importorskip("engine.testing.redshift.copy_statement")
    statement = CopyStatement(
        "public.t",
        S3Url("stage-bucket", text),
        CopyKeys(KEYS),
        columns=("id",),
        format=CsvFormat(delimiter=delimiter, null_as=text.replace("\n", "")),
    )
    read = double.parse_copy(statement.build().text)
    assert (read.schema, read.table, read.columns) == ("public", "t", ("id",))
    assert read.source == f"s3://stage-bucket/{text}"
    assert (read.delimiter, read.null_as) == (delimiter, text.replace("\n", ""))
    assert read.keys == KEYS
