"""Nothing wrong under the final name, at whatever file call a process dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.transfer.temporaries import is_temporary
from tests.integration.conftest import Scene


@pytest.mark.parametrize(
    ("how", "old"),
    [("tree", ""), ("tree", "old"), ("one", ""), ("one", "old"), ("new", "")],
)
def test_a_small_download_dies_at_each_call(
    scene: Scene, tmp_path: Path, how: str, old: str
) -> None:
    scene.aws.gate.put_object(scene.bucket, "t/d/file", b"new bytes")
    user = scene.aws.gate.add_user("111122223333", f"dies{how}{old}", allow=[("s3:*", "*")])
    arguments = [scene.aws.endpoint, scene.aws.region, user.access_key_id, user.secret_access_key]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.integration.dies_at_calls",
            *(*arguments, scene.url("t/"), str(tmp_path), how, old),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    deaths = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    states = [(state.split(" ", 1)[0], state.split(" ", 1)[1], mode) for state, mode in deaths]
    before, whole = old or "absent", "new bytes"
    assert {there for _, there, _ in states} == {before, whole}
    # Once it is there it stays, and it is there only after its bytes are on the disk.
    calls = [call for call, _, _ in states]
    first = next(number for number, (_, there, _) in enumerate(states) if there == whole)
    assert all(there == whole for _, there, _ in states[first:])
    assert calls[first - 1] == ("rename_new" if how == "new" else "replace")
    assert "fsync" in calls[: first - 1]
    assert "fsync" in calls[first:], "the name was not made durable"
    assert calls[-1] == "none"
    # New files get what the umask leaves, replaced ones keep what they had.
    assert states[-1][2] == ("0o640" if old else "0o644")
    left = set(os.listdir(tmp_path / "d")) - {"file"}
    assert left and all(is_temporary(name) for name in left)
