"""Build both distributions: ``python -m distributions FOLDER``, by ``make dist``.

What lives here: copying, and hatchling as a program. What must not: what the projects say.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from distributions.projects import CORE, FULL, core_project, full_project, to_toml

ROOT = Path(__file__).parents[1]
_TEXTS = ("README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md")


def build(target: Path) -> list[Path]:
    """A wheel and an sdist of each into ``target``; returns their paths."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    target.mkdir(parents=True, exist_ok=True)
    before = set(target.iterdir())
    with tempfile.TemporaryDirectory(prefix="s3engine-dist-") as folder:
        for name, project in ((CORE, core_project(tree)), (FULL, full_project(tree))):
            _build_one(Path(folder) / name, project, target, with_code=name == CORE)
    return sorted(set(target.iterdir()) - before)


def _build_one(folder: Path, project: dict[str, Any], target: Path, *, with_code: bool) -> None:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(to_toml(project))
    for name in _TEXTS:
        shutil.copy2(ROOT / name, folder)
    if with_code:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / "engine", folder / "engine", ignore=ignored)
    line = [sys.executable, "-m", "hatchling", "build", "-d", str(target.resolve())]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{project['project']['name']} could not be built:\n{done.stderr}")


if __name__ == "__main__":
    for path in build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")):
        print(path)
