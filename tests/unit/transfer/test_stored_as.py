"""What a file's name and time become, and what is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.transfer.stored_as import content_type_of, mtime_of, mtime_text
from engine.types import ObjectInfo, S3Url


def info(mtime: str) -> ObjectInfo:
    return ObjectInfo(S3Url("bucket", "key"), 0, '"x"', metadata={"mtime": mtime})


@given(st.integers(-(10**20), 10**20))
def test_a_time_comes_back_to_the_nanosecond(nanos: int) -> None:
    assert mtime_of(info(mtime_text(nanos))) == nanos


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1354040105.123456789", 1_354_040_105_123_456_789),  # rclone
        ("1514764799", 1_514_764_799_000_000_000),  # s3fs
        ("1.5", 1_500_000_000),
        ("-1.5", -1_500_000_000),
        ("0.0000000019", 1),
        ("2017-09-24 19:53:52.000000000 +0000", None),
        ("1e9", None),
        ("", None),
    ],
)
def test_times_of_other_tools_are_read(text: str, nanos: int | None) -> None:
    assert mtime_of(info(text)) == nanos


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dump/day.csv", "text/csv"),
        ("page.html", "text/html"),
        ("day.csv.gz", "application/gzip"),
        ("day.json.bz2", "application/x-bzip2"),
        ("dump.v1/README", None),
        ("<bytes>", None),
        ("data:,x.csv", "text/csv"),
    ],
)
def test_types_by_name(name: str, kind: str | None) -> None:
    assert content_type_of(name) == kind
