"""The COPY manifest: mandatory, true sizes, nothing twice."""

import json

import pytest

from engine.errors import LoadRefused
from engine.redshift import copy_manifest
from engine.redshift.copy_manifest import CopyManifest, StagedFile
from engine.types import S3Url


def test_json() -> None:
    files = [
        StagedFile(S3Url("b-1", "a/\u00e9'\\\".csv"), 10, '"e"'),
        StagedFile(S3Url("b-1", "b"), 0, ""),
    ]
    manifest = CopyManifest.of(files)
    assert manifest.size == 10
    data = manifest.encode()
    assert "\u00e9".encode() in data
    assert json.loads(data) == {
        "entries": [
            {
                "url": "s3://b-1/a/\u00e9'\\\".csv",
                "mandatory": True,
                "meta": {"content_length": 10},
            },
            {"url": "s3://b-1/b", "mandatory": True, "meta": {"content_length": 0}},
        ]
    }


@pytest.mark.parametrize(
    "files",
    [
        [],
        [StagedFile(S3Url("b-1", "a"), 1, ""), StagedFile(S3Url("b-1", "a"), 2, "")],
        [StagedFile(S3Url("b-1", "a"), -1, "")],
        [StagedFile(S3Url("b-1"), 1, "")],
    ],
)
def test_refused(files: list[StagedFile]) -> None:
    with pytest.raises(LoadRefused):
        CopyManifest.of(files)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoadRefused, match="Unicode"):
        CopyManifest.of([StagedFile(S3Url("b-1", "\ud800"), 1, "")]).encode()
    monkeypatch.setattr(copy_manifest, "MAX_MANIFEST_BYTES", 20)
    with pytest.raises(LoadRefused, match="1 files"):
        CopyManifest.of([StagedFile(S3Url("b-1", "a"), 1, "")]).encode()
