"""AWS's config and credentials files: what stands in them.

They are read as botocore reads them, so that a file means here what it means to the AWS CLI:
https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html. They are never written.

What must not live here: what a setting means (``settings``, ``credentials``).
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, final

from msgspec import Struct, field

from engine.errors import UsageError

DEFAULT_PROFILE = "default"
CONFIG_PATH = "~/.aws/config"
CREDENTIALS_PATH = "~/.aws/credentials"
# A profile has about ten lines of 100 bytes: this is room for a thousand of them. A larger file
# is something else, named by mistake.
MAX_FILE_BYTES = 1024 * 1024

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)

Setting = str | Mapping[str, str]
"""A value, or the settings of a nested block (``s3 =`` and indented lines)."""


@final
class Section(Mapping[str, Setting]):
    """Settings by their names in lower case. Its repr shows names only."""

    __slots__ = ("_settings",)

    def __init__(self, settings: Mapping[str, Setting] | None = None) -> None:
        self._settings = dict(settings or {})

    def text(self, name: str) -> str | None:
        """One value; None where it is absent, blank, or a nested block."""
        value = self._settings.get(name)
        return value.strip() or None if isinstance(value, str) else None

    def block(self, name: str) -> Mapping[str, str]:
        """The settings of a nested block; empty where there is none."""
        value = self._settings.get(name)
        return value if isinstance(value, Mapping) else {}

    def __getitem__(self, name: str) -> Setting:
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __repr__(self) -> str:
        return f"<Section of {', '.join(self._settings) or 'nothing'}>"


class Profile(Struct, frozen=True):
    """One profile of both files.

    Attributes:
        settings: Of both; the credentials file wins where both have a setting.
        in_config: What the config file alone says of it.
        in_credentials: What the credentials file alone says of it.
    """

    name: str
    settings: Section = field(default_factory=Section)
    in_config: Section = field(default_factory=Section)
    in_credentials: Section = field(default_factory=Section)

    def text(self, name: str) -> str | None:
        """One value; None where it is absent or blank."""
        return self.settings.text(name)


class Profiles(Struct, frozen=True):
    """What stands in both files.

    Attributes:
        config_path: Where the config file was looked for; likewise ``credentials_path``.
    """

    profiles: Mapping[str, Profile]
    sso_sessions: Mapping[str, Section]
    services: Mapping[str, Section]
    config_path: str = CONFIG_PATH
    credentials_path: str = CREDENTIALS_PATH

    def chosen(self, environ: Mapping[str, str], asked: str | None = None) -> Profile:
        """The profile in use: the one asked for, else AWS_PROFILE, else ``default``.

        AWS_DEFAULT_PROFILE is read behind AWS_PROFILE; botocore has it the other way round, which
        only shows where both are set and differ.

        Raises:
            UsageError: It was named and is in neither file.
        """
        named = asked or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
        found = self.profiles.get(named or DEFAULT_PROFILE)
        if found is None and named:
            raise UsageError(
                f"there is no profile {named!r} in {self.config_path} or {self.credentials_path}",
                fix="Check --profile and AWS_PROFILE; aws configure list-profiles shows the names",
            )
        return found or Profile(DEFAULT_PROFILE)


class _Stamp(NamedTuple):
    """What tells that a file is another one than before."""

    inode: int
    size: int
    changed: int


@final
class ProfileFiles:
    """Reads both files, and again only when one of them has changed. Blocks; safe from threads.

    Args:
        environ: AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name the files.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._seen: tuple[object, Profiles] | None = None

    def read(self) -> Profiles:
        """What stands in the files now. A file that is not there is empty.

        Raises:
            UsageError: A file cannot be read, or a line of it cannot.
        """
        config = _expanded(self._environ.get("AWS_CONFIG_FILE") or CONFIG_PATH, self._environ)
        credentials = _expanded(
            self._environ.get("AWS_SHARED_CREDENTIALS_FILE") or CREDENTIALS_PATH, self._environ
        )
        # The stamps are from before the reading: what changes meanwhile is read again next time.
        now = (config, _stamp(config), credentials, _stamp(credentials))
        seen = self._seen
        if seen is None or seen[0] != now:
            text = (_contents(config), _contents(credentials))
            seen = now, parse(*text, config_path=config, credentials_path=credentials)
            self._seen = seen
        return seen[1]

    def __repr__(self) -> str:
        return "<ProfileFiles>"


def home_directory(environ: Mapping[str, str]) -> str:
    """What ``~`` stands for: HOME, else what the system says of the user."""
    return environ.get("HOME") or os.path.expanduser("~")


def parse(
    config: str,
    credentials: str,
    *,
    config_path: str = CONFIG_PATH,
    credentials_path: str = CREDENTIALS_PATH,
) -> Profiles:
    """Read the texts of both files.

    Raises:
        UsageError: A line that cannot be read; names the file and the line, never its text.
    """
    in_config: dict[str, Section] = {}
    sso_sessions: dict[str, Section] = {}
    services: dict[str, Section] = {}
    families = {"profile": in_config, "sso-session": sso_sessions, "services": services}
    for title, section in _sections(config, config_path).items():
        if title == DEFAULT_PROFILE:
            in_config[title] = section
            continue
        family, name = section_title(title)
        if family in families:
            families[family][name] = section
    in_credentials = _sections(credentials, credentials_path)
    profiles = {}
    for name in dict.fromkeys((*in_config, *in_credentials)):
        first, second = in_config.get(name, Section()), in_credentials.get(name, Section())
        profiles[name] = Profile(name, Section({**first, **second}), first, second)
    return Profiles(profiles, sso_sessions, services, config_path, credentials_path)


def section_title(title: str) -> tuple[str, str]:
    """``profile "a b"`` as family and name; ("", "") for every other title."""
    try:
        words = shlex.split(title)
    except ValueError:  # a quote that does not close
        return "", ""
    return (words[0], words[1]) if len(words) == 2 else ("", "")


def _sections(text: str, path: str) -> dict[str, Section]:
    if not text:
        return {}
    import configparser  # where there is such a file

    parser = configparser.RawConfigParser()  # raw: a percent sign is a percent sign
    try:
        parser.read_file(io.StringIO(text.removeprefix("\ufeff"), newline=None))
    except configparser.DuplicateOptionError as error:
        raise _refused(path, error.lineno, "a setting that this section has already") from None
    except configparser.DuplicateSectionError as error:
        raise _refused(path, error.lineno, "a [section] that stands there already") from None
    except configparser.MissingSectionHeaderError as error:
        raise _refused(path, error.lineno, "a setting before the first [profile ...]") from None
    except configparser.ParsingError as error:
        line = error.errors[0][0] if error.errors else None
        raise _refused(path, line, "neither a [section] nor name = value") from None
    return {
        title: Section({name: _value(parser.get(title, name), text, path) for name in names})
        for title in parser.sections()
        for names in [parser.options(title)]
    }


def _value(value: str, text: str, path: str) -> Setting:
    """A value that starts on the next line is a block of settings, one level deep."""
    if not value.startswith("\n"):
        return value
    block = {}
    for line in value.splitlines():
        if not line.strip():
            continue
        name, sign, setting = line.partition("=")
        if not sign:
            lines = enumerate(text.splitlines(), 1)
            number = next((n for n, whole in lines if line.strip() in whole), None)
            raise _refused(path, number, "not name = value, in an indented block")
        block[name.strip()] = setting.strip()
    return block


def _refused(path: str, line: int | None, why: str) -> UsageError:
    # Never the text of the line: it may be a secret that was pasted without its name.
    return UsageError(f"{path}, line {line or '?'}: {why}", fix="Correct the file")


def _expanded(path: str, environ: Mapping[str, str]) -> str:
    """``~`` and ``$NAME`` as botocore expands them, but by ``environ``."""
    path = _VARIABLE.sub(lambda m: environ.get(m[1] or m[2] or "", m[0]), path)
    if path == "~" or path.startswith("~/"):
        return home_directory(environ) + path[1:]
    return os.path.expanduser(path)


def _stamp(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _contents(path: str) -> str:
    try:
        if not os.path.isfile(path):
            return ""  # a directory counts as absent, as everywhere else
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""  # replaced this very moment by somebody who deletes first
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", fix="Check its permissions"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            f"{path} has more than {MAX_FILE_BYTES} bytes", fix="Is it the right file?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(path, line, "not UTF-8") from None
