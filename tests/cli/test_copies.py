"""``cp s3://... s3://...``: what goes where, under whose credentials, and what is said."""

from __future__ import annotations

import pytest

from engine.types import MiB
from tests.cli.conftest import ACCOUNT, EXTERNAL_ID, Cli

pytestmark = pytest.mark.slow


def test_objects_and_prefixes_go_to_where_files_and_trees_would(cli: Cli) -> None:
    for key in ("in/a", "in/deep/b c", "in/folder/", "other"):
        cli.aws.gate.put_object(cli.bucket, key, key.encode())
    runs = cli.run_each(
        ("cp", cli.url("in/a"), cli.url("named")),
        ("cp", cli.url("in/a"), cli.url("other"), cli.url("into/")),
        ("cp", cli.url("in/"), cli.url("tree/")),
        ("cp", "-r", cli.url("in"), cli.url("flag"), "--json"),
    )
    for done in runs:
        done.check(0)
    names = ("a", "deep/b c", "folder/")
    expected = {"named": b"in/a", "into/a": b"in/a", "into/other": b"other"}
    expected |= {f"{p}/{n}": f"in/{n}".encode() for p in ("tree", "flag") for n in names}
    copies = [key for key in cli.keys() if not key.startswith("in/") and key != "other"]
    assert {key: cli.aws.gate.get_object(cli.bucket, key) for key in copies} == expected
    assert cli.aws.gate.log.where(action="GetObject") == []
    events = runs[3].events()
    rows = [row for row in events if row["event"] == "object"]
    assert {(row["op"], row["status"]) for row in rows} == {("copy", "done")}
    assert {row["path"] for row in rows} == {cli.url(f"in/{name}") for name in names}
    assert {row["url"] for row in rows} == {cli.url(f"flag/{name}") for name in names}
    summary = events[-1]
    assert (summary["objects"], summary["verified"], summary["failed"]) == (3, 3, 0)


def test_a_prefix_is_not_copied_into_itself(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "in/a", b"bytes")
    done = cli.run("cp", cli.url("in/"), cli.url("in/copy/"))
    done.check_error(2, "U001")
    assert "lies inside of" in done.err
    assert cli.keys() == ["in/a"]


def test_two_roles_that_may_each_do_one_half(cli: Cli) -> None:
    """Refused without a word of how to go on it would be; never streamed without being asked."""
    user = f"arn:aws:iam::{ACCOUNT}:user/etl"
    writer = cli.role_with("writer", allow=[("s3:*", f"{cli.bucket}/out/*")])
    reader = cli.aws.gate.add_role(
        "222233334444", "reader", trust=[user], external_id=EXTERNAL_ID,
        allow=[("s3:Get*", f"{cli.bucket}/in/*"), ("s3:ListBucket", cli.bucket)],
    )  # fmt: skip
    for key, size in (("small", 10), ("big", 12 * MiB)):
        cli.aws.gate.put_object(cli.bucket, f"in/{key}", bytes(size))
    line = ("cp", cli.url("in/"), cli.url("out/"), "--role-arn", writer)
    denied = cli.run("cp", cli.url("in/small"), cli.url("out/x"), "--role-arn", writer)
    denied.check_error(3, "T111")
    assert "--through" in denied.err and "--source-role-arn" in denied.err
    assert cli.keys("out/") == []
    done = cli.run(*line, "--source-role-arn", reader, "--source-external-id", EXTERNAL_ID)
    done.check(0)
    assert "2 objects, 12.0 MiB" in done.err
    assert cli.keys("out/") == ["out/big", "out/small"]
    assert cli.aws.gate.get_object(cli.bucket, "out/big") == bytes(12 * MiB)


def test_one_object_that_fails_is_named_by_both_ends(cli: Cli) -> None:
    for key in ("in/a", "in/b"):
        cli.aws.gate.put_object(cli.bucket, key, b"bytes")
    cli.aws.gate.faults.add(
        kind="status", action="CopyObject", key="out/b", status=400, code="InvalidRequest"
    )
    done = cli.run("cp", cli.url("in/"), cli.url("out/"), "--store-profile", "ceph")
    done.check_error(1, "T110")
    assert f"failed {cli.url('in/b')} -> {cli.url('out/b')}" in done.err
    assert cli.keys("out/") == ["out/a"]


def test_another_profile_and_another_store_read_the_source(cli: Cli) -> None:
    """Of the environment's keys nothing is said at the source."""
    reader = cli.aws.gate.add_user(ACCOUNT, "reader", allow=[("s3:Get*", f"{cli.bucket}/in/*")])
    cli.aws.gate.put_object(cli.bucket, "in/key", b"bytes")
    config = cli.file(
        "config",
        f"[profile reader]\naws_access_key_id = {reader.access_key_id}\n"
        f"aws_secret_access_key = {reader.secret_access_key}\n".encode(),
    )
    other = cli.aws.endpoint.replace("127.0.0.1", "localhost")
    done = cli.run(
        "cp", cli.url("in/key"), cli.url("out/key"), "--source-profile", "reader",
        "--source-endpoint-url", other, env={"AWS_CONFIG_FILE": str(config)},
    )  # fmt: skip
    done.check(0)
    assert cli.aws.gate.get_object(cli.bucket, "out/key") == b"bytes"
    read, written = (cli.aws.gate.log.where(action=name)[0] for name in ("GetObject", "PutObject"))
    assert (read.principal.rpartition("/")[2], read.headers["host"]) == ("reader", other[7:])
    assert (written.principal.rpartition("/")[2], written.headers["host"]) == (
        "etl",
        cli.aws.endpoint[7:],
    )
