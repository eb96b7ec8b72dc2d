"""``load`` from the command line into a Redshift double that reads from the gate's S3."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from engine.testing.redshift import COPY_ROLE
from tests.cli.conftest import Loader, finish, running, wait_for

pytestmark = pytest.mark.slow

GOOD = b"1,1.50,first\n2,,\n"
BAD = b"3,3.00,third\n4,1.2.3,fourth\n"


def good(loader: Loader) -> Path:
    return loader.cli.file("good.csv", GOOD)


def bad(loader: Loader, rows: int = 1) -> Path:
    return loader.cli.file(f"bad{rows}.csv", BAD[:13] + BAD[13:] * rows)


def test_a_good_load_says_what_it_loaded_and_sweeps_its_stage(loader: Loader) -> None:
    """The password comes from the environment, or with the URL; --keep-staged keeps the stage."""
    done = loader.load(good(loader)).check(0)
    assert done.out.startswith("loaded 2 rows of 1 files (17 B) into public.orders in ")
    assert "rejected 0" in done.out
    assert loader.rows() == [(1, "first"), (2, "")]
    assert loader.staged() == []
    assert loader.redshift.copies[0].auth == "role"

    redshift = loader.redshift
    login = f"&UID={redshift.user}&PWD={redshift.password}"
    for name in ("S3ENGINE_DB_USER", "S3ENGINE_DB_PASSWORD"):
        loader.cli.env.pop(name)
    loader.load("good.csv").check_error(2, "L301")
    loader.cli.env["S3ENGINE_DATABASE"] += login
    kept = loader.load("g*.csv", "--keep-staged", "--json").check(0)
    report = kept.events()[-1]
    assert (report["v"], report["event"], report["rows"], report["kept_stage"]) == (
        1,
        "load",
        2,
        True,
    )
    assert len(loader.rows()) == 4
    names = {key.rpartition("/")[2] for key in loader.staged() if report["load"] in key}
    assert names == {"00001-good.csv", "manifest.json"}


def test_a_bad_row_rolls_back_and_is_shown_with_its_value_masked(loader: Loader) -> None:
    """Exit 1, file, line and column in the text, the stage kept and named."""
    masked = loader.load(good(loader), bad(loader)).check_error(1, "L311")
    assert loader.rows() == []
    assert masked.out == ""
    for text in ("/bad1.csv\n", "line:        2\n", "column:      amount numeric", "1.2**", "1207"):
        assert text in masked.err
    assert "1.2.3" not in masked.text and "fourth" not in masked.text
    assert "rolled back, table unchanged" in masked.err and "  fix:  " in masked.err
    folder = masked.err.partition("staged files are kept under ")[2].splitlines()[0]
    assert sorted(loader.staged()) == [
        f"{folder.removeprefix(loader.cli.url(''))}{name}"
        for name in ("00001-good.csv", "00002-bad1.csv", "manifest.json")
    ]
    shown = loader.load("bad1.csv", "--show-values").check_error(1, "L311")
    assert "  value:       '1.2.3'\n" in shown.err
    assert loader.rows() == []


def test_max_errors_is_the_number_of_bad_rows_that_are_passed_over(loader: Loader) -> None:
    """As many as asked for are accepted, one more is not."""
    one, two = bad(loader), bad(loader, 2)
    loader.load(two, "--max-errors", 1).check_error(1, "L311")
    assert loader.rows() == []
    accepted = loader.load(one, "--max-errors", 1).check(0)
    assert "loaded 1 rows of 1 files" in accepted.out and "rejected 1" in accepted.out
    assert loader.rows() == [(3, "third")]
    assert "rejected: " in accepted.err and "-bad1.csv" in accepted.err
    assert "1.2.3" not in accepted.text
    assert len(loader.staged()) >= 2  # the refused row is only there
    assert "MAXERROR 2" in loader.redshift.copies[-1].statement
    for number in (-1, 100_000):
        refused = loader.load(one, "--max-errors", number).check(2)
        assert "not in the range 0<=x<=99999" in refused.err


def test_a_wrong_password_is_known_before_a_byte_moves(loader: Loader) -> None:
    """Staging may take hours; a login that cannot work must not cost them."""
    loader.cli.env["S3ENGINE_DB_PASSWORD"] = "Canary-wrong-1"
    done = loader.load(good(loader)).check_error(3, "L313")
    assert "Check S3ENGINE_DB_USER and S3ENGINE_DB_PASSWORD" in done.err
    assert "Canary-wrong" not in done.text and "staged files" not in done.err
    assert loader.staged() == []


def test_options_of_load_can_stand_in_the_environment(loader: Loader) -> None:
    """All of them: the role, the table and where to stage."""
    loader.cli.env |= {
        "S3ENGINE_COPY_ROLE": COPY_ROLE,
        "S3ENGINE_TABLE": "public.orders",
        "S3ENGINE_STAGING": loader.stage,
    }
    loader.cli.run("load", good(loader)).check(0)
    assert len(loader.rows()) == 2


def test_a_lost_answer_to_commit_is_4_and_says_unknown(loader: Loader) -> None:
    """The rows may be there: nothing repeats the load, and the text says how to look."""
    loader.redshift.faults.add("drop-after-commit")
    done = loader.load(good(loader)).check_error(4, "L320")
    assert "is unknown" in done.err
    assert 'SELECT count(*) FROM "public"."orders"' in done.err
    assert "  fix:         Look before loading again" in done.err
    assert len(loader.rows()) == 2
    assert len(loader.redshift.copies) == 1
    assert len(loader.staged()) == 2


def test_keys_that_end_too_early_are_refused_before_the_database_sees_a_copy(
    loader: Loader,
) -> None:
    """Exit 2 with both numbers; with enough time the same keys load."""
    authority = ("--copy-keys-role", loader.cli.role_with("reader"), "--copy-keys-duration", "15m")
    refused = loader.load(good(loader), "--copy-estimate", "20m", authority=authority)
    refused.check_error(2, "L301")
    have = refused.err.partition("have seconds:")[2].split()[0]
    assert 890 <= int(have) <= 900
    assert "need seconds: 2490\n" in refused.err
    assert list(loader.redshift.copies) == []
    assert loader.rows() == []
    loader.load(good(loader), authority=authority).check(0)
    assert loader.redshift.copies[0].auth == "keys"
    assert len(loader.rows()) == 2


def test_what_cannot_be_loaded_is_refused_before_anything_is_staged(loader: Loader) -> None:
    good(loader)
    cases: dict[tuple[str, ...], str] = {
        ("none.csv",): "no such file: none.csv",
        ("good.csv", "good.csv"): "is named twice",
        ("good.csv", "--copy-role", "writer"): "'writer' is not the ARN of a role",
        ("good.csv", "--database", "jdbc:postgresql://h/db?password=Canary"): "not a jdbc:redshift",
        ("good.csv", "--staging", "bucket/prefix"): "not an S3 URL",
        (
            "good.csv",
            "--copy-keys-role",
            "arn:aws:iam::111122223333:role/x",
        ): "Give one of",
    }
    runs = loader.cli.run_each(*(("load", *loader.line(), *line) for line in cases))
    for (line, text), done in zip(cases.items(), runs, strict=True):
        done.check(2)
        assert text in done.err and "error[" in done.err, (line, done.err)
        assert "Canary" not in done.text
    assert loader.staged() == []
    assert list(loader.redshift.copies) == []


def test_a_signal_during_copy_rolls_back_and_says_where_the_stage_is(loader: Loader) -> None:
    loader.redshift.faults.add("copy-delay", seconds=30)
    process = loader.cli.start("load", *loader.line(good(loader)))
    with running(process):
        wait_for(lambda: loader.redshift.copies)
        process.send_signal(signal.SIGTERM)
        done = finish(process, 5).check(143)
    assert "stopped (SIGTERM)" in done.err
    assert f"staged files, if any, are kept under {loader.stage}" in done.err
    assert loader.rows() == []
    assert len(loader.staged()) == 2
