"""How a run ends: exit codes, the form of an error, and what a wrong command is told."""

from __future__ import annotations

import pytest

from engine.cli import app
from engine.errors import CommitUnknown, EngineError
from tests.cli.conftest import EXTERNAL_ID, Cli

pytestmark = pytest.mark.slow


def test_a_wrong_command_is_told_what_was_meant(cli: Cli) -> None:
    near, far, none = cli.run_each(("lod",), ("xyzzy",), ())
    assert "no command 'lod'. Did you mean load?" in near.check(2).err
    assert "no command 'xyzzy'." in far.check(2).err
    assert "Did you mean" not in far.err
    assert "Transfer:" in none.check(2).err and "copy files and trees" in none.err


def test_help_and_version_are_data_and_no_failure(cli: Cli) -> None:
    """On stdout, exit 0, with examples that name the program."""
    lines = (("--help",), ("cp", "--help"), ("load", "--help"), ("ls", "--help"), ("--version",))
    for line, done in zip(lines, cli.run_each(*lines), strict=True):
        assert done.check(0).err == ""
        assert "s3engine" in done.out
        assert len(line) == 1 or f"s3engine {line[0]} " in done.out.partition("Example")[2]


def test_denied_everything_is_3_and_partly_denied_is_1(cli: Cli) -> None:
    """3 says that nothing moved and that permission is the reason."""
    for name in ("a", "b", "c"):
        cli.file(f"t/{name}")
    nothing = cli.role_with("nothing", allow=[])
    some = cli.role_with("some", allow=[("s3:PutObject", f"{cli.bucket}/t/a")])
    all_denied, some_denied, listing = cli.run_each(
        ("cp", "t/", cli.url("n/"), "--role-arn", nothing),
        ("cp", "t/", cli.url("t/"), "--role-arn", some),
        ("ls", cli.url("t/"), "--role-arn", nothing),
    )
    all_denied.check_error(3, "T111")
    assert "2 more failed with this code" in all_denied.err
    assert "0 objects" in all_denied.err and "failed 3" in all_denied.err
    some_denied.check_error(1, "T111")
    assert "1 objects" in some_denied.err and "failed 2" in some_denied.err
    listing.check_error(3, "T111")
    for done in (all_denied, some_denied, listing):
        assert "AccessDenied" in done.err
        assert "request id" in done.err and "  fix: " in done.err
    for name in ("b", "c"):
        assert f"failed t/{name} -> {cli.url('t/' + name)}: " in some_denied.err
    assert cli.keys() == ["t/a"]


def test_a_failure_of_another_kind_is_1_and_json_names_the_object(cli: Cli) -> None:
    cli.file("t/a")
    cli.file("t/b")
    cli.aws.gate.faults.add(
        kind="status", action="PutObject", key="t/b", times=None, status=400, code="InvalidRequest"
    )
    done = cli.run("cp", "t/", cli.url("t/"), "--json").check_error(1, "T110")
    failed = [row for row in done.events() if row.get("status") == "failed"]
    assert [(row["url"], row["op"]) for row in failed] == [(cli.url("t/b"), "upload")]
    assert "InvalidRequest" in failed[0]["error"]
    assert (done.events()[-1]["objects"], done.events()[-1]["failed"]) == (1, 1)
    gone = cli.run("cp", cli.url("never/was"), "x").check_error(1, "T112")
    assert cli.url("never/was") in gone.err
    assert not (cli.home / "x").exists()


def test_an_error_says_what_where_by_which_request_and_what_to_do(cli: Cli) -> None:
    """Operation, object, S3's code, request id, attempts, advice; and the object is named."""
    cli.file("f")
    cli.aws.gate.put_object(cli.bucket, "there", b"bytes")
    faults = cli.aws.gate.faults
    faults.add(kind="status", action="PutObject", times=None, status=400, code="EntityTooLarge")
    faults.add(kind="status", action="GetObject", key="there", status=400, code="Odd")
    faults.add(kind="status", action="ListObjectsV2", times=None, status=404, code="NoSuchBucket")
    faults.add(kind="status", action="DeleteObjects", times=None, status=405, code="405")
    runs = {
        ("cp", "f", cli.url("f")): ("put object", "f", "T110", "EntityTooLarge"),
        ("cp", cli.url("there"), "g"): ("get object", "there", "T110", "Odd"),
        ("cp", cli.url("none"), "g"): ("head object", "none", "T112", "NoSuchKey"),
        ("ls", cli.url("p/")): ("list objects", "", "T112", "NoSuchBucket"),
        ("rm", cli.url("there")): ("delete objects", "", "T110", "405"),
    }
    for done, (operation, key, kind, code) in zip(cli.run_each(*runs), runs.values(), strict=True):
        lines = done.check_error(1, kind).err.splitlines()
        (first,) = (line for line in lines if line.startswith("error["))
        facts = dict(line.strip().split(":", 1) for line in lines if line.startswith("  "))
        assert first.startswith(f"error[{kind}]: {operation} of {cli.url(key)} failed with {code}")
        assert facts["code"].strip() == code and facts["attempts"].strip() == "1"
        assert len(facts["request id"]) > 8 and len(facts["fix"]) > 20, done.err


def test_a_role_that_may_not_be_assumed_is_3(cli: Cli) -> None:
    """No external id or a wrong one: the same answer, and the id stays masked."""
    partner = cli.role_with("partner", external_id="The-Right-One-77")
    cli.file("f")
    line = ("cp", "f", cli.url("f"), "--no-resume", "--role-arn")
    runs = cli.run_each(
        (*line, partner),
        (*line, partner, "--external-id", EXTERNAL_ID, "-vvv"),
    )
    for done, masked in zip(runs, ("none", "C***2"), strict=True):
        done.check_error(3, "C103")
        assert f"external id: {masked}\n" in done.err
        assert "AccessDenied (403)" in done.err and "request id:" in done.err
        assert "  fix:  " in done.err
        assert EXTERNAL_ID not in done.text and "The-Right-One-77" not in done.text
    right = cli.run(*line, partner, env={"S3ENGINE_EXTERNAL_ID": "The-Right-One-77"})
    right.check(0)
    assert "The-Right-One-77" not in right.text
    assert cli.keys() == ["f"]


def test_credentials_that_are_missing_or_wrong_are_3(cli: Cli) -> None:
    """Before anything was sent to S3."""
    cli.file("f")
    line = ("cp", "f", cli.url("f"), "--role-arn", cli.role_with("writer"))
    wrong = cli.run(*line, env={"AWS_SECRET_ACCESS_KEY": "x" * 40}).check_error(3, "C100")
    assert "Check AWS_SECRET_ACCESS_KEY" in wrong.err
    nowhere = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    none = cli.run(*line, env=nowhere)
    none.check(3)
    assert "error[C10" in none.err and "  fix:  " in none.err
    long = cli.run(*line, "--session-duration", "12h").check_error(3, "C104")
    assert "Drop --session-duration" in long.err
    assert cli.aws.gate.log.where(action="PutObject") == []


def test_usage_errors_are_2_for_every_command(cli: Cli) -> None:
    runs = cli.run_each(
        ("ls", "bucket/prefix"),
        ("rm", cli.url("prefix/")),
        ("credentials", "show", "--external-id", EXTERNAL_ID),
        ("cp", "only-one"),
        ("load", "f"),
    )
    listing, removal, external, copying, loading = runs
    assert "  fix:         Write it as s3://bucket/key" in listing.check_error(2, "U001").err
    assert "names a prefix" in removal.check_error(2, "U001").err
    assert "Missing argument" in copying.check(2).err
    assert "Missing option" in loading.check(2).err
    assert "a value for external id without a role" in external.check_error(2, "U001").err
    assert EXTERNAL_ID not in external.text


def test_listing_and_deleting_say_what_they_found(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "p/a", b"x" * 1234)
    cli.aws.gate.put_object(cli.bucket, "q", b"")
    text, rows = cli.run_each(("ls", cli.url("p/")), ("ls", cli.url(""), "--json"))
    (line,) = text.check(0).out.splitlines()
    assert line.split()[0] == "1,234" and line.endswith(cli.url("p/a")) and "Z  s3://" in line
    listed = [row for row in rows.check(0).events() if row["event"] == "listed"]
    assert [(row["v"], row["url"], row["bytes"]) for row in listed] == [
        (1, cli.url("p/a"), 1234),
        (1, cli.url("q"), 0),
    ]
    done = cli.run("rm", cli.url("p/a"), cli.url("q")).check(0)
    assert (done.out, done.err) == ("", "deleted 2 (S3 does not say which of them existed)\n")
    assert cli.keys() == []


def test_a_mistake_of_ours_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the form of every error; S3ENGINE_DEBUG shows the traceback as well, masked."""

    def broken(**_: object) -> None:
        raise RuntimeError("lost in password='Canary-1'")

    monkeypatch.setattr(app.app, "main", broken)
    monkeypatch.delenv("S3ENGINE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        app.main(["ls"])
    err = capsys.readouterr().err
    assert stop.value.code == 1
    assert err.startswith("error[E000]: unexpected RuntimeError: lost in password=***")
    assert "S3ENGINE_DEBUG=1" in err and "Canary" not in err
    monkeypatch.setenv("S3ENGINE_DEBUG", "1")
    with pytest.raises(SystemExit):
        app.main(["ls"])
    err = capsys.readouterr().err
    assert "Traceback" in err and "in broken" in err and "Canary" not in err


def test_an_error_in_a_group_is_printed_as_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = CommitUnknown("what happened", fix="what to do")
    error.add_note("parts stay; token='Canary-1'")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [error])])
    for raised, code in ((group, 4), (ExceptionGroup("g", [KeyError("secret_key='Canary-2'")]), 1)):

        def fails(raised: Exception = raised, **_: object) -> None:
            raise raised

        monkeypatch.setattr(app.app, "main", fails)
        with pytest.raises(SystemExit) as stop:
            app.main([])
        assert stop.value.code == code
        err = capsys.readouterr().err
        assert "Canary" not in err and "Traceback" not in err
        assert "group" not in err and "sub-exception" not in err


_KINDS = [kind for kind in EngineError.__subclasses__() if kind.__module__ == "engine.errors"]


@pytest.mark.parametrize("error", [EngineError, *_KINDS, CommitUnknown])
def test_the_exit_code_is_the_one_of_the_error(
    error: type[EngineError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise error("what happened", fix="what to do", some_fact=7)

    monkeypatch.setattr(app.app, "main", fails)
    with pytest.raises(SystemExit) as stop:
        app.main([])
    assert stop.value.code == error.exit_code
    assert capsys.readouterr().err.splitlines() == [
        f"error[{error.code}]: what happened",
        "  some fact:   7",
        "  fix:         what to do",
    ]


def test_an_mfa_code_is_not_asked_for_where_nobody_can_answer(cli: Cli) -> None:
    serial = "arn:aws:iam::111122223333:mfa/etl"
    line = ("ls", cli.url(""), "--role-arn", cli.role_with("writer"), "--mfa-serial", serial)
    assert "Set S3ENGINE_MFA_CODE" in cli.run(*line).check_error(2, "U001").err
