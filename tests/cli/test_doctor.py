"""``s3engine doctor`` as its user sees it: whole screens, compared with files.

``S3ENGINE_UPDATE_GOLDEN=1 pytest tests/cli/test_doctor.py`` writes the files anew; read the
difference before it is kept. Only what differs from run to run is replaced: ids, ports, keys.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.testing.aws import AwsDouble
from engine.testing.gate import Gate
from tests.cli.conftest import EXTERNAL_ID, Cli, Finished, finish, leaks, running, wait_for

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("doctor")
OWN, OTHER, NOBODY = "111122223333", "222233334444", "999900001111"
BUCKET = "acme-stage"
URL = f"s3://{BUCKET}/in/"
USER = f"arn:aws:iam::{OWN}:user/etl"
HOST = f"arn:aws:iam::{OWN}:role/etl-host"
ALL_S3 = (("s3:*", "*"),)
READ_AND_WRITE = (("s3:PutObject", "*"), ("s3:GetObject", "*"), ("s3:DeleteObject", "*"))

_RUN_TO_RUN = (
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"s3engine-[0-9a-f]{8}\b", "s3engine-RUN"),
    (r"(A[KS]IA\*\*\*)[A-Z0-9]{2}", r"\1KEY"),
    (r"request id [0-9A-Fa-f-]{16,}", "request id REQUEST"),
    (r"_s3engine_doctor/[0-9a-f]{16}", "_s3engine_doctor/RANDOM"),
    (r"--upload-id \S+", "--upload-id UPLOAD"),
)


def same_for_every_run(text: str) -> str:
    for pattern, name in _RUN_TO_RUN:
        text = re.sub(pattern, name, text)
    return text


def check_screen(name: str, done: Finished) -> None:
    """The screen and the exit code are those of the file."""
    assert "Traceback" not in done.text, done
    shown = same_for_every_run(done.out) + f"[exit {done.code}]\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("S3ENGINE_UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()
    assert done.err == ""


@dataclass
class Patient:
    """Users and roles of a case, to be made wrong in one thing."""

    cli: Cli
    case: int
    external_id: str | None = None
    flags: list[object] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    account: str = OWN
    allow: tuple[tuple[str, str], ...] = ALL_S3
    wants: str | None = None
    asks_for: str = ""

    @property
    def aws(self) -> AwsDouble:
        return self.cli.aws

    def examine(self, *more: object) -> Finished:
        caller = HOST if self.case == 4 else USER
        arn = self.aws.gate.add_role(
            self.account, "stage-writer", trust=[caller], external_id=self.wants, allow=self.allow
        )
        line: list[object] = ["doctor", URL, "--role-arn", self.asks_for or arn, *self.flags]
        if self.external_id:
            line += ["--external-id", self.external_id]
        return self.cli.run(*line, *more, env=self.env)


def patient(cli: Cli, case: int) -> Patient:
    """All is right with it."""
    cli.aws.gate.create_bucket(BUCKET, OWN)
    it = Patient(cli, case)
    if case in (2, 3):
        it.account = OTHER
    if case == 3:
        it.external_id = it.wants = EXTERNAL_ID
    if case == 4:
        cli.aws.gate.add_role(
            OWN, "etl-host", trust=["ec2.amazonaws.com"], allow=[("sts:AssumeRole", "*")]
        )
        cli.aws.imds.role_arn = HOST
        it.account = OTHER
        it.flags = ["--source", "ec2"]
        it.env = {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": cli.aws.imds.endpoint,
        }
    return it


def wrong_external_id(it: Patient) -> None:
    """Case 3 sends another one; the others send none where one is wanted."""
    it.wants = "The-Right-One-77"


def wrong_account(it: Patient) -> None:
    it.asks_for = f"arn:aws:iam::{NOBODY}:role/stage-writer"


def wrong_duration(it: Patient) -> None:
    it.flags += ["--session-duration", "12h"]


def wrong_permission(it: Patient) -> None:
    it.allow = READ_AND_WRITE


RIGHT: Callable[[Patient], None] = lambda it: None  # noqa: E731
THINGS = {
    "right": RIGHT,
    "external_id": wrong_external_id,
    "account": wrong_account,
    "duration": wrong_duration,
    "permission": wrong_permission,
}


@contextmanager
def in_region(aws: AwsDouble, region: str) -> Iterator[Gate]:
    """The same buckets and users, in a region that takes no other region's signatures."""
    elsewhere = Gate(aws.gate._moto.port, region=region)
    elsewhere._store.accounts = aws.gate.accounts
    with elsewhere:
        yield elsewhere


@pytest.mark.parametrize("case", [1, 2, 3, 4])
@pytest.mark.parametrize("thing", THINGS)
def test_each_case_right_and_with_one_thing_wrong(cli: Cli, case: int, thing: str) -> None:
    it = patient(cli, case)
    THINGS[thing](it)
    check_screen(f"case{case}_{thing}", it.examine())
    left = cli.aws.gate.list_keys(BUCKET), cli.aws.gate.open_uploads(BUCKET)
    assert left[0] == []
    assert len(left[1]) == (1 if thing == "permission" else 0)


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_a_bucket_in_another_region_is_named(cli: Cli, case: int) -> None:
    it = patient(cli, case)
    with in_region(cli.aws, "eu-central-1") as elsewhere:
        check_screen(f"case{case}_region", it.examine("--endpoint-url", elsewhere.endpoint))


def one(cli: Cli, *flags: object, **role: object) -> list[object]:
    """The line of a doctor for one role of the caller's account, and a bucket."""
    cli.aws.gate.create_bucket(BUCKET, OWN)
    arn = cli.role_with("stage-writer", **role)
    return ["doctor", URL, "--role-arn", arn, *flags]


def test_a_role_without_its_external_id_is_a_confused_deputy(cli: Cli) -> None:
    it = patient(cli, 3)
    it.wants = None
    check_screen("confused_deputy", it.examine())


def test_an_external_id_that_is_not_asked_for_in_the_own_account_is_a_warning(cli: Cli) -> None:
    it = patient(cli, 1)
    it.external_id = EXTERNAL_ID
    check_screen("own_account_with_external_id", it.examine())


def test_a_caller_that_shows_an_mfa_code_gets_a_policy_that_asks_for_it(cli: Cli) -> None:
    line = one(cli, "--mfa-serial", f"arn:aws:iam::{OWN}:mfa/etl", trust=[HOST])
    done = cli.run(*line, env={"S3ENGINE_MFA_CODE": "123456"})
    check_screen("mfa_denied", done)


def test_root_keys_are_refused(cli: Cli) -> None:
    key = cli.aws.gate.add_root_key(OWN)
    env = {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }
    check_screen("root_keys", cli.run(*one(cli), env=env))


@pytest.mark.parametrize("seconds", [120, 400, -3600])
def test_a_clock_that_is_off_is_a_warning_for_the_engine_corrects_it(
    cli: Cli, seconds: int
) -> None:
    line = one(cli)
    cli.aws.gate.clock_offset = float(seconds)
    done = cli.run(*line).check(0)
    said = " ".join(done.out.split())
    assert re.search(r"warning clock \d+ s (behind|ahead of) the server's The engine", said), done
    assert "STS refuses requests that are more than 5 min off, S3 more than 15 min" in said
    assert "let NTP keep it" in said and "ok delete" in said and "FAILED" not in said


def test_a_clock_that_calls_are_refused_for_is_a_failure(cli: Cli) -> None:
    line = one(cli)
    cli.aws.gate.clock_offset = 400.0
    cli.aws.gate.faults.add(
        kind="status",
        action="GetCallerIdentity",
        status=403,
        code="RequestTimeTooSkewed",
        times=None,
    )
    said = " ".join(cli.run(*line).check(3).out.split())
    assert "FAILED source" in said
    assert re.search(r"FAILED clock (399|400) s behind the server's AWS refuses", said), said


def test_an_sts_that_is_not_there_ends_it_at_once(cli: Cli) -> None:
    env = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"}
    check_screen("no_sts", cli.run(*one(cli), env=env))


def test_a_store_without_get_caller_identity_is_told_in_a_word(cli: Cli) -> None:
    line = one(cli)
    cli.aws.gate.faults.add(
        kind="status",
        action="GetCallerIdentity",
        status=405,
        code="MethodNotAllowed",
        times=None,
    )
    check_screen("no_identity", cli.run(*line))


def test_calls_that_a_store_lacks_are_not_failures(cli: Cli) -> None:
    line = one(cli)
    cli.aws.gate.faults.add(
        kind="status", action="CreateMultipartUpload", status=501, code="NotImplemented", times=None
    )
    done = cli.run(*line).check(0)
    assert (
        "-        parts       not checked: this store has no such call (NotImplemented)" in done.out
    )


def test_tags_without_tag_session_are_told_from_a_denial(cli: Cli) -> None:
    line = one(cli, "--session-tag", "team=etl", tag_session=False)
    check_screen("no_tag_session", cli.run(*line))


def test_what_cannot_be_deleted_is_named(cli: Cli) -> None:
    line = one(cli, allow=[("s3:PutObject", "*"), ("s3:ListBucket", "*"), ("s3:Abort*", "*")])
    done = cli.run(*line)
    check_screen("left_behind", done)
    (key,) = cli.aws.gate.list_keys(BUCKET)
    assert f"left behind: s3://{BUCKET}/{key}" in done.out


def test_sts_of_a_region_that_is_switched_off(cli: Cli) -> None:
    line = one(cli)
    cli.aws.gate.disable_sts(OWN)
    check_screen("sts_switched_off", cli.run(*line))


def test_a_chain_is_examined_hop_by_hop(cli: Cli) -> None:
    first = cli.role_with("teams/first", allow=[("sts:AssumeRole", "*")])
    line = one(cli, "--via-role", first, trust=[first])
    check_screen("two_hops", cli.run(*line))


def test_a_role_of_a_profile_is_examined_too(cli: Cli) -> None:
    cli.aws.gate.create_bucket(BUCKET, OWN)
    arn = cli.role_with("from-profile")
    cli.file(
        ".aws/config",
        f"[profile base]\n[profile etl]\nrole_arn = {arn}\nsource_profile = base\n".encode(),
    )
    cli.file(
        ".aws/credentials",
        "[base]\naws_access_key_id = {AWS_ACCESS_KEY_ID}\n"
        "aws_secret_access_key = {AWS_SECRET_ACCESS_KEY}\n".format(**cli.env).encode(),
    )
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = cli.run("doctor", URL, "--profile", "etl", env=nothing).check(0)
    assert done.out.startswith("case 1  IAM user -> role, same account\n")
    assert "role from-profile in 111122223333, session" in done.out


def test_without_a_role_the_source_itself_is_examined(cli: Cli) -> None:
    cli.aws.gate.create_bucket(BUCKET, OWN)
    check_screen("no_role", cli.run("doctor", URL))


def test_a_source_that_is_not_there_is_a_finding(cli: Cli) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    line = one(cli)
    env = cli.run(*line, "--source", "env", "--json", env=nothing).check(3)
    cli.aws.imds.enabled = False
    off = {**nothing, "AWS_EC2_METADATA_SERVICE_ENDPOINT": cli.aws.imds.endpoint}
    ec2 = cli.run(*line, "--source", "ec2", "--json", env=off).check(3)
    for done in (env, ec2):
        (source,) = [row for row in done.events() if row.get("check") == "source"]
        assert source["status"] == "failed" and source["fix"], done
    assert "switched off" in ec2.out


def test_nothing_is_written_where_that_is_asked_for(cli: Cli) -> None:
    line = one(cli)
    check_screen("no_probe", cli.run(*line, "--no-probe", "--emit-policy"))
    assert {entry.action for entry in cli.aws.gate.log.where(service="s3")} <= {"ListBuckets"}


def test_objects_of_others_are_not_touched(cli: Cli) -> None:
    line = one(cli)
    for key in ("in/a", "in/_s3engine_doctor/0", "other"):
        cli.aws.gate.put_object(BUCKET, key, b"mine")
    cli.run(*line).check(0)
    assert cli.aws.gate.list_keys(BUCKET) == ["in/_s3engine_doctor/0", "in/a", "other"]
    written = {e.key for e in cli.aws.gate.log.where(action="PutObject")}
    assert len(written) == 1 and not written & {"in/a", "in/_s3engine_doctor/0", "other"}


def test_a_bucket_that_is_not_there(cli: Cli) -> None:
    line = one(cli)
    line[1] = "s3://no-such-bucket-here/"
    done = cli.run(*line).check(1)
    said = " ".join(done.out.split())
    assert "FAILED bucket no-such-bucket-here: " in said and "NoSuchBucket" in said


def test_stopped_by_ctrl_c_it_leaves_nothing_behind(cli: Cli) -> None:
    line = one(cli)
    cli.aws.gate.faults.add(kind="delay", action="ListObjectsV2", seconds=30.0)
    with running(cli.start(*line)) as process:
        wait_for(lambda: cli.aws.gate.list_keys(BUCKET))
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.code == 130, done
    assert len(cli.aws.gate.log.where(action="PutObject", status=200)) == 1
    assert cli.aws.gate.list_keys(BUCKET) == []
    assert cli.aws.gate.open_uploads(BUCKET) == []


def test_json_is_one_versioned_event_a_line_and_shows_no_secret(cli: Cli) -> None:
    it = patient(cli, 3)
    it.allow = READ_AND_WRITE
    done = it.examine("--json", "-vvv", "--emit-policy").check(3)
    rows = done.events()
    assert {(row["v"], len(row["run"])) for row in rows} == {(1, 8)}
    assert [row["event"] for row in rows if row["event"] != "check"] == [
        "case",
        "policy",
        "policy",
        "policy",
        "doctor",
    ]
    assert (rows[0]["case"], rows[0]["same_account"], rows[0]["caller"]) == ("3", False, USER)
    checks = {row["check"]: row for row in rows if row["event"] == "check"}
    assert checks["list"]["status"] == "failed"
    assert checks["parts"]["missing"] == ["s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    assert checks["without id"]["status"] == "ok"
    last = rows[-1]
    assert (last["failed"], last["warnings"], last["exit_code"]) == (2, 0, 3)
    assert leaks(done.text, [*cli.secrets(), EXTERNAL_ID]) == []


def test_a_pipe_that_nobody_reads_is_no_failure(cli: Cli) -> None:
    """As ``doctor | head -1``: it ends as programs in a pipe do, and leaves nothing behind."""
    line = one(cli)
    cli.aws.gate.faults.add(kind="delay", action="AssumeRole", seconds=1.0)
    with running(cli.start(*line)) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("case 1 ")
        process.stdout.close()
        process.stdout = None
        done = finish(process)
    assert (done.code, done.err) == (128 + signal.SIGPIPE, "")
    assert cli.aws.gate.list_keys(BUCKET) == []
