"""``cp`` with what objects are stored and read with, as users type it."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from engine.cli.object_options import options_of_all
from engine.errors import UsageError
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def head(cli: Cli, key: str) -> dict[str, str]:
    answer = cli.aws.request("HEAD", f"/{cli.bucket}/{key}")
    return {name.lower(): value for name, value in answer.headers.items()}


def test_every_flag_arrives(cli: Cli) -> None:
    """By a flag, or by its variable; the type by the name where nothing else is said."""
    for name in ("a.csv", "b.html", "c.csv", "d.csv.gz"):
        os.utime(cli.file(name), ns=(0, 1_354_040_105_500_000_000))
    full, guessed, plain, packed = cli.run_each(
        ("cp", "a.csv", cli.url("a"), "--storage-class", "STANDARD_IA", "--content-type", "x/y",
         "--cache-control", "no-store", "--content-disposition", "inline",
         "--content-encoding", "gzip", "--content-language", "de", "--metadata", "k=v=w",
         "--metadata", "empty=", "--tag", "team=data", "--sse", "aws:kms", "--sse-kms-key-id", "K",
         "--sse-kms-context", "job=7", "--no-bucket-key", "--expected-bucket-owner",
         "111122223333", "--request-payer", "--if-none-match", "--preserve-mtime"),
        ("cp", "b.html", cli.url("b"), "--sse", "AES256"),
        ("cp", "c.csv", cli.url("c"), "--no-guess-mime-type"),
        ("cp", "d.csv.gz", cli.url("d")),
    )  # fmt: skip
    for done in (full, guessed, plain, packed):
        done.check(0)
    found = head(cli, "a")
    assert {name: found.get(name) for name in (
        "x-amz-storage-class", "content-type", "cache-control", "content-disposition",
        "content-encoding", "content-language", "x-amz-meta-k", "x-amz-meta-empty",
        "x-amz-meta-mtime", "x-amz-server-side-encryption", "x-amz-tagging-count",
    )} == {
        "x-amz-storage-class": "STANDARD_IA", "content-type": "x/y", "cache-control": "no-store",
        "content-disposition": "inline", "content-encoding": "gzip", "content-language": "de",
        "x-amz-meta-k": "v=w", "x-amz-meta-empty": "", "x-amz-meta-mtime": "1354040105.500000000",
        "x-amz-server-side-encryption": "aws:kms", "x-amz-tagging-count": "1",
    }  # fmt: skip
    assert head(cli, "b")["content-type"] == "text/html"
    assert head(cli, "b")["x-amz-server-side-encryption"] == "AES256"
    assert head(cli, "c")["content-type"] == "binary/octet-stream"
    assert head(cli, "d")["content-type"] == "application/gzip"
    down = cli.run("cp", cli.url("a"), "back", env={"S3ENGINE_PRESERVE_MTIME": "1"}).check(0)
    assert "1 objects" in down.err
    assert (cli.home / "back").stat().st_mtime_ns == 1_354_040_105_500_000_000


def test_what_is_there_is_left_alone_in_both_directions(cli: Cli) -> None:
    """--no-overwrite skips and is content, --if-none-match fails."""
    for name in ("t/a", "t/b", "down/a"):
        cli.file(name, b"mine")
    cli.aws.gate.put_object(cli.bucket, "t/a", b"theirs")
    up, failed, named = cli.run_each(
        ("cp", "t/", cli.url("t/"), "--no-overwrite"),
        ("cp", "t/a", cli.url("t/a"), "--if-none-match"),
        ("cp", "t/a", cli.url("t/a"), "--no-overwrite", "--json"),
    )
    assert "1 objects" in up.check(0).err and "skipped 1, failed 0" in up.err
    failed.check_error(1, "T114")
    rows = named.check(0).events()
    assert [row["status"] for row in rows if row["event"] == "object"] == ["skipped"]
    assert (rows[-1]["skipped"], rows[-1]["failed"]) == (1, 0)
    down = cli.run("cp", cli.url("t/"), "down/", "--no-overwrite").check(0)
    assert "skipped 1, failed 0" in down.err
    assert cli.aws.gate.get_object(cli.bucket, "t/a") == b"theirs"
    assert (cli.home / "down/a").read_bytes() == b"mine"
    assert (cli.home / "down/b").read_bytes() == b"mine"


def test_encrypted_archived_and_old_objects(cli: Cli) -> None:
    """Each is named with what to do, and fetched where that was done."""
    cli.file("x", b"bytes")
    document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    cli.aws.request("PUT", f"/{cli.bucket}?versioning=", document)
    marked, cold, _ = cli.run_each(
        ("cp", "x", cli.url("t/secret"), "--metadata", "x-amz-key-v2=abc"),
        ("cp", "x", cli.url("t/cold"), "--storage-class", "DEEP_ARCHIVE"),
        ("cp", "x", cli.url("t/x")),
    )
    assert (marked.code, cold.code) == (0, 0)
    version = head(cli, "t/x")["x-amz-version-id"]
    etag = head(cli, "t/x")["etag"].strip('"')
    cli.aws.gate.put_object(cli.bucket, "t/x", b"newer")
    tree, raw, old, stale = cli.run_each(
        ("cp", cli.url("t/"), "out/"),
        ("cp", cli.url("t/secret"), "raw", "--raw-encrypted"),
        ("cp", cli.url("t/x"), "old", "--version-id", version),
        ("cp", "x", cli.url("t/x"), "--if-match", etag),
    )
    tree.check(1)
    assert "error[T133]" in tree.err and "--raw-encrypted" in tree.err
    assert "error[T115]" in tree.err and "DEEP_ARCHIVE" in tree.err and "Restore it" in tree.err
    assert os.listdir(cli.home / "out") == ["x"]
    raw.check(0)
    old.check(0)
    assert (cli.home / "raw").read_bytes() == (cli.home / "old").read_bytes() == b"bytes"
    stale.check_error(1, "T113")
    assert cli.aws.gate.get_object(cli.bucket, "t/x") == b"newer"


def test_what_does_not_go_together_is_refused(cli: Cli) -> None:
    """Exit 2, before anything is sent; nothing of a key's file is shown."""
    cli.file("t/a")
    cli.file("key", b"0123456789abcdef" * 2)
    cli.file("short", b"0123456789abcdef")
    cases = {
        ("--metadata", "novalue"): "not metadata: 'novalue'",
        ("--tag", "a=1", "--tag", "a=2"): "a tag is given twice",
        ("--sse-kms-key-id", "K"): "without --sse",
        ("--sse", "AES256", "--sse-kms-key-id", "K"): "goes with aws:kms only",
        ("--sse", "AES256", "--sse-c-key-file", "key"): "not both",
        ("--sse-c-key-file", "key"): "not https",
        ("--sse-c-key-file", "short"): "short holds no customer key",
        ("--if-match", "x"): "names one object",
        ("--version-id", "x"): "names one object",
        ("--expected-bucket-owner", "me"): "not an account id",
    }
    lines = [("cp", "t/", cli.url("t/"), *flags) for flags in cases]
    for text, done in zip(cases.values(), cli.run_each(*lines), strict=True):
        done.check_error(2, "U001")
        assert text in done.err
        assert "0123456789" not in done.text
    assert cli.aws.gate.log.entries() == []


def test_a_key_is_read_raw_and_as_base64(tmp_path: Path) -> None:
    key = os.urandom(32)
    for data in (key, base64.b64encode(key), base64.b64encode(key) + b"\n"):
        (tmp_path / "key").write_bytes(data)
        made = options_of_all({"sse_c_key_file": tmp_path / "key"}).customer_key
        assert made is not None and made.key == key
    for data in (b"", key[:31], base64.b64encode(key[:31]), b"x" * 44, base64.b64encode(key) * 2):
        (tmp_path / "key").write_bytes(data)
        with pytest.raises(UsageError, match="holds no customer key"):
            options_of_all({"sse_c_key_file": tmp_path / "key"})


def test_owner_and_payer_go_along_with_every_command(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "x", b"bytes")
    other = ("--expected-bucket-owner", "999999999999")
    for done in cli.run_each(("ls", cli.url(""), *other), ("rm", cli.url("x"), *other)):
        done.check_error(3, "T111")
    for done in cli.run_each(
        ("ls", cli.url(""), "--request-payer"), ("rm", cli.url("x"), "--request-payer")
    ):
        done.check(0)
    paid = [entry for entry in cli.aws.gate.log.entries() if entry.status == 200]
    assert {entry.headers.get("x-amz-request-payer") for entry in paid} == {"requester"}
    assert cli.keys() == []


def test_help_is_in_groups(cli: Cli) -> None:
    text = cli.run("cp", "--help").check(0).out
    for group in ("What uploads are stored with:", "Encryption at rest:", "The bucket:"):
        assert text.count(group) == 1
