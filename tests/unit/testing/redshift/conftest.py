"""One PostgreSQL for all tests of the Redshift double; one database for each."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from engine.testing.aws import AwsDouble
from engine.testing.redshift import COPY_ROLE, PostgresServer, RedshiftDouble, start_for_tests

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@dataclass(frozen=True)
class Stage:
    """Puts files and manifests into the bucket ``bkt`` and writes COPY statements."""

    aws: AwsDouble

    def put(self, key: str, body: bytes) -> str:
        answer = self.aws.request("PUT", f"/bkt/{key}", body)
        assert answer.status == 200, answer
        return f"s3://bkt/{key}"

    def manifest(self, *urls: str, sizes: Mapping[str, int] | None = None, **extra: object) -> str:
        entries = []
        for url in urls:
            entry: dict[str, object] = {"url": url, "mandatory": True, **extra}
            if sizes and url in sizes:
                entry["meta"] = {"content_length": sizes[url]}
            entries.append(entry)
        return self.put("manifest", json.dumps({"entries": entries}).encode())

    def copy(self, text: str | bytes, options: str = "", *, table: str = "t") -> str:
        """Stage one file; the COPY that loads it."""
        body = text.encode() if isinstance(text, str) else text
        url = self.put("file", gzip.compress(body) if "gzip" in options else body)
        return self.statement(self.manifest(url), options, table=table)

    def statement(self, manifest: str, options: str = "", *, table: str = "t") -> str:
        return f"COPY {table} FROM '{manifest}' IAM_ROLE '{COPY_ROLE}' MANIFEST CSV {options}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def redshift(aws: AwsDouble, postgres: PostgresServer) -> Iterator[RedshiftDouble]:
    with start_for_tests(aws, server=postgres) as double:
        yield double


@pytest.fixture
def stage(aws: AwsDouble) -> Stage:
    return Stage(aws)


@pytest.fixture
async def db(redshift: RedshiftDouble) -> AsyncIterator[Connection]:
    """A session, with the table ``t (id int not null, name varchar(5))``."""
    connection: Connection = await asyncpg.connect(redshift.dsn, statement_cache_size=0)
    await connection.execute("create table t (id int not null, name varchar(5))")
    yield connection
    connection.terminate()
