"""``cp``: what goes where, what is refused before a request, what programs read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.types import MiB
from tests.cli.conftest import Cli, program

pytestmark = pytest.mark.slow


def test_a_file_goes_up_and_comes_back(cli: Cli) -> None:
    """To a name of its own, into a prefix, and back to a name or into a folder."""
    data = os.urandom(50_000)
    cli.file("day.csv", data)
    (cli.home / "there").mkdir()
    up = cli.run_each(
        ("cp", "day.csv", cli.url("named")),
        ("cp", "day.csv", f"s3://{cli.bucket}"),
    )
    for done in up:
        done.check(0)
        assert done.out == ""
        assert "1 objects, 48.8 KiB" in done.err
        assert "failed 0" in done.err
    assert cli.keys() == ["day.csv", "named"]
    down = cli.run_each(
        ("cp", cli.url("named"), "again.csv"),
        ("cp", cli.url("day.csv"), "there"),
    )
    for done in down:
        done.check(0)
    for name in ("again.csv", "there/day.csv"):
        assert (cli.home / name).read_bytes() == data


def test_a_tree_goes_up_and_comes_back(cli: Cli) -> None:
    """By a trailing slash or by -r; both mean the same."""
    names = ["a", "deep/er/b", "deep/with space"]
    for name in names:
        cli.file(f"tree/{name}", name.encode())
    up = cli.run_each(("cp", "tree/", cli.url("slash/")), ("cp", "-r", "tree", cli.url("flag")))
    assert [done.check(0).code for done in up] == [0, 0]
    assert cli.keys() == [f"{prefix}/{name}" for prefix in ("flag", "slash") for name in names]
    down = cli.run_each(
        ("cp", cli.url("slash/"), "one/"), ("cp", "--recursive", cli.url("flag"), "two")
    )
    assert [done.check(0).code for done in down] == [0, 0]
    for folder in (cli.home / "one", cli.home / "two"):
        found = [path for path in folder.rglob("*") if path.is_file()]
        assert {str(path.relative_to(folder)) for path in found} == set(names)
        assert all(path.read_text() == str(path.relative_to(folder)) for path in found)


def test_several_sources_and_patterns_go_into_a_prefix(cli: Cli) -> None:
    """A quoted pattern is expanded by the program; a name that exists is taken as it is."""
    for name in ("a.csv", "b.csv", "c.txt", "sub/d.csv", "odd[1].csv"):
        cli.file(name, name.encode())
    runs = cli.run_each(
        ("cp", "a.csv", "c.txt", "odd[1].csv", cli.url("several")),
        ("cp", "?.csv", cli.url("pattern/")),
        ("cp", "**/*.csv", cli.url("deep/")),
    )
    assert [done.check(0).code for done in runs] == [0, 0, 0]
    assert cli.keys("several") == [f"several/{n}" for n in ("a.csv", "c.txt", "odd[1].csv")]
    assert cli.keys("pattern") == ["pattern/a.csv", "pattern/b.csv"]
    assert cli.keys("deep") == [f"deep/{n}" for n in ("a.csv", "b.csv", "d.csv", "odd[1].csv")]
    down = cli.run("cp", cli.url("several/a.csv"), cli.url("deep/odd[1].csv"), "got").check(0)
    assert "2 objects" in down.err
    assert sorted(os.listdir(cli.home / "got")) == ["a.csv", "odd[1].csv"]


def test_what_does_not_fit_is_refused_before_any_request(cli: Cli) -> None:
    """Exit 2, the reason and the name in the text, nothing sent, nothing written."""
    for name in ("f/x", "g/x", "plain"):
        cli.file(name)
    cases = {
        ("f", cli.url("p/")): "f is a folder",
        ("f/x", "missing", cli.url("p/")): "no such file: missing",
        ("*.none", cli.url("p/")): "nothing matches *.none",
        ("f/x", "g/x", cli.url("p/")): f"two sources would both become {cli.url('p/x')}",
        (cli.url("p/x"), cli.url("q/x"), "to/"): "two sources would both become to/x",
        ("f/x", cli.url("a"), cli.url("b")): "some sources are at S3 and some are not",
        (cli.url("p/x"), cli.url("q/x"), cli.url("to/")): "two sources would both become",
        ("f/x", cli.url("b"), "--through"): "--through is for copies from S3 to S3",
        (cli.url("p/"), "plain"): "plain is a file; a tree needs a folder",
        ("f/x", "g/x"): "neither f/x nor g/x is an S3 URL",
        ("f/x", "s3://X"): "not a bucket name: 'X'",
        (cli.url("p/.."), "to/"): "has no name for a file",
    }
    for (line, text), done in zip(
        cases.items(), cli.run_each(*(("cp", *line) for line in cases)), strict=True
    ):
        done.check_error(2, "U001")
        assert text in done.err, (line, done.err)
        assert done.out == ""
    assert cli.aws.gate.log.entries() == []
    assert not (cli.home / "to").exists()


def test_what_stands_in_the_way_is_left_as_it_was(cli: Cli) -> None:
    """The name of a download is a file where a folder would be needed."""
    cli.aws.gate.put_object(cli.bucket, "p/x", b"new")
    cli.file("plain", b"old")
    done = cli.run("cp", cli.url("p/x"), "plain/x")
    done.check_error(1, "T100")
    assert "plain" in done.err
    assert (cli.home / "plain").read_bytes() == b"old"


def test_json_is_one_versioned_event_a_line(cli: Cli) -> None:
    """stdout holds nothing else, stderr nothing at all while all goes well."""
    cli.file("t/a", b"12345")
    cli.file("t/b", b"")
    done = cli.run("cp", "t/", cli.url("t/"), "--json").check(0)
    assert done.err == ""
    rows = done.events()
    assert {row["v"] for row in rows} == {1}
    assert len({row["run"] for row in rows}) == 1
    objects = [row for row in rows if row["event"] == "object"]
    assert {(row["url"], row["bytes"], row["op"], row["status"]) for row in objects} == {
        (cli.url("t/a"), 5, "upload", "done"),
        (cli.url("t/b"), 0, "upload", "done"),
    }
    summary = rows[-1]
    assert summary["event"] == "summary"
    assert (summary["objects"], summary["bytes"], summary["verified"], summary["failed"]) == (
        2,
        5,
        2,
        0,
    )


def test_quiet_says_nothing_but_failures(cli: Cli) -> None:
    cli.file("ok")
    cli.file("bad")
    cli.aws.gate.faults.add(
        kind="status", action="PutObject", key="bad", times=None, status=400, code="InvalidRequest"
    )
    good, bad = cli.run_each(
        ("cp", "ok", cli.url("ok"), "--quiet"), ("cp", "bad", cli.url("bad"), "-q")
    )
    assert good.check(0).text == ""
    assert bad.check(1).out == ""
    assert bad.err.startswith(f"failed bad -> {cli.url('bad')}: ")
    assert "InvalidRequest" in bad.err


def test_sizes_are_read_with_their_units(cli: Cli) -> None:
    """By what reaches S3: the same file goes whole or in parts, as the flags say."""
    cli.file("big", os.urandom(6 * MiB))
    common = ("--part-size", "5MiB")
    runs = cli.run_each(
        ("cp", "big", cli.url("whole"), *common, "--multipart-threshold", "6MiB"),
        ("cp", "big", cli.url("parts"), *common, "--multipart-threshold", "6291455"),
        ("cp", "big", cli.url("metric"), *common, "--multipart-threshold", "6MB"),
    )
    assert [done.check(0).code for done in runs] == [0, 0, 0]
    sent = [(entry.key, entry.bytes_in) for entry in cli.aws.gate.log.where(action="UploadPart")]
    assert sorted(sent) == [
        (key, size) for key in ("metric", "parts") for size in (1 * MiB, 5 * MiB)
    ]
    assert {entry.key for entry in cli.aws.gate.log.where(action="PutObject")} == {"whole"}


def test_flags_that_cannot_be_read_are_refused(cli: Cli) -> None:
    """Exit 2, and the text says how to write it. None is passed over in silence."""
    cli.file("f")
    role = ("--role-arn", "arn:aws:iam::111122223333:role/writer")
    cases: dict[tuple[str, ...], str] = {
        ("--part-size", "8 elephants"): "'8 elephants' is not a size; write 10485760, 8MiB",
        ("--part-size", "-1"): "'-1' is not a size",
        ("--part-size", "1KiB"): "part_size is 1024, the least is 5242880",
        ("--session-duration", "1d"): "'1d' is not a duration; write 900, 15m or 12h",
        ("--session-duration", "5m", *role): "a session of 300 s is not possible",
        ("--source", "ec3"): "'ec3' is not one of default, env, ",
        ("--prt-size", "8MiB"): "'--part-size'",
        ("--session-tag", "team=a"): "a value for session tag without a role",
        ("--session-policy", "f"): "a value for session policy without a role",
        ("--session-tag", "team", *role): "not a session tag: 'team'",
        ("--ca-bundle", "nowhere.pem"): "File 'nowhere.pem' does not exist",
        ("--role-arn", "writer"): "not the ARN of an IAM role: 'writer'",
    }
    runs = cli.run_each(*(("cp", "f", cli.url("f"), *flags) for flags in cases))
    for (flags, text), done in zip(cases.items(), runs, strict=True):
        done.check(2)
        assert text in done.err, (flags, done.err)
    assert cli.aws.gate.log.entries() == []


def test_the_environment_says_what_no_flag_says(cli: Cli) -> None:
    """S3ENGINE_ROLE_ARN and its like; a flag wins over them."""
    cli.file("f")
    other = cli.role_with("other")
    variables = {"S3ENGINE_ROLE_ARN": other, "S3ENGINE_QUIET": "1"}
    by_env = cli.run("cp", "f", cli.url("by-env"), env=variables)
    by_flag = cli.run("cp", "f", cli.url("by-flag"), "--role-arn", other)
    assert by_env.check(0).text == ""
    by_flag.check(0)
    for entry in cli.aws.gate.log.where(action="PutObject"):
        assert ":assumed-role/other/s3engine-" in entry.principal
    cli.run("cp", "f", cli.url("as-user")).check(0)
    assert cli.aws.gate.log.where(key="as-user")[0].principal.endswith(":user/etl")


def test_an_empty_prefix_is_no_success(cli: Cli) -> None:
    """A prefix with a typing error must not look like a job that is done."""
    done = cli.run("cp", cli.url("typo/"), "out/").check(1)
    assert "nothing to copy" in done.err


def test_a_reader_that_goes_away_ends_the_listing_quietly(cli: Cli) -> None:
    """``ls | head -1``: exit as SIGPIPE would, no message."""
    cli.aws.gate.put_object(cli.bucket, "a", b"")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*program(), "ls", cli.url("")],
        cwd=cli.home,
        env=cli.env,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_bucket_that_is_not_there_is_named(cli: Cli) -> None:
    """HEAD has no body, so the code is asked for by GET."""
    done = cli.run("cp", "s3://no-such-bucket/key", "f").check_error(1, "T112")
    assert "NoSuchBucket" in done.err and "Check the bucket's name" in done.err


def test_a_download_below_a_file_says_which_file(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "a", b"x")
    cli.file("taken")
    done = cli.run("cp", cli.url("a"), "taken/a").check(1)
    assert "cannot write below taken: it is a file" in done.err


def test_failures_of_a_kind_are_named_up_to_a_limit(cli: Cli) -> None:
    for number in range(40):
        cli.file(f"t/{number}")
    done = cli.run("cp", "t/", "s3://no-such-bucket/t/").check(1)
    assert done.err.count("failed t/") == 25
    assert "more failures are only counted" in done.err and "39 more failed" in done.err


_WITHOUT_SDK = """
import sys
from pathlib import Path
for name in ("aioboto3", "aiobotocore", "boto3", "botocore"):
    sys.modules[name] = None
from engine.cli.app import main
main(sys.argv[1:])
"""


def test_a_copy_under_a_role_needs_no_aws_sdk(cli: Cli) -> None:
    """Control verbs and AssumeRole are ours: an import of the SDK would fail here."""
    cli.file("big", bytes(11 * MiB))
    line = ("cp", "big", cli.url("big"), "--role-arn", cli.role_with("writer"))
    for arguments in (line, ("ls", cli.url("")), ("rm", cli.url("big"))):
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT_SDK, *arguments],
            cwd=cli.home,
            env=cli.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert cli.keys() == []


def test_every_part_of_an_assumed_role_can_be_said(cli: Cli) -> None:
    """Chains, tags, managed policies, source identity and MFA reach STS by their names."""
    cli.file("f")
    gate, account = cli.aws.gate, cli.aws.account
    last = gate.add_role(account, "last", trust=[cli.role_with("first")], allow=[("s3:*", "*")])
    cli.role_with("first", allow=[("sts:AssumeRole", "*")], require_mfa=False)
    policy = gate.add_policy(account, "narrow", allow=[("s3:*", "*")])
    chain = ("--role-arn", last, "--via-role", cli.role_with("first", allow=[("sts:*", "*")]))
    said = ("--session-tag", "team=a", "--transitive-tag", "team", "--source-identity", "alice")
    cli.run("cp", "f", cli.url("f"), *chain, *said, "--session-policy-arn", policy).check(0)
    first, second = gate.sts_calls(action="AssumeRole")
    assert first.parameters["RoleArn"].endswith("role/first")
    assert second.parameters["Tags.member.1.Key"] == "team"
    assert second.parameters["SourceIdentity"] == "alice"
    serial = f"arn:aws:iam::{account}:mfa/etl"
    locked = cli.role_with("locked", require_mfa=True)
    line = ("cp", "f", cli.url("g"), "--role-arn", locked)
    cli.run(*line).check_error(3, "C103")
    code = gate.new_mfa_code(serial)
    cli.run(*line, "--mfa-serial", serial, env={"S3ENGINE_MFA_CODE": code}).check(0)
    assert cli.keys() == ["f", "g"]


def test_what_is_left_out_of_a_tree_is_told(cli: Cli) -> None:
    cli.file("tree/file")
    cli.file("outside")
    cli.file("tree/.s3engine-0123456789abcdef.part")
    (cli.home / "tree" / "empty").mkdir()
    (cli.home / "tree" / "link").symlink_to(cli.home / "outside")
    Path(os.fsdecode(os.fsencode(cli.home / "tree") + b"/n\xff")).touch()
    done = cli.run("cp", "tree/", cli.url("t/")).check(1)
    assert "left out: tree/empty: an empty folder (--empty-folders" in done.err
    assert "left out: tree/.s3engine-0123456789abcdef.part: a temporary file" in done.err
    assert "tree/link: a symbolic link that leads out of the folder" in done.err
    assert "not valid Unicode" in done.err
    assert cli.keys("t/") == ["t/file"]
    flags = ("--follow-symlinks", "--empty-folders", "--json")
    done = cli.run("cp", "tree/", cli.url("u/"), *flags).check(1)
    left = [row["path"] for row in done.events() if row["event"] == "left_out"]
    assert left == ["tree/.s3engine-0123456789abcdef.part"]
    assert cli.keys("u/") == ["u/empty/", "u/file", "u/link"]


def test_a_copy_that_met_a_full_disk_goes_on_when_there_is_room(cli: Cli, small_disk: Path) -> None:
    keys = [f"t/{number:03}" for number in range(300)]
    for key in keys:
        cli.aws.gate.put_object(cli.bucket, key, key.encode() * 3000)
    cli.aws.gate.faults.add(kind="delay", action="ListObjectsV2", seconds=1.2)  # no short run
    done = cli.run("cp", cli.url("t/"), f"{small_disk}/").check_error(4, "T140")
    assert "objects in a row" in done.err and "go on with: s3engine resume" in done.err
    fetched = len(cli.aws.gate.log.where(action="GetObject"))
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    cli.run("cp", cli.url("t/"), f"{small_disk}/").check(0)
    assert {path.name for path in small_disk.iterdir()} == {key[2:] for key in keys}
    again = len(cli.aws.gate.log.where(action="GetObject")) - fetched
    assert again < 300 and len(list(small_disk.iterdir())) == 300
