"""The README's example is under the type checker, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from engine.cli.app import COMMANDS

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_library_example_passes_mypy_strict(tmp_path: Path) -> None:
    example = next(block for block in blocks("python") if "async with Engine" in block)
    file = tmp_path / "example.py"
    file.write_text(example)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", file],
        capture_output=True,
        text=True,
        cwd=README.parent,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"^s3engine (\w+)", README.read_text(), flags=re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)
