"""``s3engine doctor`` for a role that only reads: nothing is asked that could change the bucket."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_doctor import BUCKET, URL, check_screen, in_region, one

pytestmark = pytest.mark.slow


def reader(cli: Cli, *flags: object, **role: object) -> list[object]:
    """The line of a doctor for a role that may list and read only."""
    may: dict[str, object] = {"allow": (("s3:GetObject", "*"), ("s3:ListBucket", "*"))}
    return one(cli, "--read-only", *flags, **(may | role))


def only_reads(cli: Cli) -> bool:
    """Whether nothing else was asked of S3."""
    asked = cli.aws.gate.log.where(service="s3")
    return {entry.method for entry in asked} <= {"GET"}


def test_a_reader_is_examined_without_a_write(cli: Cli) -> None:
    line = reader(cli)
    for key, size in (("in/", 0), ("in/a", 0), ("in/b", 5000), ("in/c", 10), ("0", 7)):
        cli.aws.gate.put_object(BUCKET, key, bytes(size))
    check_screen("read_only", cli.run(*line))
    assert only_reads(cli)
    (get,) = cli.aws.gate.log.where(action="GetObject")
    assert (get.key, get.headers["range"]) == ("in/b", "bytes=0-1023")


def test_an_object_that_is_smaller_is_read_whole_and_none_is_told(cli: Cli) -> None:
    line = reader(cli)
    none = cli.run(*line).check(0)
    assert f"read        not checked: no object below {URL}, so nothing to read" in none.out
    cli.aws.gate.put_object(BUCKET, "in/empty", b"")
    empty = cli.run(*line).check(0)
    assert f"read        not checked: only empty objects below {URL}" in empty.out
    cli.aws.gate.put_object(BUCKET, "in/small", b"abc")
    assert "3 of 3 B of s3://acme-stage/in/small" in cli.run(*line).check(0).out
    assert only_reads(cli)


def test_a_reader_that_may_not_read_gets_the_policy_of_a_reader(cli: Cli) -> None:
    line = reader(cli, allow=[("s3:ListBucket", "*")])
    cli.aws.gate.put_object(BUCKET, "in/b", b"abc")
    check_screen("read_only_denied", cli.run(*line))
    assert only_reads(cli)


def test_a_reader_that_may_not_list_has_no_key_to_read(cli: Cli) -> None:
    line = reader(cli, allow=[("s3:GetObject", "*")])
    done = cli.run(*line, "--json").check(3)
    checks = {row["check"]: row for row in done.events() if row["event"] == "check"}
    assert (checks["list"]["status"], checks["list"]["missing"]) == ("failed", ["s3:ListBucket"])
    assert checks["read"]["status"] == "skipped" and "no key" in checks["read"]["text"]
    assert only_reads(cli)


def test_an_archived_object_is_no_failure(cli: Cli) -> None:
    line = reader(cli)
    cli.aws.gate.put_object(BUCKET, "in/b", b"abc")
    cli.aws.gate.faults.add(
        kind="status", action="GetObject", status=403, code="InvalidObjectState", times=None
    )
    assert "is archived: it has to be restored first" in cli.run(*line).check(0).out


def test_reading_a_bucket_of_another_region_is_told(cli: Cli) -> None:
    line = reader(cli)
    with in_region(cli.aws, "eu-central-1") as elsewhere:
        done = cli.run(*line, "--endpoint-url", elsewhere.endpoint).check(1)
    assert f"{BUCKET} is in eu-central-1, you asked for us-east-1" in done.out
