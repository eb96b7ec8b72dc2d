"""``bench``: real tools in real processes against the gate, tiny sizes; no speed is asserted."""

from __future__ import annotations

import json
import os
import signal
import ssl
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.testing.aws import AwsDouble
from engine.types import MiB
from tests.cli.conftest import Cli, finish, leaks, running, wait_for

pytestmark = pytest.mark.slow

SMALL = ("--size", "8KiB", "--count", "3", "--rounds", "2", "--yes")
ROOT = "tmp/s3engine-bench/"


class _Page(HTMLParser):
    """What a page is made of; every tag that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not any(name in ("src", "href") for name, _ in attrs), "it needs another file"
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _read(path: Path) -> tuple[str, list[str]]:
    page = _Page()
    text = path.read_text()
    page.feed(text)
    assert page.open == []
    return text, page.seen


def _workload(cli: Cli, **fields: Any) -> Path:
    document = {
        "version": 2,
        "comment": "<b>ours</b>",
        "filesOnDisk": True,
        "checksum": None,
        "maxRepeatCount": 1,
        "maxRepeatSecs": 60,
        "tasks": [{"action": "upload", "key": "a/1", "size": 5}],
        **fields,
    }
    return cli.file("w.run.json", json.dumps(document).encode())


def test_tools_take_turns_and_table_document_and_page_say_the_same(cli: Cli) -> None:
    line = ["bench", cli.url("tmp/"), *SMALL, "--against", "boto3,s5cmd", "--report", "o/b.html"]
    # No PATH: what is looked for in it is not there.
    line += ["--jobs", "upload,list", "--json"]
    done = finish(cli.start(*line, env={"PATH": ""}), 60).check(0)
    runs = [row for row in done.events() if row["event"] == "bench_run"]
    order = [(row["verb"], row["round"], row["tool"]) for row in runs]
    assert order[:6] == [
        ("upload", 1, "s3engine"),
        ("upload", 1, "boto3"),
        ("upload", 1, "raw sockets"),
        ("upload", 2, "boto3"),
        ("upload", 2, "s3engine"),
        ("upload", 2, "raw sockets"),
    ]
    assert {row[0] for row in order} == {"upload", "list"}
    assert ("list", 1, "raw sockets") not in order
    assert all(row["seconds"] > 0 and row["cpu_seconds"] > 0 for row in runs)
    assert all(row["peak_rss_bytes"] > MiB for row in runs)
    assert "s5cmd is left out: not installed" in done.err
    assert "upload about" in done.err and "requests below" in done.err

    document = json.loads((cli.home / "o/b.json").read_text())
    (result,) = [row for row in done.events() if row["event"] == "bench_result"]
    assert result["jobs"] == document["jobs"]
    assert list(document["not_installed"]) == ["s5cmd"]
    facts = document["conditions"]
    assert (facts["TLS"], facts["checksum of s3engine"]) == ("off", "crc64nvme")
    assert set(facts["versions"]) == set(facts["verifies"]) == {"s3engine", "boto3"}
    for job in document["jobs"]:
        assert set(job["tools"]) == {"s3engine", "boto3"} and job["left_out"] == {}
        ours, peer = job["tools"]["s3engine"], job["tools"]["boto3"]
        assert ours["vs_s3engine"] is None
        apart = (
            ours["rate"]["max"] < peer["rate"]["min"] or peer["rate"]["max"] < ours["rate"]["min"]
        )
        assert (peer["vs_s3engine"]["standing"] == "tie") is not apart
        assert (job["ceiling"] is None) is (job["verb"] == "list")
    text, seen = _read(cli.home / "o/b.html")
    assert seen.count("svg") == 6 and not {"script", "img", "link"} & set(seen)
    assert "boto3" in text and "Not installed" in text
    assert cli.keys() == [] and leaks(done.text + text, cli.secrets()) == []
    assert not cli.aws.gate.open_uploads(cli.bucket)


def test_the_table_is_on_stdout_and_files_have_a_name_of_their_own(cli: Cli) -> None:
    done = cli.run("bench", cli.url("tmp/"), *SMALL, "--jobs", "upload,list").check(0)
    lines = done.out.splitlines()
    (head,) = [line for line in lines if line.startswith("upload 24.0 KiB")]
    assert "median MiB/s" in head and "range of 2" in head and "x vs s3engine" in head
    assert any(line.startswith("list 3 keys") and "median keys/s" in line for line in lines)
    assert any(line.startswith("ceiling: raw sockets") for line in lines)
    assert {path.suffix for path in (cli.home / "bench").iterdir()} == {".html", ".json"}


def test_sessions_of_a_role_and_flags_of_a_transfer_reach_the_tools(cli: Cli) -> None:
    role = cli.role_with("bench")
    line = ["bench", cli.url("tmp/"), "--size", "11MiB", "--count", "1", "--rounds", "1", "--yes"]
    flags = ["--part-size", "6MiB", "--checksum", "crc32c", "--role-arn", role, "--no-ceiling"]
    done = cli.run(*line, *flags, "--jobs", "upload", "--quiet").check(0)
    assert "wrote" not in done.err and "raw sockets" not in done.out
    assert "checksum of s3engine: crc32c" in done.out
    parts = cli.aws.gate.log.where(action="UploadPart", status=200)
    assert len(parts) == 2
    assert len(cli.aws.gate.log.where(action="AssumeRole")) == 1, "tools get the session's keys"
    assert "?" in done.out, "one round says nothing of a range"


def test_over_tls_every_tool_trusts_the_bundle_that_was_given(tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with AwsDouble(ssl_context=context) as aws:
        aws.gate.create_bucket("secure", aws.account)
        cli = Cli(aws, "secure", tmp_path)
        cli.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_ACCESS_KEY_ID": aws.admin.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.admin.secret_access_key,
        }
        line = ["bench", cli.url(""), *SMALL, "--jobs", "download", "--against", "boto3,obstore"]
        flags = ["--endpoint-url", aws.endpoint, "--ca-bundle", "ca.pem", "--report", "b.html"]
        done = cli.run(*line, *flags).check(0)
        assert cli.keys() == []
    assert "TLS: on" in done.out and "ceiling: raw sockets" in done.out
    (job,) = json.loads((tmp_path / "b.json").read_text())["jobs"]
    assert set(job["tools"]) == {"s3engine", "boto3", "obstore"} and job["left_out"] == {}


def test_a_prefix_that_is_not_empty_is_left_alone(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "tmp/precious", b"x")
    done = cli.run("bench", cli.url("tmp/"), *SMALL).check_error(2, "U001")
    assert "tmp/precious" in done.err
    cli.aws.gate.put_object(cli.bucket, "odd/s3engine-bench/data/1", b"x")
    done = cli.run("bench", cli.url("odd"), *SMALL).check_error(2, "U001")
    assert "no marker" in done.err
    assert sorted(cli.keys()) == ["odd/s3engine-bench/data/1", "tmp/precious"]


def test_what_a_killed_benchmark_left_is_removed_first(cli: Cli) -> None:
    for name in ("made-by-s3engine-bench.json", "data/1", "up/2"):
        cli.aws.gate.put_object(cli.bucket, ROOT + name, b"x")
    done = cli.run("bench", cli.url("tmp"), *SMALL, "--jobs", "list").check(0)
    assert "removed 3 objects" in done.err
    assert cli.keys() == []


def test_it_does_not_start_where_nobody_can_agree(cli: Cli) -> None:
    before = len(cli.aws.gate.log.where(action="ListObjectsV2"))
    done = cli.run("bench", cli.url("tmp/"), "--size", "1GiB", "--count", "4")
    done.check_error(2, "U001")
    assert "--yes" in done.err and "upload about" in done.err
    assert len(cli.aws.gate.log.where(action="ListObjectsV2")) == before


def test_what_cannot_be_is_refused_before_anything_is_sent(cli: Cli) -> None:
    wrong = {
        ("--against", "ftp"): "Known: aws-cli, s5cmd, boto3, obstore",
        ("--jobs", "copy"): "Known: upload, download, list",
        ("--size", "0"): "--size",
    }
    lines = [("bench", cli.url("tmp/"), "--yes", *flags) for flags in wrong]
    for done, words in zip(cli.run_each(*lines), wrong.values(), strict=True):
        assert words in done.check(2).err
    assert cli.aws.gate.log.where(action="PutObject") == []


@pytest.mark.parametrize("tool", ["s3engine", "boto3"])
def test_ctrl_c_ends_it_soon_and_nothing_is_left(cli: Cli, tool: str) -> None:
    """In the middle of a tool's multipart upload; the tool is asked to abort it."""
    gate = cli.aws.gate
    temporary = cli.home / "t"
    temporary.mkdir()
    line = ["bench", cli.url("tmp/"), "--size", "20MiB", "--count", "1", "--rounds", "2", "--yes"]
    process = cli.start(
        *line,
        "--jobs",
        "upload",
        "--against",
        tool.replace("s3engine", ""),
        "--no-ceiling",
        "--dir",
        temporary,
    )
    with running(process):
        if tool == "boto3":
            wait_for(lambda: gate.log.where(action="CompleteMultipartUpload", status=200))
        gate.bandwidth = 2 * MiB
        wait_for(lambda: gate.open_uploads(cli.bucket))
        process.send_signal(signal.SIGINT)
        gate.bandwidth = None
        done = finish(process, 15).check(130)
    assert "stopped (SIGINT)" in done.err and done.out == ""
    assert cli.keys() == [] and list(temporary.iterdir()) == []
    wait_for(lambda: not gate.open_uploads(cli.bucket), 5)


def test_a_workload_file_is_run_as_it_says(cli: Cli) -> None:
    tasks = [{"action": "upload", "key": f"a/b/{n}", "size": n * 1000} for n in range(3)]
    tasks += [{"action": "download", "key": "c/<d>", "size": 5000}]
    path = _workload(cli, tasks=tasks, checksum="CRC32C")
    line = ["bench", cli.url("tmp/"), "--workload", path, "--yes", "--no-ceiling"]
    done = cli.run(*line, "--against", "boto3,obstore", "--report", "b.html", "--json").check(0)
    runs = [(r["verb"], r["tool"]) for r in done.events() if r["event"] == "bench_run"]
    assert runs == [(v, t) for v in ("upload", "download") for t in ("s3engine", "boto3")]
    (result,) = [row for row in done.events() if row["event"] == "bench_result"]
    assert [job["checksum"] for job in result["jobs"]] == ["CRC32C", "CRC32C"]
    assert result["jobs"][0]["left_out"] == {"obstore": "it does not compute CRC32C"}
    text, _ = _read(cli.home / "b.html")
    assert "&lt;b&gt;ours&lt;/b&gt;" in text and "<b>ours</b>" not in text


def test_a_workload_in_memory_touches_no_files(cli: Cli) -> None:
    tasks = [{"action": "download", "key": "x", "size": 70_000}] * 3
    tasks += [{"action": "upload", "key": "y", "size": 70_000}] * 2
    path = _workload(cli, tasks=tasks, filesOnDisk=False)
    line = ["bench", cli.url("tmp/"), "--workload", path, "--yes", "--no-ceiling", "--json"]
    done = cli.run(*line, "--against", "boto3,obstore", "--report", "b.html").check(0)
    (result,) = [row for row in done.events() if row["event"] == "bench_result"]
    for job in result["jobs"]:
        assert set(job["tools"]) == {"s3engine", "boto3", "obstore"}, job["left_out"]
    gets = cli.aws.gate.log.where(action="GetObject")
    assert len(gets) >= 9, "each tool fetches all that are named, one or more times"
    assert cli.keys() == []


def test_a_workload_that_cannot_be_run_is_refused_before_anything_is_sent(cli: Cli) -> None:
    path = _workload(cli, checksum="SHA256")
    done = cli.run("bench", cli.url("tmp/"), "--workload", path, "--yes").check_error(2, "U001")
    assert "SHA256, which s3engine does not compute" in done.err
    assert cli.aws.gate.log.where(action="PutObject") == []


def test_a_tool_that_fails_is_left_out_with_its_reason(cli: Cli) -> None:
    folder = cli.home / "bin"
    folder.mkdir()
    program = folder / "s5cmd"
    program.write_text(
        "#!/bin/sh\n[ $1 = version ] && echo v9.9.9-abc && exit\necho 'no luck' >&2\nexit 7\n"
    )
    program.chmod(0o755)
    line = [
        "bench",
        cli.url("tmp/"),
        *SMALL,
        "--jobs",
        "upload",
        "--no-ceiling",
        "--against",
        "s5cmd",
    ]
    done = cli.run(*line, env={"PATH": f"{folder}:{cli.env['PATH']}"}).check(1)
    assert "s5cmd" in done.out and "failed twice: it ended with status 7: no luck" in done.out
    assert done.err.count("s5cmd failed:") == 2
