"""AWS's two files are read as botocore reads them, and say where they cannot be read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.profiles import ProfileFiles, Profiles, parse

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def test_both_files_make_one_profile_and_the_credentials_file_wins() -> None:
    config = "[profile a]\nregion = eu-west-1\naws_access_key_id = CONFIG\n[default]\noutput=json\n"
    credentials = "[a]\naws_access_key_id = CREDENTIALS\naws_secret_access_key = s\n"
    found = parse(config, credentials)
    a = found.profiles["a"]
    assert a.text("region") == "eu-west-1"
    assert a.text("aws_access_key_id") == "CREDENTIALS"
    assert a.in_config.text("aws_access_key_id") == "CONFIG"
    assert "region" not in a.in_credentials
    assert found.profiles["default"].text("output") == "json"


def test_what_people_write_into_such_files() -> None:
    config = (
        '\ufeff# a comment\r\n; another\r\n[profile "with blank"]\r\nregion=eu-west-1\r\n'
        "s3 =\r\n  max_concurrent_requests = 20\r\n  addressing_style = path\r\n"
        "Role_ARN : arn\r\nexternal_id = 100%sure%%\r\nblank =\r\n"
        "[sso-session corp]\nsso_region = us-east-1\n[services local]\ns3 =\n  endpoint_url = u\n"
        "[preview]\nx = 1\n"
    )
    found = parse(config, "[profile odd]\nregion = r\n")
    one = found.profiles["with blank"]
    assert one.settings.block("s3") == {"max_concurrent_requests": "20", "addressing_style": "path"}
    assert one.text("s3") is None
    assert (one.text("role_arn"), one.text("external_id")) == ("arn", "100%sure%%")
    assert one.text("blank") is None and "blank" in one.settings
    assert found.sso_sessions["corp"].text("sso_region") == "us-east-1"
    assert found.services["local"].block("s3") == {"endpoint_url": "u"}
    # In the credentials file a section is a profile whatever it is called.
    assert set(found.profiles) == {"with blank", "profile odd"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"[default]\n{SECRET}\n", 2),
        (f"{SECRET} = {SECRET}\n", 1),
        (f"[default]\n\n{SECRET} = 1\n{SECRET} = 2\n", 4),
        ("[default]\n[profile x]\n\n[default]\n", 4),
        (f"[default]\nregion = x\ns3 =\n  a = b\n  {SECRET}\n", 5),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_not_shown(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"^/c, line {line}: ") as caught:
        parse(text, "", config_path="/c")
    assert SECRET.lower() not in f"{caught.value!r} {caught.value}".lower()
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_no_repr_shows_a_setting() -> None:
    found = parse("", f"[default]\naws_secret_access_key = {SECRET}\n")
    assert SECRET not in repr(found)
    assert "aws_secret_access_key" in repr(found.profiles["default"])


_LINES = st.sampled_from(
    ["[default]", "[profile a]", "[profile 'a]", "[x", "s3 =", "  a = b", "  c", "k = v", "k : v",
     "= v", "# c", "", "\t", "k", "[DEFAULT]", "[]", "[sso-session s]", "\x0c", "[default] # ]"]
)  # fmt: skip
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(_LINES, max_size=12).map("\n".join),
    st.text(alphabet="[]=: \n\r\t#;%abp\x00\x0b\x85'\"\\", max_size=80),
)


@given(config=_TEXTS, credentials=_TEXTS)
def test_any_text_is_read_or_refused_with_its_file_and_line(config: str, credentials: str) -> None:
    try:
        found = parse(config, credentials, config_path="/c", credentials_path="/d")
    except UsageError as error:
        assert error.headline.startswith(("/c, line ", "/d, line "))
        assert error.headline.split("line ")[1][0].isdigit()
    else:
        assert isinstance(found, Profiles)


_NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,11}", fullmatch=True)
_VALUES = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)
_SECTIONS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./@+-]{0,10}", fullmatch=True).filter(
        lambda name: name != "DEFAULT"
    ),
    st.dictionaries(
        _NAMES, st.one_of(_VALUES, st.dictionaries(_NAMES, _VALUES, min_size=1)), max_size=5
    ),
    max_size=4,
)


def written(sections: dict[str, dict[str, Any]], *, config: bool) -> str:
    lines = []
    for name, section in sections.items():
        title = f"profile {name}" if config and name != "default" else name
        lines.append(f"[{title}]")
        for key, value in section.items():
            if isinstance(value, str):
                lines.append(f"{key} = {value}")
            else:
                lines.append(f"{key} =")
                lines += [f"  {inner} = {text}" for inner, text in value.items()]
    return "\n".join(lines) + "\n"


def plain(section: Any) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else dict(v) for k, v in section.items()}


@pytest.mark.slow
@settings(max_examples=50)  # texts like these take long to make up
@given(config=_SECTIONS, credentials=_SECTIONS)
def test_what_was_written_is_what_is_read(
    config: dict[str, dict[str, Any]], credentials: dict[str, dict[str, Any]]
) -> None:
    found = parse(written(config, config=True), written(credentials, config=False))
    assert set(found.profiles) == {*config, *credentials}
    for name, profile in found.profiles.items():
        assert plain(profile.in_config) == config.get(name, {})
        assert plain(profile.in_credentials) == credentials.get(name, {})
        assert plain(profile.settings) == {**config.get(name, {}), **credentials.get(name, {})}


@pytest.mark.slow
@given(config=st.lists(_LINES, max_size=8), credentials=_SECTIONS)
def test_botocore_reads_the_same(config: list[str], credentials: dict[str, dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "config"), Path(folder, "credentials")
        paths[0].write_text("\n".join(config), newline="")
        paths[1].write_text(written(credentials, config=False))
        session = botocore.session.Session()
        session.set_config_variable("config_file", str(paths[0]))
        session.set_config_variable("credentials_file", str(paths[1]))
        files = ProfileFiles(
            {"AWS_CONFIG_FILE": str(paths[0]), "AWS_SHARED_CREDENTIALS_FILE": str(paths[1])}
        )
        try:
            theirs = session.full_config
        except botocore.exceptions.ConfigParseError:
            with pytest.raises(UsageError):
                files.read()
            return
        ours = files.read()
        assert {n: plain(p.settings) for n, p in ours.profiles.items()} == theirs["profiles"]
        assert {n: plain(s) for n, s in ours.sso_sessions.items()} == theirs["sso_sessions"]


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(folder), **more}


def test_a_file_is_read_again_when_it_changed_and_not_before(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    path = tmp_path / ".aws" / "credentials"
    files = ProfileFiles(environ(tmp_path))
    assert files.read().profiles == {}
    path.write_text("[default]\naws_access_key_id = A\n")
    first = files.read()
    assert first.profiles["default"].text("aws_access_key_id") == "A"
    assert files.read() is first
    # Replaced by a file of the same size and time, as a careful tool does.
    times = path.stat()
    other = tmp_path / "new"
    other.write_text("[default]\naws_access_key_id = B\n")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert files.read().profiles["default"].text("aws_access_key_id") == "B"
    path.unlink()
    assert files.read().profiles == {}


def test_names_of_files_are_expanded_by_the_given_environment(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("[profile here]\n")
    (tmp_path / "d").write_text("[there]\n")
    files = ProfileFiles(
        environ(
            tmp_path, AWS_CONFIG_FILE="~/c", AWS_SHARED_CREDENTIALS_FILE="$WHERE/${NAME}",
            WHERE=str(tmp_path), NAME="d",
        )
    )  # fmt: skip
    assert set(files.read().profiles) == {"here", "there"}


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c"
    files = ProfileFiles(environ(tmp_path, AWS_CONFIG_FILE=str(path)))
    path.write_bytes(b"[default]\nregion = \xff\n")
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        files.read()
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        files.read()
    path.unlink()
    path.mkdir()  # a directory is as good as nothing, as for botocore
    assert files.read().profiles == {}


def test_the_profile_in_use() -> None:
    found = parse("[default]\n[profile a]\n[profile b]\n", "")
    assert found.chosen({}).name == "default"
    assert found.chosen({"AWS_PROFILE": "a"}).name == "a"
    assert found.chosen({"AWS_DEFAULT_PROFILE": "b"}).name == "b"
    assert found.chosen({"AWS_PROFILE": "a"}, "b").name == "b"
    assert parse("", "").chosen({}).settings == {}
    with pytest.raises(UsageError, match="no profile 'zz'"):
        found.chosen({"AWS_PROFILE": "zz"})
