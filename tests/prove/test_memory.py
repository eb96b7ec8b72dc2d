"""Buffers within their budget, by the engine's own figures and by the kernel's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fast_origin.build import CannotBuild, build
from benchmarks.fast_origin.process import OriginProcess
from engine.types import GiB, MiB
from tests.prove.memory import sizes

# What the process needs beside the buffers: the interpreter, TLS, the kernel's answers.
BESIDE = 64 * MiB
_LONG = [pytest.mark.prove, pytest.mark.timeout(900)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objects", "total", "budget", "transport"),
    [
        pytest.param(200, 64 * MiB, 64 * MiB, "https", id="short"),
        pytest.param(10_000, 20 * GiB, 256 * MiB, "https", id="256-https", marks=_LONG),
        pytest.param(10_000, 20 * GiB, 64 * MiB, "https", id="64-https", marks=_LONG),
        pytest.param(10_000, 20 * GiB, 64 * MiB, "http", id="64-http", marks=_LONG),
    ],
)
def test_buffers_keep_to_their_budget(
    tmp_path: Path, objects: int, total: int, budget: int, transport: str
) -> None:
    try:
        programs = build(tmp_path)
    except CannotBuild as error:
        if "failed for" in str(error):
            raise
        pytest.skip(f"no C compiler: {error}")
    groups = sizes(objects, total, min(100, objects // 10))
    with OriginProcess(programs, tmp_path, tls=programs.tls) as origin:
        job = {
            "endpoint": origin.endpoint(transport),
            "ca": origin.ca if transport == "https" else "",
            "folder": str(tmp_path / "files"),
            "sizes": groups,
            "each": objects // len(groups),
            "budget": budget,
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.prove.memory", json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(
        f"\n{objects} objects, {found['bytes'] / GiB:.2f} GiB, {transport}, budget "
        f"{budget // MiB} MiB: buffers at most {found['most'] / MiB:.1f} MiB "
        f"({found['samples']} samples), VmHWM {found['hwm'] / MiB:.1f} MiB"
    )
    assert found["failed"] == []
    assert found["bytes"] == sum(groups) * (objects // len(groups))
    assert found["most_sampled"] <= found["most"] <= found["budget"] == budget
    assert found["left"] == 0
    assert found["hwm"] <= budget + BESIDE
