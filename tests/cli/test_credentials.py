"""Credentials shown, printed, served, and given to a child: as a user has them at the shell."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from engine.cli.child_environment import CREDENTIAL_VARIABLES, child_environment, settings_only
from tests.cli.conftest import Cli, finish, leaks, program, running, wait_for

pytestmark = pytest.mark.slow

# What a child says of its credentials and environment.
_SAY = """
import json, os, sys
print(json.dumps({"env": dict(os.environ), "args": sys.argv[1:], "in": sys.stdin.read()}))
"""
# A child that has started and then waits for signals, each of which it names.
_WAIT = """
import os, signal, time
def say(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\\n")
    if number == signal.SIGTERM:
        os._exit(7)
for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"):
    signal.signal(getattr(signal, name), say)
os.write(1, b"started\\n")
while True:
    time.sleep(0.05)
"""


def _child(code: str, *args: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", code, *args)


def _role(cli: Cli, **settings: object) -> tuple[str, ...]:
    return ("--role-arn", cli.role_with("loader", **settings))


def _get(uri: str, token: str) -> dict[str, str]:
    with urlopen(Request(uri, headers={"Authorization": token}), timeout=10) as answer:
        document = json.load(answer)
    assert isinstance(document, dict)
    return document


def _sourced(cli: Cli, text: str, *names: str) -> list[str]:
    """What a POSIX shell makes of printed lines."""
    script = text + "".join(f'printf "%s\\n" "${{{name}-unset}}"\n' for name in names)
    before = {"AWS_SESSION_TOKEN": "from before"}
    done = subprocess.run(
        ["sh", "-eu"], input=script, capture_output=True, text=True, env={**cli.env, **before}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# ---- show, process, env ------------------------------------------------------------------------


def test_show_says_what_and_why_and_masks_it(cli: Cli) -> None:
    role = _role(cli)
    plain, as_json = cli.run_each(
        ("credentials", "show", *role), ("credentials", "show", *role, "--json")
    )
    rows = [line.split(None, 1) for line in plain.check(0).out.splitlines()]
    names = [name for name, _ in rows]
    assert names[:3] == ["key", "of", "by"] and names[-1] == "ends" and "source" in names
    assert "loader" in rows[1][1] and "environment" in rows[2][1] and "env" in rows[-2][1]
    assert "<" not in plain.out, "no repr for people"
    (event,) = (row for row in as_json.check(0).events() if row["event"] == "credentials")
    assert event["access_key_id"].startswith("ASIA***") and len(event["chain"]) == 2
    assert leaks(plain.text + as_json.text, cli.secrets()) == []


def test_process_is_what_botocore_expects(cli: Cli) -> None:
    """botocore itself runs the command, as ~/.aws/config tells it to."""
    role = _role(cli)
    line = " ".join([*program(), "credentials", "process", *role])
    code = (
        "import botocore.session as b; c = b.Session().get_credentials();"
        "f = c.get_frozen_credentials(); print(c.method, f.access_key, bool(f.token))"
    )
    env = {**cli.env, "AWS_CONFIG_FILE": str(cli.home / "config")}
    keys = {name: env.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    # The command has the user's keys, botocore has not.
    wrapper = cli.file("wrap", b"#!/bin/sh\n. ./keys\nexec " + line.encode() + b"\n")
    wrapper.chmod(0o700)
    cli.file("keys", "".join(f"export {n}={v}\n" for n, v in keys.items()).encode())
    cli.file("config", f"[default]\ncredential_process = {wrapper}\n".encode())
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=cli.home, capture_output=True, text=True
    )
    assert done.stdout.startswith("custom-process ASIA"), done
    assert done.stdout.strip().endswith("True")
    (call,) = cli.aws.gate.log.where(action="AssumeRole")
    # Not 900 s: in its last 15 minutes botocore would run the command at every request.
    assert call.parameters["DurationSeconds"] == "3600"


def test_process_and_env_take_the_duration_that_is_asked_for(cli: Cli) -> None:
    role = _role(cli)
    cli.run("credentials", "process", *role, "--session-duration", "30m").check(0)
    cli.run("credentials", "env", *role, env={"S3ENGINE_SESSION_DURATION": "20m"}).check(0)
    asked = [call.parameters["DurationSeconds"] for call in cli.aws.gate.log.where(service="sts")]
    assert asked == ["1800", "1200"]


def test_process_gives_keys_without_an_end_as_they_are(cli: Cli) -> None:
    done = cli.run("credentials", "process").check(0)
    assert json.loads(done.out) == {
        "Version": 1,
        "AccessKeyId": cli.env["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": cli.env["AWS_SECRET_ACCESS_KEY"],
    }


def test_env_is_read_by_a_shell(cli: Cli) -> None:
    role = _role(cli)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION")
    done = cli.run("credentials", "env", *role).check(0)
    key, token, ends = _sourced(cli, done.out, *names)
    assert key.startswith("ASIA") and token in cli.secrets()
    left = datetime.fromisoformat(ends) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(minutes=61)
    assert "nothing renews them" in done.err and leaks(done.err, cli.secrets()) == []
    # Keys of a user have no token: one from before must go.
    own = _sourced(cli, cli.run("credentials", "env").check(0).out, *names)
    assert own == [cli.env["AWS_ACCESS_KEY_ID"], "unset", "unset"]


def test_env_quotes_for_each_shell(cli: Cli) -> None:
    nasty = "a'b$(touch oops)\"`c` \\"
    env = {"AWS_SECRET_ACCESS_KEY": nasty}
    sh, shell, plain = (
        cli.run("credentials", "env", "--format", style, env=env).check(0).out
        for style in ("env", "powershell", "json")
    )
    assert _sourced(cli, sh, "AWS_SECRET_ACCESS_KEY") == [nasty]
    assert not (cli.home / "oops").exists()
    assert json.loads(plain)["AWS_SECRET_ACCESS_KEY"] == nasty
    quoted = nasty.replace("'", "''")
    assert f"$Env:AWS_SECRET_ACCESS_KEY = '{quoted}'\n" in shell
    assert "$Env:AWS_SESSION_TOKEN = $null\n" in shell


# ---- serve -------------------------------------------------------------------------------------


@contextmanager
def _served(cli: Cli, *args: object) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """A server, and the variables that it prints."""
    process = cli.start("credentials", "serve", *args)
    with running(process):
        assert process.stdout is not None
        variables: dict[str, str] = {}
        while len(variables) < 2:
            verb, _, rest = process.stdout.readline().strip().partition(" ")
            if verb == "export":
                name, _, text = rest.partition("=")
                variables[name] = text.strip("'")
            else:
                assert verb == "unset", "keys that are there from before would win in every SDK"
        yield variables, process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_serves_until_a_signal(cli: Cli, number: signal.Signals) -> None:
    role = _role(cli)
    with _served(cli, *role) as (variables, process):
        uri, token = variables.values()
        document = _get(uri, token)
        assert document["AccessKeyId"].startswith("ASIA") and document["RoleArn"] == role[1]
        for _ in range(20):
            assert _get(uri, token) == document
        process.send_signal(number)
        done = finish(process, 5).check(0)
    assert leaks(done.text, [*cli.secrets(), token]) == []
    assert len(cli.aws.gate.log.where(service="sts")) == 1


def test_serve_puts_the_token_into_a_file_of_the_users_own(cli: Cli) -> None:
    """0600, not through a link that lies there, without an end of line, and gone at the end."""
    victim = cli.file("victim", b"as it was")
    path = cli.home / "token"
    path.symlink_to(victim)
    with _served(cli, "--token-file", path, *_role(cli)) as (variables, process):
        assert variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == str(path)
        token = path.read_text()
        assert not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token == token.strip() and len(token) >= 43
        assert _get(variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"], token)["Token"]
        process.terminate()
        done = finish(process, 5).check(0)
    assert token not in done.text and not path.exists()
    assert victim.read_bytes() == b"as it was"
    assert os.listdir(cli.home) == ["victim"]


def test_serve_and_exec_say_at_once_that_a_role_cannot_be_assumed(cli: Cli) -> None:
    denied = ("--role-arn", cli.role_with("closed", trust=["arn:aws:iam::999999999999:root"]))
    serve, run = cli.run_each(
        ("credentials", "serve", *denied),
        ("credentials", "exec", *denied, "--", "touch", "started"),
    )
    serve.check_error(3, "C103")
    run.check_error(3, "C103")
    assert serve.out == run.out == "" and not (cli.home / "started").exists()


def test_serve_says_that_a_port_is_taken(cli: Cli) -> None:
    with _served(cli) as (variables, _):
        port = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"].split(":")[2].split("/")[0]
        cli.run("credentials", "serve", "--port", port).check_error(2, "U001")


# ---- exec --------------------------------------------------------------------------------------


def test_exec_leaves_no_other_credentials(cli: Cli) -> None:
    """Each source that stands before container credentials, all of them set at once."""
    cli.file(
        ".aws/credentials", b"[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key=x\n"
    )
    cli.file(
        ".aws/config",
        b"[default]\nregion = eu-west-3\nrole_arn = arn:aws:iam::1:role/x\nsource_profile=default\n"
        b"s3 =\n  addressing_style = path\ncredential_process = /bin/false\n",
    )
    cli.file(".boto", b"[Credentials]\naws_access_key_id = AKIABOTO\naws_secret_access_key = x\n")
    before = {
        "AWS_REGION": "",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/y",
        "AWS_PROFILE": "default",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere",
        "KEPT": "yes",
    }
    code = (
        "import os, botocore.session as b; s = b.Session(); c = s.get_credentials();"
        "print(c.method, c.access_key, s.get_config_variable('region'),"
        "s.get_scoped_config()['s3']['addressing_style'], os.environ['KEPT'])"
    )
    role = ("--region", "us-east-1", *_role(cli))
    done = cli.run("credentials", "exec", *role, *_child(code), env=before).check(0)
    method, key, found, style, kept = done.out.split()
    assert (method, found, style, kept) == ("container-role", "us-east-1", "path", "yes")
    assert key in {call.issued_key_id for call in cli.aws.gate.log.where(action="AssumeRole")}


def test_exec_passes_arguments_input_and_exit_code(cli: Cli) -> None:
    ours = program()
    args = ("--version", "--", "-x", "a b", "--role-arn")
    line = [*ours, "credentials", "exec", sys.executable, "-c", _SAY, *args]
    done = subprocess.run(line, env=cli.env, input="typed", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["args"] == list(args) and said["in"] == "typed" and done.stderr == ""
    assert not CREDENTIAL_VARIABLES & set(said["env"]) - {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    }
    codes = cli.run_each(
        ("credentials", "exec", *_child("raise SystemExit(42)")),
        ("credentials", "exec", *_child("import os; os.kill(os.getpid(), 9)")),
        ("credentials", "exec", "--", "no-such-command-here"),
        ("credentials", "exec", "--", str(cli.file("no-program"))),
        ("credentials", "exec"),
    )
    assert [done.code for done in codes] == [42, 137, 127, 126, 2]
    assert "cannot run no-such-command-here: No such file" in codes[2].err
    assert "Permission denied" in codes[3].err
    assert all("Traceback" not in done.text for done in codes)


def test_exec_passes_signals_on_and_waits(cli: Cli) -> None:
    process = cli.start("credentials", "exec", *_child(_WAIT))
    with running(process):
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
            assert process.stdout.readline() == f"{number.name}\n"
        finish(process, 5).check(7)


def _stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of that")
def test_exec_leaves_no_child_when_it_is_killed(cli: Cli) -> None:
    code = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    process = cli.start("credentials", "exec", *_child(code))
    with running(process):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not _stopped(child)
        process.kill()
        process.communicate(timeout=5)
        wait_for(lambda: _stopped(child), 5)


# Two that come at once may be seen as one, so a single one would prove little.
TYPED = 4


def test_what_is_typed_comes_to_the_child_once(cli: Cli) -> None:
    """Ctrl-C at a terminal is for both of us; passed on, it would come twice."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            line = [*program(), "credentials", "exec", *_child(_WAIT)]
            os.chdir(cli.home)
            os.execve(line[0], line, cli.env)
        finally:
            os._exit(99)
    said = b""
    try:
        while b"started" not in said:
            said += os.read(terminal, 100)
        for count in range(1, TYPED + 1):
            os.write(terminal, b"\x03")
            while said.count(b"SIGINT") < count:
                said += os.read(terminal, 100)
            time.sleep(0.2)  # one that was passed on comes now
        os.kill(pid, signal.SIGTERM)
        while b"SIGTERM" not in said:
            said += os.read(terminal, 100)
        assert said.count(b"SIGINT") == TYPED, said
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        os.close(terminal)


# ---- what the child sees, without a child ------------------------------------------------------


def test_flags_become_variables() -> None:
    given = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/credentials"}
    before = dict.fromkeys(CREDENTIAL_VARIABLES, "x") | {"AWS_DEFAULT_REGION": "eu-west-1"}
    child = child_environment(before, given, config_file="/c", sts_endpoint_url="global")
    assert child == {
        **given,
        "AWS_CONFIG_FILE": "/c",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CREDENTIAL_PROFILES_FILE": os.devnull,
        "BOTO_CONFIG": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy",
    }
    flags = {"region": "eu-west-2", "endpoint_url": "https://s3", "ca_bundle": "/ca"}
    child = child_environment(
        {"AWS_REGION": "x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        given,
        config_file="/c",
        sts_endpoint_url="https://sts",
        **flags,
    )
    assert child["AWS_REGION"] == child["AWS_DEFAULT_REGION"] == "eu-west-2"
    assert child["AWS_ENDPOINT_URL_S3"] == "https://s3"
    assert child["AWS_ENDPOINT_URL_STS"] == "https://sts"
    assert child["AWS_CA_BUNDLE"] == "/ca"
    assert "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" not in child


def test_only_known_settings_of_one_profile_stay() -> None:
    text = """
# a comment
[default]
region = us-east-1
[profile mine]
Region=eu-west-1
aws_access_key_id = AKIA
role_arn = arn
sso_start_url = https://x
something_new_that_logs_in =
   nested = here
s3 =
  max_concurrent_requests = 2
  addressing_style = path
services = local
cli_pager =
[sso-session x]
sso_region = eu-west-1
[services local]
s3 =
  endpoint_url = https://store
[plugins]
evil = module
"""
    assert settings_only(text.splitlines(), "mine").splitlines() == [
        "[default]",
        "Region=eu-west-1",
        "s3 =",
        "    max_concurrent_requests = 2",
        "    addressing_style = path",
        "services = local",
        "cli_pager =",
        "[services local]",
        "s3 =",
        "    endpoint_url = https://store",
    ]
    assert settings_only(text.splitlines(), "default").splitlines()[:2] == [
        "[default]",
        "region = us-east-1",
    ]
