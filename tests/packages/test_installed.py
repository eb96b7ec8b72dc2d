"""The core installed: alone, beside the newest packages of a user, and with aiobotocore alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.packages.conftest import Built, Job
from tests.packages.venvs import NoIndex, Venv

# Seconds for a test: installations, and a whole suite in one of them, on a busy machine.
_SECONDS = 1_500
pytestmark = [pytest.mark.packages, pytest.mark.slow, pytest.mark.timeout(_SECONDS)]

ROOT = Path(__file__).parents[2]
SDKS = ("aioboto3", "aiobotocore", "boto3", "botocore")
# What the suite of the planes needs beside the engine; its servers run in that environment, too.
SUITE = (
    "moto[server]", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "hypothesis",
    "trustme",
)  # fmt: skip
_SUITE_SECONDS = 900


def has(venv: Venv, *packages: str) -> list[str]:
    code = f"import importlib.util as u\nprint([p for p in {packages!r} if u.find_spec(p)])"
    found: list[str] = eval(venv.run(code))
    return found


def test_the_main_job_needs_no_sdk(bare: Venv, main_job: Job) -> None:
    assert has(bare, *SDKS) == []
    bare.check()
    main_job(bare)


def test_what_needs_an_sdk_says_so_by_name(
    bare: Venv, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cli.conftest.program", lambda: [bare.program])
    plane = cli.run("cp", cli.file("f"), cli.url("f"), "--data-plane", "aws").check(2)
    assert "aiobotocore is not installed" in plane.err
    assert "pip install 's3engine-core[aws]'" in plane.err
    code = (
        "import anyio\n"
        "from engine._aws.sso import SsoClient\n"
        "from engine.config import Endpoints\n"
        "from engine import UsageError\n"
        "client = SsoClient(Endpoints(), 'us-east-1', 'ua', portal_url='http://127.0.0.1:9')\n"
        "try:\n"
        "    anyio.run(client.get_role_credentials, '111122223333', 'Admin', 'token')\n"
        "except UsageError as error:\n"
        "    print(error.fix)\n"
    )
    assert "s3engine-core[aws]" in bare.run(code)


def test_beside_the_newest_boto3_awswrangler_and_s3fs(
    users: Venv, built: Built, main_job: Job, tmp_path: Path
) -> None:
    """None of a user's packages moves, whichever they have. The newest s3fs holds botocore back
    for itself (by aiobotocore), so it comes second."""
    _install_beside(users, built, ("boto3", "botocore", "awswrangler"))
    assert has(users, "aioboto3", "aiobotocore") == []
    users.check()
    main_job(users)

    # boto3 and botocore come in pairs of one version; left to itself pip tries a hundred of them.
    users.install("--upgrade", "s3fs")
    users.install(f"boto3=={users.versions()['botocore']}")
    assert has(users, "aioboto3") == []
    _install_beside(users, built, ("boto3", "botocore", "awswrangler", "s3fs", "aiobotocore"))
    users.check()
    users.run("import boto3, s3fs, awswrangler, engine; print(engine.Engine)")

    _suite_over_aiobotocore_alone(users, tmp_path)


def _install_beside(users: Venv, built: Built, named: tuple[str, ...]) -> None:
    before = users.versions()
    users.install("--force-reinstall", "--no-deps", str(built.core_wheel))
    users.install(str(built.core_wheel))
    after = users.versions()
    assert {name: after[name] for name in before if name != "s3engine-core"} == {
        name: version for name, version in before.items() if name != "s3engine-core"
    }
    print(f"{'':2}beside " + ", ".join(f"{name} {after[name]}" for name in named))


def _suite_over_aiobotocore_alone(venv: Venv, folder: Path) -> None:
    """The second plane's conformance suite, of the installed code: the tree is not in the path."""
    kept = venv.versions()["aiobotocore"]
    venv.install(*SUITE)
    assert venv.versions()["aiobotocore"] == kept
    assert has(venv, "aioboto3") == []
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", folder / "suite" / "tests", ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", folder / "suite")
    line = [
        venv.python, "-m", "pytest", "tests/conformance", "-m", "not interop", "-k", "aws",
        "-q", "-n", "2", "-p", "no:cacheprovider",
    ]  # fmt: skip
    done = subprocess.run(
        line, cwd=folder / "suite", capture_output=True, text=True, timeout=_SUITE_SECONDS
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(f"  aiobotocore {kept} alone: {done.stdout.strip().splitlines()[-1]}")


def test_both_distributions_at_once_are_one_installation(tmp_path: Path, built: Built) -> None:
    """In either order, and the code stays whichever of them goes last."""
    venv = Venv.make(tmp_path / "venv")
    try:
        venv.install("--no-deps", str(built.full_wheel), str(built.core_wheel))
    except NoIndex as error:
        pytest.skip(f"no package index: {error}")
    assert {"s3engine", "s3engine-core"} <= set(venv.versions())
    subprocess.run(
        [venv.python, "-m", "pip", "uninstall", "-y", "-q", "s3engine"], check=True, timeout=60
    )
    assert venv.run("import engine.version; print(engine.version.VERSION)")
