"""``cp -``: stdin to an object, objects to stdout."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from engine.types import MiB
from tests.cli.conftest import Cli, Finished, program, wait_for

pytestmark = pytest.mark.slow


def run(cli: Cli, *args: str, data: bytes | None = None, **settings: Any) -> tuple[Finished, bytes]:
    """The program with bytes on stdin; what it printed, and stdout as bytes."""
    settings = {"input": data, "stdout": subprocess.PIPE, **settings}
    done = subprocess.run(
        [*program(), *args],
        cwd=cli.home,
        env=cli.env,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
        **settings,
    )
    return Finished(done.returncode, "", done.stderr.decode()), done.stdout or b""


@contextmanager
def started(cli: Cli, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program with pipes at all ends, and no such program afterwards."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*program(), *args], cwd=cli.home, env=cli.env, stdin=pipe, stdout=pipe, stderr=pipe
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("size", [0, 100_000, 25 * MiB])
def test_a_pipe_goes_up_and_comes_back(cli: Cli, size: int) -> None:
    data = os.urandom(size)
    done, out = run(cli, "cp", "-", cli.url("key"), data=data)
    done.check(0)
    assert out == b""
    assert "1 objects" in done.err
    assert cli.aws.gate.get_object(cli.bucket, "key") == data
    assert cli.aws.gate.open_uploads(cli.bucket) == []
    done, out = run(cli, "cp", cli.url("key"), "-")
    done.check(0)
    assert out == data
    assert "1 objects" in done.err


def test_files_are_read_from_where_they_stand_and_written_to_where_they_stand(cli: Cli) -> None:
    path = cli.file("file", b"head of the file, rest of the file")
    with path.open("rb") as file:
        file.seek(18)
        done, _ = run(cli, "cp", "-", cli.url("a"), stdin=file, input=None)
    done.check(0)
    assert cli.aws.gate.get_object(cli.bucket, "a") == b"rest of the file"
    with (cli.home / "out").open("wb") as file:
        file.write(b"before ")
        file.flush()
        run(cli, "cp", cli.url("a"), cli.url("a"), "-", stdout=file)[0].check(0)
    assert (cli.home / "out").read_bytes() == b"before " + 2 * b"rest of the file"


def test_what_does_not_fit_is_refused_before_any_request(cli: Cli) -> None:
    cases = {
        ("-", cli.url("p/")): "names no object",
        ("-", f"s3://{cli.bucket}"): "names no object",
        ("-", "file"): "not an S3 URL",
        ("-", "-"): "stdin to stdout",
        ("-", "x", cli.url("k")): "alone",
        (cli.url("p/"), "-"): "names no object",
        (cli.url("k"), "-", "--json"): "not for JSON",
        ("-", cli.url("k"), "--expected-size", "60000000GiB"): "the limit of aws",
    }
    for line, text in cases.items():
        done, out = run(cli, "cp", *line, data=b"")
        done.check_error(2, "U001")
        assert text in done.err, (line, done.err)
        assert out == b""
    assert cli.keys() == []


def test_a_reader_that_leaves_ends_it_quietly(cli: Cli) -> None:
    cli.aws.gate.put_object(cli.bucket, "big", bytes(64 * MiB))
    with started(cli, "cp", cli.url("big"), "-") as process:
        assert process.stdout is not None and process.stderr is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(20) == 128 + signal.SIGPIPE
    assert "Traceback" not in err and "error[" not in err


def test_a_wrong_checksum_is_told_though_the_bytes_went_out(cli: Cli) -> None:
    run(cli, "cp", "-", cli.url("key"), data=os.urandom(5 * MiB))[0].check(0)
    cli.aws.gate.faults.add(kind="flip", action="GetObject", at=7, times=None)
    done, out = run(cli, "cp", cli.url("key"), "-")
    done.check_error(1, "T130")
    assert f"{len(out)} bytes went to stdout before this was known" in done.err
    assert "not to be trusted" in done.err


def unread(pipe: IO[bytes] | None) -> int:
    """Bytes in a pipe that its reader has not taken yet."""
    assert pipe is not None
    count = array.array("i", [-1])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("sent", [1_000, 12 * MiB])
def test_a_signal_while_stdin_waits_ends_it_at_once_and_leaves_nothing(cli: Cli, sent: int) -> None:
    with started(cli, "cp", "-", cli.url("key")) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(sent))
        process.stdin.flush()
        if sent > MiB:
            wait_for(lambda: cli.aws.gate.log.where(action="UploadPart", status=200))
        else:
            wait_for(lambda: unread(process.stdin) == 0)  # then it waits for more
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    assert cli.keys() == []
    assert cli.aws.gate.open_uploads(cli.bucket) == []


def test_a_writer_that_dies_ends_the_stream_where_it_was(cli: Cli) -> None:
    """A pipe does not tell a finished writer from a dead one: what came is what is stored."""
    code = "import os, signal; os.write(1, b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    done, _ = run(cli, "cp", "-", cli.url("key"), stdin=writer.stdout, input=None)
    writer.communicate()
    done.check(0)
    assert cli.aws.gate.get_object(cli.bucket, "key") == b"half"
