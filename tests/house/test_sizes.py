"""Sizes of files and functions, docstrings, and what no file of the house may hold."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Put together here, so that this file does not hold them itself.
_SLASH = "/"
FORBIDDEN = tuple(
    part + end
    for part, end in (
        (_SLASH + "work", _SLASH),
        (_SLASH + "root", _SLASH),
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("index", "-url"),
        ("index", "_url"),
        ("PIP_", "INDEX"),
        ("arti", "factory"),
        ("codeartifact", "."),
    )
)


@cache
def _tracked() -> tuple[Path, ...]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    if done.returncode != 0:
        pytest.skip("the tree is not a git clone, so no file is tracked")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return tuple(path for path in paths if path.is_file())


@cache
def _source(folder: str) -> dict[Path, str]:
    return {
        path.relative_to(ROOT): path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def _sources(*folders: str) -> dict[Path, str]:
    """Path below the root -> text of every Python file of the folders."""
    return {path: text for folder in folders for path, text in _source(folder).items()}


@cache
def _parsed(folder: str) -> dict[Path, ast.Module]:
    """Parsing takes seconds: each file once."""
    return {path: ast.parse(text) for path, text in _source(folder).items()}


def _trees(*folders: str) -> dict[Path, ast.Module]:
    return {path: tree for folder in folders for path, tree in _parsed(folder).items()}


def _all_trees() -> dict[Path, ast.Module]:
    return _trees("engine", "tests", "benchmarks", "distributions")


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path): text.count("\n")
        for path, text in _sources("engine", "tests", "benchmarks", "distributions").items()
    }
    assert len(lengths) > 100
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    """From ``def`` to the last line; decorators do not count."""
    found = [
        f"{path}:{node.lineno} {node.name} has {lines} lines"
        for path, tree in _all_trees().items()
        for node in _functions(tree)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert found == []


def test_every_module_says_what_lives_in_it() -> None:
    """All but an empty file, in which nothing lives."""
    found = [
        str(path)
        for path, tree in _trees("engine").items()
        if tree.body and not ast.get_docstring(tree)
    ]
    assert found == []


def test_every_public_class_and_function_has_a_docstring() -> None:
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in _trees("engine").items()
        if not any(part.startswith("_") and part != "__init__.py" for part in path.parts)
        for node in tree.body
        if isinstance(node, Function | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert found == []


def test_the_package_never_prints() -> None:
    """stdout is data and belongs to the command, which writes through click."""
    found = [
        f"{path}:{line}"
        for path, tree in _trees("engine").items()
        for line, name in _calls(tree)
        if name in ("print", "builtins.print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert found == []


def test_no_task_is_started_outside_of_a_task_group() -> None:
    """A task that nobody waits for loses its error, and outlives what it works for."""
    found = [
        f"{path}:{line} {name}"
        for path, tree in _trees("engine").items()
        if "testing" not in path.parts and path.name != "shield.py"  # which waits for its task
        for line, name in _calls(tree)
        if name.rpartition(".")[2] in ("create_task", "ensure_future")
    ]
    assert found == []


def test_every_skipped_test_says_why() -> None:
    marks = ("skip", "skipif", "xfail")
    found = []
    for path, tree in _trees("tests").items():
        with_reason = {
            id(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _has_reason(node)
        }
        found += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in marks
            and ast.unparse(node.value) == "pytest.mark"
            and id(node) not in with_reason
        ]
    assert found == []


def _has_reason(call: ast.Call) -> bool:
    """``skip`` may have its reason as the one positional argument."""
    if any(word.arg == "reason" and ast.unparse(word.value) != "''" for word in call.keywords):
        return True
    return bool(call.args) and ast.unparse(call.func).endswith(".skip")


def test_no_tracked_file_names_a_package_index_or_a_place_of_one_machine() -> None:
    found = []
    for path in _tracked():
        text = path.read_bytes().decode("utf-8", "replace").lower()
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word.lower() in text]
    assert found == []
