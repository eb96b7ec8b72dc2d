"""Profiles with roles: chains of any length, circles, and botocore as the judge."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import botocore.session
import pytest
from botocore.credentials import AssumeRoleCredentialFetcher, create_credential_resolver
from botocore.exceptions import BotoCoreError
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.credentials.context import SourcePlan
from engine.errors import CredentialsError, SourceMissing, UsageError
from tests.unit.credentials.plans import ROLE, Place, arns

KEYS = "aws_access_key_id = AKIA{0:0>8}\naws_secret_access_key = secret\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_role_with_all_its_settings(place: Place) -> None:
    place.write(
        f"[profile role]\nrole_arn = {ROLE}path/r\nsource_profile = base\nexternal_id = acme-42\n"
        "role_session_name = etl\nduration_seconds = 3600\n",
        f"[base]\n{KEYS.format(1)}aws_session_token = t\n",
    )
    plan = place.plan("profile", "role")
    (role,) = plan.roles
    assert (role.arn, role.external_id) == (f"{ROLE}path/r", "acme-42")
    assert (role.session_name, role.duration) == ("etl", 3600)
    assert plan.provider.is_role, "a session token: STS gives the next role one hour at most"
    assert "acme-42" not in "".join(plan.why)
    assert plan.why[1] == f"role: profile role assumes {ROLE}path/r from profile base"
    assert plan.why[-1].startswith("credentials file: key AKIA***01 (profile base, ")


def test_roles_are_assumed_from_the_far_end(place: Place) -> None:
    count = 2_000
    text = "".join(
        f"[profile p{n}]\nrole_arn = {ROLE}r{n}\nsource_profile = p{n + 1}\n" for n in range(count)
    )
    place.write(f"{text}[profile p{count}]\ncredential_process = keys\n")
    plan = place.plan("profile", "p0")
    assert arns(plan) == [f"r{n}" for n in reversed(range(count))]
    assert plan.provider.describe() == f"credential_process keys (profile p{count})"


def test_a_profile_may_assume_its_role_with_its_own_keys(place: Place) -> None:
    place.write(f"[default]\nrole_arn = {ROLE}r\nsource_profile = default\n{KEYS.format(7)}")
    plan = place.plan()
    assert arns(plan) == ["r"]
    assert "AKIA***07" in plan.provider.describe()


def test_keys_of_a_source_profile_come_before_its_role(place: Place) -> None:
    place.write(
        f"[profile a]\nrole_arn = {ROLE}a\nsource_profile = b\n"
        f"[profile b]\nrole_arn = {ROLE}b\nsource_profile = a\n{KEYS.format(7)}"
    )
    assert arns(place.plan("profile", "a")) == ["a"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Environment", "environment"),
        ("EcsContainer", "container role"),
        ("Ec2InstanceMetadata", "instance role"),
    ],
)
def test_credential_source(place: Place, source: str, words: str) -> None:
    place.environ |= {
        "AWS_ACCESS_KEY_ID": "AKIAXXXXXXXX",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2",
    }
    place.write(f"[profile a]\nrole_arn = {ROLE}a\ncredential_source = {source}\n")
    plan = place.plan("profile", "a")
    assert arns(plan) == ["a"]
    assert words in plan.provider.describe()
    assert source in plan.why[-1]


def test_a_web_identity_is_the_profile_s_own_way_to_its_role(place: Place) -> None:
    place.environ["AWS_ROLE_ARN"] = f"{ROLE}of-the-environment"
    web = f"web_identity_token_file = /t\nrole_arn = {ROLE}web\n"
    place.write(f"[profile w]\n{web}[profile r]\nrole_arn = {ROLE}r\nsource_profile = w\n")
    plan = place.plan("profile", "r")
    assert arns(plan) == ["r"]
    assert plan.provider.describe() == "role web in 111122223333 by web identity (/t)"
    assert plan.provider.is_role
    assert arns(place.plan("profile", "w")) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (f"role_arn = {ROLE}a\nsource_profile = x\n", "'x', which is not there"),
        (f"role_arn = {ROLE}a\nsource_profile = a\n", "circle: a -> a"),
        (f"role_arn = {ROLE}a\nsource_profile = empty\n", "empty is a source_profile and has no"),
        (f"role_arn = {ROLE}a\ncredential_source = Elsewhere\n", "'Elsewhere'"),
        (f"role_arn = {ROLE}a\ncredential_source = Environment\nsource_profile = a\n", "both"),
        ("role_arn = arn:aws:iam::1:user/x\nsource_profile = keys\n", "not the ARN"),
        (f"role_arn = {ROLE}a\nsource_profile = keys\nduration_seconds = 1h\n", "'1h'"),
        (f"role_arn = {ROLE}a\nsource_profile = keys\nduration_seconds = 60\n", "60 s"),
        (f"role_arn = {ROLE}a\nsource_profile = keys\nmfa_serial = arn:mfa\n", "works once"),
    ],
)
def test_what_cannot_be_followed_is_refused(place: Place, config: str, words: str) -> None:
    place.write(f"[profile empty]\n[profile keys]\n{KEYS.format(1)}[profile a]\n{config}")
    with pytest.raises(UsageError, match=words):
        place.plan("profile", "a")


def test_a_circle_is_shown(place: Place) -> None:
    links = {"start": "a", "a": "b", "b": "c", "c": "a"}
    place.write(
        "".join(
            f"[profile {name}]\nrole_arn = {ROLE}{name}\nsource_profile = {source}\n"
            for name, source in links.items()
        )
    )
    with pytest.raises(UsageError, match="circle: a -> b -> c -> a"):
        place.plan("profile", "start")


_GRAPHS = st.lists(
    st.tuples(st.integers(0, 7), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@given(graph=_GRAPHS, start=st.integers(0, 7))
def test_any_graph_of_profiles_ends_in_keys_or_in_an_error(
    graph: list[tuple[int, bool, bool]], start: int
) -> None:
    """Each profile has a source, perhaps a role, perhaps keys; the plan follows the sources."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.write("".join(_profile(n, *one) for n, one in enumerate(graph)))
        name = start % len(graph)
        try:
            plan = place.plan("profile", f"p{name}")
        except (UsageError, SourceMissing) as error:
            assert "p" in error.headline
            return
    expected: list[str] = []
    at, first = name, True
    while graph[at][1] and (first or not graph[at][2]):
        expected.insert(0, f"r{at}")
        at, first = graph[at][0], False
    assert arns(plan) == expected
    assert f"(profile p{at}," in plan.provider.describe()
    assert len(expected) <= len(graph)


def _profile(number: int, source: int, has_role: bool, has_keys: bool) -> str:
    role = f"role_arn = {ROLE}r{number}\nsource_profile = p{source}\n" if has_role else ""
    return f"[profile p{number}]\n{role}{KEYS.format(number) if has_keys else ''}"


# ---- botocore as the judge ------------------------------------------------------------------

_PROFILE_NAMES = ("default", "a", "b", "c")
_ONE = st.fixed_dictionaries(
    {},
    optional={
        "role_arn": st.sampled_from([f"{ROLE}one", f"{ROLE}two"]),
        "source_profile": st.sampled_from(_PROFILE_NAMES),
        "credential_source": st.sampled_from(["Environment", "Nonsense"]),
        "external_id": st.just("acme-42"),
        "duration_seconds": st.sampled_from(["1800", "3600"]),
        "role_session_name": st.just("named"),
        "aws_access_key_id": st.sampled_from(["AKIAAAAAAAA1", "AKIAAAAAAAA2"]),
        "aws_secret_access_key": st.sampled_from(["secret-1", "secret-2"]),
        "aws_session_token": st.just("token"),
        "web_identity_token_file": st.just("/token"),
        "sso_account_id": st.just("111122223333"),
        "sso_role_name": st.just("Admin"),
        "sso_start_url": st.just("https://corp"),
        "sso_region": st.just("eu-west-1"),
        "sso_session": st.sampled_from(["corp", "gone"]),
    },
)
_FILES = st.dictionaries(st.sampled_from(_PROFILE_NAMES), _ONE, max_size=4)
_ENVIRON = st.fixed_dictionaries(
    {},
    optional={
        "AWS_ACCESS_KEY_ID": st.just("AKIAENVIRON1"),
        "AWS_SECRET_ACCESS_KEY": st.just("secret-env"),
        "AWS_WEB_IDENTITY_TOKEN_FILE": st.just("/env-token"),
        "AWS_ROLE_ARN": st.just(f"{ROLE}env"),
    },
)
_SSO = "[sso-session corp]\nsso_start_url = https://corp\nsso_region = eu-west-1\n"


@pytest.mark.slow
@settings(max_examples=400)
@given(config=_FILES, credentials=_FILES, environ=_ENVIRON, profile=st.none() | st.just("a"))
def test_botocore_chooses_the_same(
    config: dict[str, dict[str, str]],
    credentials: dict[str, dict[str, str]],
    environ: dict[str, str],
    profile: str | None,
) -> None:
    """The same keys, roles and parameters for any two files, or an error where it has one."""
    if profile and profile not in {*config, *credentials}:
        credentials = {**credentials, profile: {}}
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.write(_SSO + _written(config, "profile "), _written(credentials, ""))
        place.environ |= {**environ, "AWS_EC2_METADATA_DISABLED": "true"}
        with mock.patch.dict(os.environ, place.environ, clear=True):
            theirs = _theirs(profile)
        try:
            ours: object = _ours(place.plan(profile=profile))
        except (UsageError, CredentialsError):
            ours = "error"
    assert ours == theirs


def _written(files: dict[str, dict[str, str]], prefix: str) -> str:
    return "".join(
        f"[{'' if name == 'default' else prefix}{name}]\n"
        + "".join(f"{key} = {value}\n" for key, value in one.items())
        for name, one in files.items()
    )


def _theirs(profile: str | None) -> object:
    """Roles from the first to the last, then what they start from."""
    session = botocore.session.Session(profile=profile)
    session.set_config_variable("region", "us-east-1")
    try:
        found: Any = create_credential_resolver(session).load_credentials()
        roles: list[dict[str, Any]] = []
        while True:
            if found is None:
                return "error"
            fetcher = getattr(getattr(found, "_refresh_using", None), "__self__", None)
            if not isinstance(fetcher, AssumeRoleCredentialFetcher):
                break
            asked = dict(fetcher._assume_kwargs)
            if fetcher._using_default_session_name:
                del asked["RoleSessionName"]
            roles.insert(0, asked)
            found = fetcher._source_credentials
        if found.method in ("assume-role-with-web-identity", "sso"):
            return roles, _fetched(found.method, fetcher)
        return roles, (found.access_key, found.secret_key, found.token)
    except BotoCoreError:
        return "error"


def _fetched(method: str, fetcher: Any) -> str:
    """In the words of our ``describe``."""
    if method == "sso":
        return f"SSO role {fetcher._role_name} in {fetcher._account_id}"
    path = fetcher._web_identity_token_loader._web_identity_token_path
    name = fetcher._role_arn.removeprefix(ROLE)
    return f"role {name} in 111122223333 by web identity ({path})"


def _ours(plan: SourcePlan) -> object:
    roles: list[dict[str, object]] = []
    for role in plan.roles:
        asked = role.parameters("default", role.duration)
        if asked["RoleSessionName"] == "default":
            del asked["RoleSessionName"]
        if asked["DurationSeconds"] == 900:
            del asked["DurationSeconds"]
        roles.append(asked)
    text = plan.provider.describe()
    if text.startswith(("SSO role", "role ")):
        return roles, text.partition(" (profile ")[0]
    keys = anyio.run(plan.provider.fetch)
    return roles, (keys.access_key_id, keys.secret_access_key, keys.session_token)
