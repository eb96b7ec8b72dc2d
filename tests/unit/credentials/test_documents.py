"""Documents of keys: whatever a source answers, it is keys or an error that repeats nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.credentials.documents import parse_time, read_keys
from engine.errors import CredentialsError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["AccessKeyId", "SecretAccessKey", "Token", "SessionToken", "Expiration", "Version", "code"]
)


@given(st.one_of(st.binary(max_size=60), st.dictionaries(_FIELDS, _JSON)))
def test_any_answer_is_keys_or_an_error(answer: bytes | dict[str, Any]) -> None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    try:
        document = read_keys(body, "the source")
        credentials = document.credentials("the source")
    except CredentialsError as error:
        assert error.headline.startswith("the source gave")
    else:
        assert isinstance(answer, dict)
        assert credentials.access_key_id == answer["AccessKeyId"] != ""


def test_an_error_repeats_nothing_of_what_was_sent() -> None:
    body = b'{"AccessKeyId": "ASIASECRET", "SecretAccessKey": ["hunter2"], "Token": "hunter3"}'
    with pytest.raises(CredentialsError) as caught:
        read_keys(body, "the source")
    error = caught.value
    assert "hunter" not in f"{error!r} {error} {error.__cause__}"
    assert "hunter2" not in repr(read_keys(b'{"SecretAccessKey": "hunter2"}', "the source"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 0.0),
        ("2026-01-02T03:04:05", 0.0),
        ("2026-01-02T03:04:05UTC", 0.0),
        ("2026-01-02T05:04:05+02:00", 0.0),
        ("2026-01-02T03:04:05.123456789Z", 0.123456),  # as tools in Go write it
        ("20260102T030405Z", 0.0),
    ],
)
def test_times_as_tools_write_them(text: str, seconds: float) -> None:
    found = parse_time(text)
    assert found is not None
    assert (found - datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)).total_seconds() == seconds


@given(st.text(max_size=30))
def test_no_text_makes_the_reading_of_times_fail(text: str) -> None:
    found = parse_time(text)
    assert found is None or found.tzinfo is not None
