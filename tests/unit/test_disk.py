"""Renaming to a name that nothing has, by each of its ways."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine import disk


def _no_links(*args: object, **named: object) -> None:
    raise PermissionError(errno.EPERM, "no second names here")


@pytest.mark.parametrize("way", ["the call", "a call that is refused", "links", "looking"])
def test_nothing_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "a call that is refused":
        monkeypatch.setattr(disk, "_renameat2", lambda: lambda *_: errno.EINVAL)
    elif way != "the call":
        monkeypatch.setattr(disk, "_renameat2", lambda: None)
    if way == "looking":
        monkeypatch.setattr(os, "link", _no_links)
    (tmp_path / "one").write_text("one")
    (tmp_path / "gone").symlink_to("nowhere")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        disk.rename_new("one", "new", at=folder)
        disk.rename_new(str(tmp_path / "new"), str(tmp_path / "newer"))
        (tmp_path / "two").write_text("two")
        for there in ("two", "gone"):
            with pytest.raises(FileExistsError):
                disk.rename_new("newer", there, at=folder)
        with pytest.raises(FileNotFoundError):
            disk.rename_new("nothing", "name", at=folder)
        with pytest.raises(FileNotFoundError):
            disk.rename_new(str(tmp_path / "two"), str(tmp_path / "no folder" / "two"))
    finally:
        os.close(folder)
    left = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.is_symlink()}
    assert left == {"newer": "one", "two": "two"}
