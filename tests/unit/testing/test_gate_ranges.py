"""Ranges of objects through the gate: the right bytes, the right version, the right refusals."""

from __future__ import annotations

import base64
import hashlib

import pytest

from engine.testing.aws import AwsDouble

DATA = bytes(range(256)) * 1024
LAST = len(DATA) - 1
VERSIONED = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Status>Enabled</Status></VersioningConfiguration>"
)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=200000-", 200_000, LAST),
        ("bytes=-7", LAST - 6, LAST),
        ("bytes=0-", 0, LAST),
        (f"bytes={LAST}-{LAST + 1000}", LAST, LAST),
    ],
)
def test_a_range_is_those_bytes(aws: AwsDouble, asked: str, first: int, last: int) -> None:
    etag = aws.gate.put_object("bkt", "k", DATA)
    answer = aws.request("GET", "/bkt/k", headers={"Range": asked, "If-Match": etag})
    assert answer.status == 206
    assert answer.body == DATA[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"
    whole = aws.request("GET", "/bkt/k")
    assert whole.body == DATA
    of_one_answer = {"Date", "x-amz-request-id", "Content-Length", "Content-Range"}
    kept = [
        {name: value for name, value in a.headers.items() if name not in of_one_answer}
        for a in (answer, whole)
    ]
    names = {name.lower() for name in kept[1]}
    assert {"etag", "last-modified", "accept-ranges", "content-type"} <= names
    assert {k.lower(): v for k, v in kept[0].items()} == {k.lower(): v for k, v in kept[1].items()}


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=a-b", "bytes=0-1,5-6", "bytes=-"])
def test_what_is_no_range_is_the_whole(aws: AwsDouble, asked: str) -> None:
    aws.gate.put_object("bkt", "k", DATA)
    answer = aws.request("GET", "/bkt/k", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, DATA)


def test_ranges_that_nothing_is_in(aws: AwsDouble) -> None:
    aws.gate.put_object("bkt", "k", DATA)
    aws.gate.put_object("bkt", "empty", b"")
    for key, asked in (("k", f"bytes={LAST + 1}-"), ("k", "bytes=-0"), ("empty", "bytes=0-0")):
        answer = aws.request("GET", f"/bkt/{key}", headers={"Range": asked})
        assert (answer.status, b"<Code>InvalidRange</Code>" in answer.body) == (416, True)
    answer = aws.request("GET", "/bkt/none", headers={"Range": "bytes=0-0"})
    assert (answer.status, b"<Code>NoSuchKey</Code>" in answer.body) == (404, True)


def test_an_object_that_changes_between_two_ranges(aws: AwsDouble) -> None:
    aws.gate.put_object("bkt", "k", DATA)
    etag = aws.request("HEAD", "/bkt/k").headers["ETag"]
    pinned = {"Range": "bytes=10-19", "If-Match": etag}
    assert aws.request("GET", "/bkt/k", headers=pinned).body == DATA[10:20]
    other = DATA[::-1]
    aws.gate.put_object("bkt", "k", other)
    answer = aws.request("GET", "/bkt/k", headers=pinned)
    assert (answer.status, b"<Code>PreconditionFailed</Code>" in answer.body) == (412, True)
    free = aws.request("GET", "/bkt/k", headers={"Range": "bytes=10-19"})
    assert (free.status, free.body) == (206, other[10:20])


def test_ranges_of_versions(aws: AwsDouble) -> None:
    md5 = base64.b64encode(hashlib.md5(VERSIONED).digest()).decode()
    done = aws.request("PUT", "/bkt?versioning", VERSIONED, {"Content-MD5": md5})
    assert done.status == 200
    versions = [
        aws.request("PUT", "/bkt/k", data).headers["x-amz-version-id"]
        for data in (b"the first", b"and a second")
    ]
    for version, expected in zip(versions, (b"first", b" a se"), strict=True):
        target = f"/bkt/k?versionId={version}"
        start = 4 if expected == b"first" else 3
        asked = {"Range": f"bytes={start}-{start + 4}"}
        answer = aws.request("GET", target, headers=asked)
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["x-amz-version-id"] == version
    assert aws.request("GET", "/bkt/k", headers={"Range": "bytes=-6"}).body == b"second"
