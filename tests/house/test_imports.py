"""The doors: what ``import engine`` and every ``--help`` load, and what is public."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import engine
from engine.version import VERSION

ROOT = Path(__file__).parents[2]

# Slow to load, or not there in an installation without extras.
HEAVY = (
    "aioboto3",
    "aiobotocore",
    "asyncpg",
    "awscrt",
    "boto3",
    "botocore",
    "moto",
    "pytest",
    "rich",
    "sqlite3",
    "uvloop",
)

PUBLIC = [
    "AccessDenied",
    "AssumeRoleDenied",
    "Broker",
    "ByteRange",
    "Checksum",
    "ChecksumMismatch",
    "ClientEncrypted",
    "CommitUnknown",
    "ConnectionFailed",
    "CopyFailed",
    "CopyOptions",
    "CountMismatch",
    "Credentials",
    "CredentialsError",
    "CredentialsExpired",
    "CsvFormat",
    "CustomerKey",
    "Encryption",
    "Engine",
    "EngineError",
    "EngineStatistics",
    "Failure",
    "GiB",
    "Journal",
    "JournalDamaged",
    "JournalError",
    "JournalStatistics",
    "JournalVersion",
    "KiB",
    "LoadError",
    "LoadRefused",
    "LoadReport",
    "Manifest",
    "ManifestEntry",
    "MiB",
    "NotFound",
    "ObjectArchived",
    "ObjectChanged",
    "ObjectExists",
    "ObjectInfo",
    "ObjectOptions",
    "ObjectReader",
    "ObjectWriter",
    "RejectedRow",
    "Report",
    "RetryPolicy",
    "RoleSpec",
    "RunInUse",
    "S3Error",
    "S3Url",
    "SourceChanged",
    "StoreLimits",
    "TransferConfig",
    "TransferError",
    "TransferResult",
    "UsageError",
    "WrongLoop",
]

_LOADED = """
import json, sys
loaded = {name.partition(".")[0] for name in sys.modules}
"""
_IMPORT = "import engine\nengine.UsageError, engine.S3Url\n"
# An engine with keys from the environment, opened and closed; a listing needs no more.
_OPENED = """
import os, sys
import anyio
import engine

os.environ |= {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
os.environ.pop("AWS_PROFILE", None)

async def run():
    async with engine.Engine(region="us-east-1", endpoint_url="http://127.0.0.1:9") as s3:
        s3.list_pages("s3://bucket/")

anyio.run(run)
loaded = set(sys.modules)
import json
print(json.dumps(sorted(set(json.loads(sys.argv[1])) & loaded)))
"""
# What other jobs load: manifests, profiles and the sources they name, an SDK, a load.
_NOT_FOR_A_LISTING = (
    "awscrt",
    "click",
    "difflib",
    "engine._aws",
    "engine.batch",
    "engine.cli",
    "engine.credentials.profile_plan",
    "engine.credentials.providers.container",
    "engine.credentials.providers.imds",
    "engine.credentials.providers.process",
    "engine.credentials.providers.sso",
    "engine.credentials.server",
    "engine.planes.aws",
    "engine.redshift",
    "engine.staging",
    "json",
    "statistics",
)
# Every command's help in one interpreter: what one of them loads is seen at that one.
_HELP = """
import contextlib, importlib, io, json, sys
import click
from engine.cli.app import COMMANDS, main

HEAVY = set(json.loads(sys.argv[1]))

def lines():
    yield []
    for name in COMMANDS:
        yield [name]
        command = importlib.import_module(f"engine.cli.commands.{name}").command
        if isinstance(command, click.Group):
            yield from ([name, inner] for inner in command.commands)

seen = {}
for line in lines():
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            main([*line, "--help"])
        except SystemExit as stop:
            assert stop.code == 0, (line, stop.code)
    assert "Usage: s3engine" in text.getvalue(), line
    heavy = HEAVY & {name.partition(".")[0] for name in sys.modules}
    seen[" ".join(line)] = sorted(heavy)
print(json.dumps(seen))
"""


def _run(code: str, *args: str) -> Any:
    """What a fresh interpreter prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_of_the_package_loads_nothing_heavy() -> None:
    """Neither SDKs nor drivers nor terminals, not even for errors and values."""
    loaded = _run(_IMPORT + _LOADED + "print(json.dumps(sorted(loaded)))")
    assert [name for name in HEAVY if name in loaded] == []
    assert "engine" in loaded


def test_help_of_every_command_loads_nothing_heavy() -> None:
    seen = _run(_HELP, json.dumps(HEAVY))
    assert {command: heavy for command, heavy in seen.items() if heavy} == {}
    assert {"", "cp", "load", "credentials show", "testing redshift"} <= set(seen)


def test_a_listing_loads_nothing_of_other_jobs() -> None:
    assert _run(_OPENED, json.dumps(_NOT_FOR_A_LISTING)) == []


def test_the_public_names_are_the_ones_written_here() -> None:
    """Adding one is a decision, taking one away breaks programs: both have to show in review."""
    assert engine.__all__ == PUBLIC
    assert dir(engine) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_used_and_is_documented(name: str) -> None:
    value = getattr(engine, name)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        assert isinstance(value, int), f"{name} needs no docstring only where it is a number"
        return
    # A dataclass without a docstring gets its signature for one.
    text = (inspect.getdoc(value) or "").strip()
    assert text and not text.startswith(f"{name}("), f"{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Enigne'"):
        engine.Enigne  # noqa: B018


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
