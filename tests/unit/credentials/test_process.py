"""credential_process: real programs, no shell, bounded, and nothing secret in what is said."""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.providers.process import ProcessProvider
from engine.errors import CredentialsError, SourceExpired, UsageError

KEYS = {"Version": 1, "AccessKeyId": "ASIAPROCESS1", "SecretAccessKey": "s3cr3t"}
SESSION = {**KEYS, "SessionToken": "t0k3n"}
pytestmark = pytest.mark.slow  # each starts an interpreter


def program(folder: Path, code: str, name: str = "helper") -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable} -S\n{code}")
    path.chmod(0o700)
    return shlex.quote(str(path))


def printing(document: object) -> str:
    return f"print({json.dumps(document)!r})"


def ask(command: str, seconds: float = 20.0) -> ProcessProvider:
    return ProcessProvider(command, "profile p", seconds=seconds)


async def test_keys_and_their_end(tmp_path: Path) -> None:
    document = {**SESSION, "Expiration": "2199-01-01T00:00:00Z", "AccountId": "111122223333"}
    source = ask(program(tmp_path, printing(document)))
    credentials = await source.fetch()
    assert credentials.access_key_id == "ASIAPROCESS1"
    assert credentials.session_token == "t0k3n"
    assert credentials.expires_at == datetime(2199, 1, 1, tzinfo=UTC)
    assert source.describe() == "credential_process helper (profile p)"
    assert source.is_role, "not known beforehand, and STS refuses the other way round"


async def test_arguments_are_split_and_no_shell_sees_them(tmp_path: Path) -> None:
    code = (
        "import sys, json\nd = json.loads(sys.argv[1]); d['SessionToken'] = '|'.join(sys.argv[2:])"
    )
    command = program(tmp_path, f"{code}\nprint(json.dumps(d))", "a helper")
    command += f" {shlex.quote(json.dumps(KEYS))} 'a b' $HOME ; rm"
    assert (await ask(command).fetch()).session_token == "a b|$HOME|;|rm"


async def test_keys_without_an_end_are_static(tmp_path: Path) -> None:
    command = program(
        tmp_path, f"open({str(tmp_path / 'n')!r}, 'a').write('x')\n{printing(SESSION)}"
    )
    async with Broker(ask(command), clock=LoopClock()) as broker:
        first = await broker.lease.ready()
        assert broker.remaining(first) == float("inf")
        assert await broker.lease.ready() is first
    assert (tmp_path / "n").read_text() == "x"


async def test_a_broker_runs_it_again_before_the_end(tmp_path: Path) -> None:
    end = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    count = tmp_path / "n"
    code = (
        "import json, pathlib\n"
        f"p = pathlib.Path({str(count)!r}); n = len(p.read_text()) if p.exists() else 0\n"
        f"p.write_text('x' * (n + 1)); d = {SESSION!r}\n"
        f"d['Expiration'] = {end!r} if n == 0 else '2199-01-01T00:00:00Z'\n"
        "d['AccessKeyId'] += str(n)\n"
        "print(json.dumps(d))"
    )
    async with Broker(ask(program(tmp_path, code)), clock=LoopClock()) as broker:
        first = await broker.lease.ready()
        with anyio.fail_after(10):
            while (await broker.lease.ready()).access_key_id == first.access_key_id:
                await anyio.sleep(0.05)
        assert broker.statistics().waits_after_first == 0
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**KEYS, "Version": 2}, "another version"),
        ({**KEYS, "Version": "1"}, "another version"),
        ({**KEYS, "Version": True}, "another version"),
        ({k: v for k, v in KEYS.items() if k != "Version"}, "another version"),
        ({**KEYS, "SecretAccessKey": ""}, "no keys"),
        ({**SESSION, "Expiration": "soon"}, "no time: 'soon'"),
        ({**SESSION, "SecretAccessKey": 5}, "no JSON document of keys"),
        ([1], "no JSON document of keys"),
    ],
)
async def test_what_it_prints_wrongly(tmp_path: Path, document: object, words: str) -> None:
    with pytest.raises(CredentialsError, match=words) as caught:
        await ask(program(tmp_path, printing(document))).fetch()
    assert not caught.value.retryable
    assert "s3cr3t" not in str(caught.value) and "t0k3n" not in str(caught.value)


async def test_keys_that_have_expired_are_not_taken(tmp_path: Path) -> None:
    document = {**SESSION, "Expiration": "2001-01-01T00:00:00"}
    with pytest.raises(SourceExpired, match="have expired"):
        await ask(program(tmp_path, printing(document))).fetch()


async def test_a_temporary_key_without_its_token_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without session token"):
        await ask(program(tmp_path, printing(KEYS))).fetch()


async def test_a_failing_program_is_quoted_without_secrets_and_run_once(tmp_path: Path) -> None:
    code = (
        f"import sys\nopen({str(tmp_path / 'n')!r}, 'a').write('x')\n"
        "sys.stderr.write('x' * 5000 + '\\n\\x1b[31mToken has expired: aws_session_token=hunter2"
        " AKIAIOSFODNN7EXAMPLE\\n')\nsys.exit(7)"
    )
    command = program(tmp_path, code) + " --password hunter3"
    async with Broker(ask(command), clock=LoopClock()) as broker:
        with pytest.raises(CredentialsError, match="helper ended with status 7") as caught:
            await broker.lease.ready()
    text = str(caught.value)
    assert "Token has expired" in text and len(text) < 600
    for word in ("hunter2", "hunter3", "IOSFODNN7", "\x1b"):
        assert word not in text
    # Not again and again: it may be one that opens a browser.
    assert (tmp_path / "n").read_text() == "x"


async def test_what_cannot_be_run(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for command in ("/nowhere/helper", str(plain), str(tmp_path)):
        with pytest.raises(CredentialsError, match="cannot be run"):
            await ask(command).fetch()
    for command in ("'open", "  "):
        with pytest.raises(UsageError):
            ask(command)


async def test_a_program_that_writes_for_ever_is_cut(tmp_path: Path) -> None:
    code = "import os\nfor _ in range(200): os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)"
    with pytest.raises(CredentialsError, match="more than 262144 bytes"):
        await ask(program(tmp_path, code)).fetch()


SLEEP = "import os, time\nopen('{}', 'w').write(str(os.getpid()))\ntime.sleep(60)"


async def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CredentialsError, match=r"did not end within 0\.5 s"):
        await ask(program(tmp_path, SLEEP.format(pid)), seconds=0.5).fetch()
    with anyio.fail_after(10):
        while alive(pid):
            await anyio.sleep(0.01)


async def test_a_cancelled_fetch_kills_it_and_leaves_no_descriptor(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    source = ask(program(tmp_path, SLEEP.format(pid)))
    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.fetch)
        with anyio.fail_after(10):
            while not (pid.exists() and pid.read_text()):
                await anyio.sleep(0.01)
        assert alive(pid)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(10):
        while alive(pid):  # killed; the kernel may take a moment to bury it
            await anyio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


def alive(pid: Path) -> bool:
    return Path("/proc", pid.read_text()).exists()


async def test_programs_that_ask_each_other_in_a_circle_end(tmp_path: Path) -> None:
    """Each would start the next one for ever."""
    code = (
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from engine.credentials.providers.process import ProcessProvider\n"
        "try: asyncio.run(ProcessProvider(sys.argv[0], 'profile p').fetch())\n"
        "except Exception as error: sys.exit(str(error))\n"
    )
    path = tmp_path / "circle"
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o700)
    with pytest.raises(CredentialsError) as caught:
        await ask(str(path), seconds=60).fetch()
    assert "asked for credentials itself" in str(caught.value)


async def test_what_looks_like_a_secret_on_stderr_is_not_shown(tmp_path: Path) -> None:
    """Whatever stands before it."""
    secret, token = (
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE9Ke",
        "IQoJb3JpZ2luX2VjEJr//////////wEaCXVz",
    )
    code = f"import sys; sys.exit('the key is {secret} and t={token} at /home/me/some/file')"
    with pytest.raises(CredentialsError) as caught:
        await ask(program(tmp_path, code)).fetch()
    said = str(caught.value)
    assert secret not in said and token not in said and "/home/me/some/file" in said
    assert "profile p" in said and "by hand" in said
