"""The project files of the distributions, made from the one of the tree. PURE.

``s3engine-core`` holds the code and needs no AWS SDK. ``s3engine`` holds no code: it needs exactly
that core, and aioboto3. So both can be installed, in any order, and no file has two owners; who
has a botocore of their own, which aioboto3's pin would move, installs the core alone.

What lives here: what differs. What must not: a version, or a dependency, that is written twice.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

FULL = "s3engine"
CORE = "s3engine-core"
# The SDK: the second data plane and IAM Identity Center. aiobotocore alone is enough for both.
SDK = "aioboto3"
AWS_EXTRA = ["aiobotocore>=2.25"]
# For work on the tree only.
_NOT_SHIPPED = "dev"
_SDIST = ["/engine", "/README.md", "/CHANGELOG.md", "/LICENSE", "/SECURITY.md"]


class UnexpectedProject(Exception):
    """The tree's project file is not what these rules were made for."""


def core_project(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The project file of ``s3engine-core``.

    Raises:
        UnexpectedProject: The tree does not need the SDK, or has an extra of the name ``aws``.
    """
    project = _common(tree, CORE, "the core, which needs no AWS SDK")
    needed = [line for line in project["dependencies"] if not line.startswith(SDK)]
    if len(needed) != len(project["dependencies"]) - 1:
        raise UnexpectedProject(f"not one dependency on {SDK}")
    if "aws" in project["optional-dependencies"]:
        raise UnexpectedProject("an extra aws")
    project["dependencies"] = needed
    project["optional-dependencies"]["aws"] = AWS_EXTRA
    targets = {"wheel": {"packages": ["engine"]}, "sdist": {"include": _SDIST}}
    return _document(tree, project, targets)


def full_project(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The project file of ``s3engine``: the core of the same version, and the SDK."""
    project = _common(tree, FULL, "")
    core = f"{CORE}=={project['version']}"
    sdk = [line for line in project["dependencies"] if line.startswith(SDK)]
    project["dependencies"] = [core, *sdk]
    project["optional-dependencies"] = {
        name: [f"{CORE}[{name}]=={project['version']}"] for name in project["optional-dependencies"]
    }
    # The command and the pytest plugin are the core's.
    for table in ("scripts", "entry-points"):
        project.pop(table, None)
    targets = {"wheel": {"bypass-selection": True}, "sdist": {"include": _SDIST[1:]}}
    return _document(tree, project, targets)


def _common(tree: Mapping[str, Any], name: str, addition: str) -> dict[str, Any]:
    project: dict[str, Any] = copy.deepcopy(dict(tree["project"]))
    if project["name"] != FULL:
        raise UnexpectedProject(f"a tree of {project['name']}")
    project["name"] = name
    if addition:
        project["description"] += f" ({addition})"
    project["optional-dependencies"].pop(_NOT_SHIPPED, None)
    return project


def _document(
    tree: Mapping[str, Any], project: dict[str, Any], targets: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "build-system": tree["build-system"],
        "project": project,
        "tool": {"hatch": {"build": {"targets": targets}}},
    }


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """``table`` as TOML. JSON's strings, numbers and lists of them are TOML's, too."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    text = "\n".join(lines) + "\n"
    for key, value in table.items():
        if isinstance(value, Mapping):
            text += to_toml(value, (*path, key))
    return text
