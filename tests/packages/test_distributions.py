"""What is in the distributions, and what their metadata promises. No index is needed here."""

from __future__ import annotations

import copy
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from distributions.projects import UnexpectedProject, core_project, full_project, to_toml
from engine.version import VERSION
from tests.packages.conftest import Built

ROOT = Path(__file__).parents[2]
TREE = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_SHIPPED = ("tests", "benchmarks", "distributions", "constraints.txt", "__pycache__")


def names(path: Path) -> list[str]:
    """The files of a wheel, or of an sdist without its outer folder."""
    if path.suffix == ".whl":
        return zipfile.ZipFile(path).namelist()
    with tarfile.open(path) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def metadata(wheel: Path) -> Message:
    (name,) = (name for name in names(wheel) if name.endswith("METADATA"))
    return HeaderParser().parsestr(zipfile.ZipFile(wheel).read(name).decode())


@pytest.mark.slow
def test_the_core_holds_the_whole_package_and_nothing_else(built: Built) -> None:
    code = {f"{path.relative_to(ROOT)}" for path in (ROOT / "engine").rglob("*.py")}
    for path in (built.core_wheel, built.core_sdist):
        found = names(path)
        assert code | {"engine/py.typed"} <= set(found)
        assert any(name.endswith("LICENSE") for name in found)
        assert [n for n in found if set(n.split("/")) & {*NOT_SHIPPED}] == []


@pytest.mark.slow
def test_the_full_one_holds_no_code_so_no_file_has_two_owners(built: Built) -> None:
    for path in (built.full_wheel, built.full_sdist):
        found = names(path)
        assert [name for name in found if name.endswith(".py")] == []
        assert any(name.endswith("LICENSE") for name in found)


@pytest.mark.slow
def test_the_metadata(built: Built) -> None:
    core, full = metadata(built.core_wheel), metadata(built.full_wheel)
    assert core["Version"] == full["Version"] == VERSION
    needed = core.get_all("Requires-Dist") or []
    always = [line for line in needed if "extra ==" not in line]
    assert [line for line in always if "boto" in line] == []
    assert [line for line in needed if line.endswith("extra == 'aws'")] == [
        "aiobotocore>=2.25; extra == 'aws'"
    ]
    brought = full.get_all("Requires-Dist") or []
    assert f"s3engine-core=={VERSION}" in brought
    assert any(line.startswith("aioboto3") for line in brought)
    extras = set(core.get_all("Provides-Extra") or []) - {"aws"}
    assert extras == set(full.get_all("Provides-Extra") or []) == {"fast", "sharing", "testing"}
    assert "no AWS SDK" in core["Summary"]
    assert core["License-Expression"] == full["License-Expression"] == "Apache-2.0"


def test_what_is_written_is_what_was_meant() -> None:
    for project in (core_project(TREE), full_project(TREE)):
        assert tomllib.loads(to_toml(project)) == project


def test_a_tree_that_these_rules_do_not_know_is_refused() -> None:
    for change in ("name", "dependencies", "aws"):
        tree = copy.deepcopy(TREE)
        if change == "aws":
            tree["project"]["optional-dependencies"]["aws"] = []
        else:
            tree["project"][change] = [] if change == "dependencies" else "other"
        with pytest.raises(UnexpectedProject):
            core_project(tree)
