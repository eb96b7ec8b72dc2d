"""Heads by template are those that the plain signer and builder make."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._wire.heads import HeadTemplate
from engine._wire.http11 import build_request
from engine._wire.sigv4 import Signer, encode_path, encode_query
from engine.errors import UsageError
from engine.types import Credentials
from tests.unit._wire.test_sigv4 import ANY_TEXT, NAMES, NOW, PAIRS, TOKENS, VALUES

HOLE = "x-amz-checksum-crc64nvme"
RESERVED = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256", HOLE)
SUMS = st.text("abcXYZ0189+/=-the-value", min_size=1, max_size=24)
# Within a second, over seconds, over midnight, and back as a corrected clock goes.
MOMENTS = st.sampled_from([0.0, 0.3, 1.0, 59.5, 43_191.0, 43_192.5, 43_193.0, -900.0])


def lines_of(head: bytes) -> tuple[bytes, list[bytes]]:
    """The first line, and the fields in an order of their own: theirs is free."""
    first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return first, sorted(fields)


@settings(deadline=None)
@given(
    fixed=st.dictionaries(NAMES, VALUES, max_size=4),
    token=TOKENS,
    method=st.sampled_from(["GET", "PUT"]),
    with_hole=st.booleans(),
    calls=st.lists(
        st.tuples(ANY_TEXT, PAIRS, SUMS, MOMENTS, st.booleans()), min_size=1, max_size=5
    ),
)
def test_heads_equal_the_plain_signers(
    fixed: dict[str, str],
    token: str | None,
    method: str,
    with_hole: bool,
    calls: list[tuple[str, list[tuple[str, str]], str, float, bool]],
) -> None:
    signer = Signer("eu-west-1")
    signed = {"host": "s3.example:9000"} | {k: v for k, v in fixed.items() if k not in RESERVED}
    agent = {"user-agent": "s3engine/1 the-value"}
    template = HeadTemplate(signer, method, signed, agent, HOLE if with_hole else "")
    leases = [Credentials("AKID", "secret", token), Credentials("AKID2", "other", token)]
    for key, parameters, value, seconds, renewed in calls:
        path, query = encode_path(f"/b/{key}"), encode_query(parameters)
        now = NOW + dt.timedelta(seconds=seconds)
        plain = {"content-length": "5", "range": "bytes=0-4"}
        varying = {HOLE: value} if with_hole else {}
        expected = signer.sign_head(
            leases[renewed], method, path, signed | varying, now=now, query=query
        )
        target = f"{path}?{query}" if query else path
        got = template.head(leases[renewed], now, path, query, value if with_hole else "", plain)
        assert lines_of(got) == lines_of(build_request(method, target, expected | agent | plain))


@pytest.mark.parametrize("bad", ["a\r\nb", "a\0", "h\u00e9", "a b"])
def test_what_could_end_a_line_is_refused(bad: str) -> None:
    template = HeadTemplate(Signer("eu-west-1"), "PUT", {"host": "h"}, {}, HOLE)
    keys = Credentials("AKID", "secret")
    with pytest.raises(UsageError):
        template.head(keys, NOW, "/b/k", "", bad, {})
    with pytest.raises(UsageError):
        template.head(keys, NOW, f"/b/{bad}", "", "sum", {})
    if bad != "a b":
        with pytest.raises(UsageError):
            template.head(keys, NOW, "/b/k", "", "sum", {"if-match": bad})
        with pytest.raises(UsageError):
            HeadTemplate(Signer("eu-west-1"), "PUT", {"host": bad}, {}).head(keys, NOW, "/b/k")
