"""The default chain and the sources by name: which place is taken, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.api import Engine
from engine.clock import LoopClock
from engine.credentials import Broker, RoleSpec, SourcePlan, source_names
from engine.errors import CredentialsError, SourceMissing, UsageError
from engine.testing.clock import run_virtual
from engine.testing.gate import Gate
from tests.unit.credentials.plans import ROLE, Place, arns
from tests.unit.origin import run_origin, says

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = f"aws_access_key_id = AKIA{{0}}\naws_secret_access_key = {SECRET}\n"
ENV = {"AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT", "AWS_SECRET_ACCESS_KEY": SECRET}
WEB = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    "AWS_ROLE_ARN": f"{ROLE}pod",
    "AWS_ROLE_SESSION_NAME": "pod-1",
}
SSO = (
    "sso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n"
)  # fmt: skip
CORP = "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def chosen(plan: SourcePlan) -> str:
    """The last line of ``why`` names the place that is used."""
    return plan.why[-1].partition(":")[0]


def test_the_names_are_those_of_the_command_line() -> None:
    names = "default env profile ec2 ecs web-identity process sso saml"
    assert source_names() == tuple(names.split())


def test_the_places_are_taken_in_botocore_s_order(place: Place) -> None:
    """All are set up at first; then the one that was taken goes, until only EC2 is left."""
    lines = {
        "role": f"role_arn = {ROLE}r\ncredential_source = Environment\n",
        "sso": SSO,
        "process": "credential_process = /bin/keys\n",
        "config": KEYS.format("CONFIGFILEKEY"),
    }
    place.environ |= {**ENV, **WEB, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost/x"}

    def look(credentials: str = "") -> tuple[str, str]:
        place.write(f"{CORP}[default]\n{''.join(lines.values())}", credentials)
        plan = place.plan()
        return chosen(plan), plan.provider.describe()

    shared = f"[default]\n{KEYS.format('CREDENTIALSFILEKEY')}"
    assert look(shared) == ("env", "key AKIA***NT (environment)")
    del place.environ["AWS_ACCESS_KEY_ID"]
    # Without the environment's keys the role is set up and broken: an error, not the next place.
    with pytest.raises(SourceMissing, match="no credentials in the environment"):
        look(shared)
    place.environ |= ENV
    place.write(f"[profile asked]\n{lines['role']}", "")
    plan = place.plan(profile="asked")
    assert (chosen(plan), arns(plan)) == ("role", ["r"])
    del place.environ["AWS_ACCESS_KEY_ID"]
    del lines["role"]
    assert look(shared)[0] == "web-identity"
    del place.environ["AWS_WEB_IDENTITY_TOKEN_FILE"]
    assert look(shared) == ("sso", "SSO role Admin in 111122223333 (profile default)")
    del lines["sso"]
    name, text = look(shared)
    assert name == "credentials file" and text.startswith("key AKIA***EY (profile default, ")
    assert look() == ("process", "credential_process keys (profile default)")
    del lines["process"]
    assert look()[0] == "config file"
    del lines["config"]
    assert look() == ("ecs", "container role (http://localhost)")
    del place.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    assert look()[0] == "ec2"


def test_why_has_a_line_for_each_place_and_no_secret(place: Place) -> None:
    place.write(f"[default]\n{KEYS.format('CONFIGFILEKEY')}external_id = x{SECRET}\n")
    why = place.plan().why
    assert [line.partition(":")[0] for line in why] == [
        "env", "role", "web-identity", "sso", "credentials file", "process", "config file",
    ]  # fmt: skip
    assert "AWS_ACCESS_KEY_ID is not set" in why[0]
    assert SECRET not in "".join(why)


def test_a_profile_that_was_asked_for_comes_before_the_environment(place: Place) -> None:
    place.environ |= {**ENV, **WEB}
    place.write(credentials=f"[mine]\n{KEYS.format('MINEMINEMINE')}")
    plan = place.plan(profile="mine")
    assert "AKIA***NE" in plan.provider.describe()
    assert plan.why[0] == "env: passed over, profile mine was asked for"
    # By AWS_PROFILE it does not, as everywhere else.
    place.environ["AWS_PROFILE"] = "mine"
    assert "AKIA***NT" in place.plan().provider.describe()


@pytest.mark.parametrize(
    ("environ", "config", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAXXXXXXXX"}, "", "without AWS_SECRET_ACCESS_KEY"),
        ({**ENV, "AWS_ACCESS_KEY_ID": "ASIAXXXXXXXX"}, "", "without session token"),
        ({}, "[default]\naws_access_key_id = AKIAX\n", "without aws_secret_access_key"),
        ({}, f"[default]\nrole_arn = {ROLE}r\n", "neither source_profile nor credential_source"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, "", "no role to assume"),
        ({}, "[default]\nsso_role_name = r\n", "lacks sso_account_id, sso_start_url"),
        ({}, f"[default]\n{SSO}", "sso-session 'corp', which is not in"),
        ({}, f"[default]\n{SSO}sso_region = eu-west-1\n{CORP}", "differ"),
        ({}, "[default]\ncredential_process = 'a\n", "cannot be split"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil/"}, "", "must not come from evil"),
        ({"AWS_PROFILE": "gone"}, "", "no profile 'gone'"),
        ({}, "[default\n", "line 1"),
    ],
)
def test_what_is_set_up_but_broken_is_an_error(
    place: Place, environ: dict[str, str], config: str, words: str
) -> None:
    place.environ |= environ
    place.write(config)
    with pytest.raises(UsageError, match=words) as caught:
        place.plan()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("env", "no credentials in the environment"),
        ("profile", "profile default has no credentials"),
        ("ecs", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and"),
        ("container", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and"),
        ("web-identity", "no web_identity_token_file"),
        ("process", "no credential_process"),
        ("sso", "no sso_account_id"),
        ("saml", "S3ENGINE_SAML_ASSERTION_COMMAND, S3ENGINE_SAML_ROLE_ARN"),
    ],
)
def test_a_source_that_is_not_set_up_says_so(place: Place, name: str, words: str) -> None:
    with pytest.raises(SourceMissing, match=words):
        place.plan(name)


def test_metadata_that_is_switched_off_ends_the_chain_with_all_that_was_looked_at(
    place: Place,
) -> None:
    place.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    with pytest.raises(SourceMissing, match="no credentials found") as caught:
        place.plan()
    looked_at = str(caught.value.facts["looked_at"])
    for word in ("env:", "role:", "sso:", "credentials file:", "process:", "ecs:", "DISABLED"):
        assert word in looked_at


def test_off_ec2_the_chain_ends_at_once_and_says_where_it_looked(place: Place) -> None:
    """Who listens at the metadata address of some other cloud never answers: one second."""

    async def main() -> None:
        async with run_origin() as origin:
            place.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{origin.port}"
            from engine.credentials import plan_source
            from engine.settings import endpoints_from

            origin.script.append(says(b"", close=True))
            context = place.context(imds=endpoints_from(place.environ).imds)
            plan = plan_source("default", context)
            clock = LoopClock()
            async with Broker(plan.provider, clock=clock) as broker:
                with pytest.raises(CredentialsError, match="no credentials found") as caught:
                    await broker.lease.ready()
            assert "env: AWS_ACCESS_KEY_ID is not set" in str(caught.value)
            assert "hop limit" in str(caught.value) or "no usable answer" in str(caught.value)
            assert clock.monotonic() <= 2
            assert len(origin.requests) == 1, "never version 1, never a second try"

    run_virtual(main)


def test_named_sources_come_with_their_settings(place: Place) -> None:
    place.environ |= {
        **WEB,
        "S3ENGINE_SAML_ASSERTION_COMMAND": "cat '/a b'",
        "S3ENGINE_SAML_ROLE_ARN": f"{ROLE}saml",
        "S3ENGINE_SAML_PRINCIPAL_ARN": "arn:aws:iam::111122223333:saml-provider/adfs",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x",
    }
    place.write(f"{CORP}[default]\n{SSO}[profile p]\ncredential_process = keys --x\n")
    assert place.plan("web-identity").provider.describe() == (
        "role pod in 111122223333 by web identity (/var/run/token)"
    )
    assert place.plan("saml").provider.describe() == "role saml in 111122223333 by SAML"
    assert place.plan("sso").provider.describe().startswith("SSO role Admin")
    assert place.plan("process", "p").provider.describe() == "credential_process keys (profile p)"
    assert place.plan("container").provider.describe() == "container role (http://169.254.170.2)"
    assert place.plan("imds").why[0] == "ec2: asked for"
    with pytest.raises(UsageError, match="unknown source of credentials: 'nope'"):
        place.plan("nope")


@pytest.mark.slow
async def test_an_engine_follows_a_profile_through_its_roles(
    place: Place, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of one profile, a role with an external id of the next, and then the user's own."""
    user = gate.add_user("111122223333", "ci", allow=[("sts:AssumeRole", "*")])
    first = gate.add_role(
        "111122223333", "first", trust=[user.arn], external_id="acme-42",
        allow=[("sts:AssumeRole", "*")],
    )  # fmt: skip
    second = gate.add_role("444455556666", "second", trust=[first])
    place.write(
        f"[profile ci]\nrole_arn = {first}\nsource_profile = keys\nexternal_id = acme-42\n"
        "region = us-east-1\n",
        f"[keys]\naws_access_key_id = {user.access_key_id}\n"
        f"aws_secret_access_key = {user.secret_access_key}\n",
    )
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(place.folder))
    role = RoleSpec(second)
    async with Engine(role, profile="ci", sts_endpoint_url=gate.endpoint) as s3:
        assert (await s3.lease.ready()).access_key_id.startswith("ASIA")
        assert [text for text, _ in s3.statistics().chain][1:] == [
            "role first in 111122223333", "role second in 444455556666",
        ]  # fmt: skip
        assert "credentials file: key" in s3.sources_considered[-1]
    assert [call.status for call in gate.sts_calls(action="AssumeRole")] == [200, 200]
