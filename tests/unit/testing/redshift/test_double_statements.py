"""Sorting and rewriting of statements, and the grammar of COPY."""

from __future__ import annotations

import re

import pytest

from engine.testing.redshift.copy_statement import parse_copy
from engine.testing.redshift.pgwire import ServerError
from engine.testing.redshift.statements import Role, understand

HEAD = "copy t from 's3://bkt/m'"
TAIL = "manifest csv"
KEYS = "access_key_id 'AKIAEXAMPLE' secret_access_key 'SeCrEt' session_token 'ToKeN'"


def shape(text: str) -> str:
    return re.sub(r"\s+", " ", understand(text).text).replace(" ,", ",").replace(" )", ")").strip()


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        (
            "create table t (a int encode zstd, b int distkey sortkey)",
            "create table t (a int, b int)",
        ),
        (
            "create table t (a int) diststyle key distkey(a) compound sortkey (a, b)",
            "create table t (a int)",
        ),
        ("create table t (a varchar(max)) sortkey auto", "create table t (a varchar(65535))"),
        (
            "create table t (a int primary key, b int unique)",
            "create table t (a int NOT NULL, b int)",
        ),
        (
            "create table t (a int, primary key (a), constraint u unique (a))",
            "create table t (a int, CHECK (true), constraint u CHECK (true))",
        ),
        ("create table t (a int references s.o (id))", "create table t (a int)"),
        ('create table "Big" (distkey int)', 'create table "big" (distkey int)'),
        ("set query_group to 'x'", "set redshift.query_group to 'x'"),
        ("select 'distkey(a)', \"Name\" from t", "select 'distkey(a)', \"name\" from t"),
    ],
)
def test_rewriting(text: str, rewritten: str) -> None:
    assert shape(text) == rewritten


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("/* x */ COMMIT", Role.COMMIT),
        ("end", Role.COMMIT),
        ("begin transaction", Role.BEGIN),
        ("rollback", Role.ROLLBACK),
        ("rollback to savepoint a", Role.REFUSED),
        ("savepoint a", Role.REFUSED),
        ("copy t from stdin", Role.REFUSED),
        (HEAD, Role.COPY),
        ("truncate t", Role.TRUNCATE),
        ("lock t", Role.PLAIN),
    ],
)
def test_roles(text: str, role: Role) -> None:
    assert understand(text).role is role


def test_a_whole_copy() -> None:
    copy = parse_copy(
        """COPY Public."T" (A, "b") FROM 's3://bkt/m''x' IAM_ROLE 'arn:1,arn:2' FORMAT AS CSV
        QUOTE AS '`' DELIMITER ';' GZIP IGNOREHEADER 1 NULL AS 'NA' EMPTYASNULL BLANKSASNULL
        MAXERROR AS 5 REGION 'eu-west-1' STATUPDATE OFF COMPUPDATE PRESET TIMEFORMAT 'auto'
        DATEFORMAT AS 'auto' TRUNCATECOLUMNS ACCEPTINVCHARS AS '^' NOLOAD MANIFEST"""
    )
    assert (copy.schema, copy.table, copy.columns) == ("public", "t", ("a", "b"))
    assert copy.source == "s3://bkt/m'x"
    assert (copy.role, copy.auth, copy.max_error) == ("arn:1,arn:2", "role", 5)
    assert (copy.quote, copy.delimiter, copy.accept_invalid) == ("`", ";", "^")
    assert copy.gzip and copy.manifest and copy.no_load and copy.truncate_columns


@pytest.mark.parametrize(
    "auth",
    [
        KEYS,
        KEYS.replace("session_token", "token"),
        "credentials 'aws_access_key_id=AKIAEXAMPLE;aws_secret_access_key=SeCrEt;token=ToKeN'",
        "with credentials as "
        "'aws_access_key_id=AKIAEXAMPLE;aws_secret_access_key=SeCrEt;token=ToKeN'",
    ],
)
def test_keys_are_read_and_hidden(auth: str) -> None:
    copy = parse_copy(f"{HEAD} {auth} {TAIL}")
    assert copy.keys is not None
    assert (copy.keys.access_key_id, copy.keys.session_token) == ("AKIAEXAMPLE", "ToKeN")
    for secret in ("SeCrEt", "ToKeN"):
        assert secret not in copy.public_text
        assert secret not in repr(copy)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (TAIL, "exactly one of"),
        (f"iam_role default {KEYS} {TAIL}", "exactly one of"),
        (f"iam_role default iam_role default {TAIL}", "twice"),
        (f"access_key_id 'x' {TAIL}", "belong together"),
        ("iam_role default csv", "MANIFEST"),
        ("iam_role default manifest", "CSV"),
        (f"iam_role default {TAIL} parquet", 'option "parquet" is not known or not built'),
        ("iam_role default manifest format as json 'auto'", "json is not built"),
        (f"iam_role default {TAIL} maxerror 100001", "MAXERROR"),
        (f"iam_role default {TAIL} delimiter ',,'", "one character"),
        (f"iam_role default {TAIL} gzip gzip", "redundant"),
        (f"iam_role default {TAIL} 'stray secret'", "at or near \"'***'\""),
        ("iam_role", "end of input"),
    ],
)
def test_refusals(rest: str, message: str) -> None:
    with pytest.raises(ServerError, match=re.escape(message)):
        parse_copy(f"{HEAD} {rest}")


def test_a_backslash_cannot_close_the_literal() -> None:
    copy = parse_copy(
        r"copy t from 's3://bkt/back\\'' iam_role evil' iam_role default manifest csv"
    )
    assert copy.source == r"s3://bkt/back\' iam_role evil"
    assert copy.role == "default"
