"""Redshift's system tables and functions, made in PostgreSQL's pg_catalog.

What lives here: their definitions and the statements that fill them. What must not: when they are
filled (``copy.py``). They are filled by a connection of the double itself that commits every row,
because a client's ROLLBACK does not empty Redshift's system tables.

char(n) columns stay blank-padded, as they are in Redshift. Unlike real STL tables these can be
read at once, are not limited to the user's own rows, and never expire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from engine.testing.redshift.rows import RefusedRow
from engine.testing.redshift.sql import quote_literal

SETTING_ID = "redshift.last_copy_id"
SETTING_COUNT = "redshift.last_copy_count"

_USER_ID = 100  # the first id of a user who is not the cluster's own

SCHEMA = f"""
CREATE TABLE pg_catalog.stl_load_errors (
  userid int, slice int, tbl int, starttime timestamp, session int, query int,
  filename char(256), line_number bigint, colname char(127), type char(10), col_length char(10),
  position int, raw_line char(1024), raw_field_value char(1024), err_code int,
  err_reason char(100), is_partial int, start_offset bigint);
CREATE TABLE pg_catalog.stl_load_commits (
  userid int, query int, slice int, name char(256), filename char(256), byte_offset int,
  lines_scanned int, errors int, curtime timestamp, status int, file_format char(16),
  is_partial int, start_offset bigint);
CREATE TABLE pg_catalog.sys_load_history (
  user_id int, query_id bigint, transaction_id bigint, session_id int, database_name text,
  status text, table_name text, start_time timestamp, end_time timestamp, duration bigint,
  data_source text, file_format text, loaded_rows bigint, loaded_bytes bigint,
  source_file_count int, source_file_bytes bigint, file_count_scanned int,
  file_bytes_scanned bigint, error_count bigint, error_message text);
CREATE TABLE pg_catalog.sys_load_detail (
  user_id int, query_id bigint, file_name varchar(256), bytes_scanned bigint,
  lines_scanned bigint, record_time timestamp, splits_scanned int, start_time timestamp,
  end_time timestamp);
CREATE VIEW pg_catalog.sys_load_error_detail AS SELECT
  userid AS user_id, query::bigint AS query_id, 0::bigint AS transaction_id,
  session AS session_id, current_database()::varchar AS database_name, tbl AS table_id,
  starttime AS start_time, trim(filename)::varchar AS file_name, line_number,
  trim(colname)::varchar AS column_name, trim(type)::varchar AS column_type,
  trim(col_length)::varchar AS column_length, position, err_code AS error_code,
  trim(err_reason)::varchar AS error_message FROM pg_catalog.stl_load_errors;
CREATE TABLE pg_catalog.stv_slices (node int, slice int, localslice int, type char(1));
CREATE FUNCTION pg_catalog.pg_last_copy_id() RETURNS int LANGUAGE sql STABLE AS
  $$SELECT coalesce(nullif(current_setting('{SETTING_ID}', true), ''), '-1')::int$$;
CREATE FUNCTION pg_catalog.pg_last_copy_count() RETURNS bigint LANGUAGE sql STABLE AS
  $$SELECT coalesce(nullif(current_setting('{SETTING_COUNT}', true), ''), '0')::bigint$$;
CREATE FUNCTION pg_catalog.getdate() RETURNS timestamp LANGUAGE sql STABLE AS
  $$SELECT date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC')::timestamp$$;
GRANT SELECT ON pg_catalog.stl_load_errors, pg_catalog.stl_load_commits,
  pg_catalog.sys_load_history, pg_catalog.sys_load_detail, pg_catalog.sys_load_error_detail,
  pg_catalog.stv_slices TO PUBLIC
"""

# PostgreSQL takes neither NUL nor half characters into a text.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What COPY did with one file. ``size`` is in bytes as stored; lines are physical lines."""

    url: str
    size: int
    lines: int
    refused: int
    slice: int


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """One COPY for the history tables."""

    query: int
    session: int
    table: str
    table_oid: int
    source: str
    database: str
    started: datetime
    ended: datetime


def fill_slices(count: int) -> str:
    """SQL that makes stv_slices show ``count`` slices, two to a node."""
    return (
        "TRUNCATE pg_catalog.stv_slices; INSERT INTO pg_catalog.stv_slices "
        f"SELECT n / 2, n, n % 2, 'D' FROM generate_series(0, {count - 1}) AS n"
    )


def set_last_copy(query: int, count: int | None) -> str:
    """SQL that sets what pg_last_copy_id and, unless None, pg_last_copy_count answer.

    Run inside a transaction it is undone by ROLLBACK, as Redshift does for a good COPY.
    """
    sql = f"SELECT set_config('{SETTING_ID}', '{query}', false)"
    return sql if count is None else f"{sql}, set_config('{SETTING_COUNT}', '{count}', false)"


def refusals(facts: LoadFacts, rows: Iterable[tuple[str, int, RefusedRow]], limit: int) -> str:
    """SQL for stl_load_errors; ``rows`` are (file, slice, row), cut at ``limit``."""
    values = []
    for url, slice_number, row in list(rows)[:limit]:
        column = row.column
        values.append(
            _row(
                _USER_ID, slice_number, facts.table_oid, facts.started, facts.session, facts.query,
                url[:256], row.line_number, column.name if column else "",
                column.type_name.replace("bpchar", "char")[:10] if column else "",
                column.length[:10] if column else "", row.position, row.raw_line, row.raw_value,
                row.code, row.reason[:100], 0, 0,
            )
        )  # fmt: skip
    return f"INSERT INTO pg_catalog.stl_load_errors VALUES {', '.join(values)}" if values else ""


def commits(facts: LoadFacts, files: Iterable[LoadedFile]) -> str:
    """SQL for stl_load_commits and sys_load_detail, a row for each file."""
    stl, detail = [], []
    for file in files:
        stl.append(
            _row(
                _USER_ID, facts.query, file.slice, "", file.url[:256], 0, file.lines, file.refused,
                facts.ended, 1, "Delimited", 0, 0,
            )
        )  # fmt: skip
        detail.append(
            _row(
                _USER_ID, facts.query, file.url[:256], file.size, file.lines, facts.ended, 0,
                facts.started, facts.ended,
            )
        )  # fmt: skip
    if not stl:
        return ""
    return (
        f"INSERT INTO pg_catalog.stl_load_commits VALUES {', '.join(stl)}; "
        f"INSERT INTO pg_catalog.sys_load_detail VALUES {', '.join(detail)}"
    )


def history(
    facts: LoadFacts,
    status: str,
    rows: int,
    files: list[LoadedFile],
    refused: int,
    error: str = "",
) -> str:
    """SQL for sys_load_history; ``status`` is completed, aborted or canceled."""
    size = sum(file.size for file in files)
    duration = int((facts.ended - facts.started).total_seconds() * 1_000_000)
    values = _row(
        _USER_ID, facts.query, 0, facts.session, facts.database, status, facts.table,
        facts.started, facts.ended, duration, facts.source, "CSV", rows, size, len(files), size,
        len(files), size, refused, error,
    )  # fmt: skip
    return f"INSERT INTO pg_catalog.sys_load_history VALUES {values}"


def _row(*values: object) -> str:
    return f"({', '.join(_literal(value) for value in values)})"


def _literal(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None).isoformat(" ")
    return quote_literal(_UNSTORABLE.sub("?", str(value)))
