"""Signatures byte for byte as botocore makes them."""

from __future__ import annotations

import datetime as dt
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._wire.sigv4 import (
    EMPTY_SHA256,
    Signer,
    SigningKeys,
    check_value,
    encode_path,
    encode_query,
)
from engine.errors import UsageError
from engine.types import Credentials

NOW = dt.datetime(2026, 11, 24, 12, 0, 7, tzinfo=dt.UTC)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
NAMES = st.from_regex(r"x-amz-[a-z][a-z0-9-]{0,20}", fullmatch=True)
TOKENS = st.one_of(st.none(), st.text("abcXYZ0+/=", min_size=1, max_size=40))
PAIRS = st.lists(st.tuples(ANY_TEXT.filter(bool), ANY_TEXT), max_size=4)


def boto(auth: Any, url: str, method: str, headers: dict[str, str], body: bytes = b"") -> Any:
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    with patch("botocore.auth.get_current_datetime", return_value=NOW):
        auth.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@settings(deadline=None)
@given(
    key=ANY_TEXT,
    parameters=PAIRS,
    headers=st.dictionaries(NAMES, VALUES, max_size=5),
    token=TOKENS,
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
)
def test_s3_heads_equal_botocores(
    key: str,
    parameters: list[tuple[str, str]],
    headers: dict[str, str],
    token: str | None,
    method: str,
) -> None:
    path, query = encode_path(f"/b/{key}"), encode_query(parameters)
    reserved = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
    given_headers = {k: v for k, v in headers.items() if k not in reserved}
    given_headers = {"host": "s3.example:9000", **given_headers}
    ours = Signer("eu-west-1").sign_head(
        Credentials("AKID", "secret", token), method, path, given_headers, now=NOW, query=query
    )
    auth = S3SigV4Auth(BotoCredentials("AKID", "secret", token), "s3", "eu-west-1")
    url = f"http://s3.example:9000{path}" + (f"?{query}" if query else "")
    assert ours == boto(auth, url, method, given_headers)


@settings(deadline=None)
@given(token=TOKENS, parameters=PAIRS)
def test_sts_heads_equal_botocores(token: str | None, parameters: list[tuple[str, str]]) -> None:
    query = encode_query(parameters)
    headers = {"host": "sts.eu-west-1.amazonaws.com", "content-type": "application/x-amz-json-1.0"}
    ours = Signer("eu-west-1", "sts").sign_head(
        Credentials("AKID", "secret", token),
        "POST",
        "/",
        headers,
        now=NOW,
        query=query,
        payload_hash=EMPTY_SHA256,
    )
    auth = SigV4Auth(BotoCredentials("AKID", "secret", token), "sts", "eu-west-1")
    url = "https://sts.eu-west-1.amazonaws.com/" + (f"?{query}" if query else "")
    assert ours == boto(auth, url, "POST", headers)


@settings(deadline=None)
@given(key=ANY_TEXT)
def test_a_path_is_encoded_once_and_keeps_its_slashes(key: str) -> None:
    path = encode_path(key)
    assert path == quote(key, safe="/~")
    assert path.count("/") == key.count("/")


@pytest.mark.parametrize("key", ["a//b", "./a", "a/../b", "/", "a/", "%41", "a b+c~"])
def test_a_path_is_never_normalised(key: str) -> None:
    assert encode_path(key) == key.replace("%", "%25").replace(" ", "%20").replace("+", "%2B")


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b"])
def test_line_breaks_and_nul_are_refused_everywhere(bad: str) -> None:
    with pytest.raises(UsageError):
        encode_path(bad)
    with pytest.raises(UsageError) as caught:
        check_value("x-amz-meta-a", bad)
    assert bad not in str(caught.value)
    signer, keys = Signer("r"), Credentials("AKID", "s", bad)
    with pytest.raises(UsageError) as caught:
        signer.sign_head(keys, "GET", "/", {"host": "h"}, now=NOW)
    assert bad not in str(caught.value)
    with pytest.raises(UsageError):
        signer.sign_head(Credentials("A", "s"), "GET", f"/{bad}", {"host": "h"}, now=NOW)
    with pytest.raises(UsageError):
        signer.sign_head(Credentials(bad, "s"), "GET", "/", {"host": "h"}, now=NOW)


def test_only_s3_may_sign_paths_that_are_not_normalised() -> None:
    with pytest.raises(UsageError):
        Signer("r", "sts").sign_head(Credentials("A", "s"), "GET", "/a//b", {}, now=NOW)


def test_keys_are_cached_per_day_and_credentials_and_bounded() -> None:
    keys = SigningKeys()
    credentials = Credentials("AKID", "secret")
    first = keys.get(credentials, "20261124", "r", "s3")
    assert keys.get(credentials, "20261124", "r", "s3") is first
    assert keys.get(credentials, "20261125", "r", "s3") != first
    for day in range(50):
        keys.get(credentials, str(day), "r", "s3")
    assert repr(keys) == "<SigningKeys 8 of 8>"
    assert "secret" not in repr(keys) + repr(Signer("r"))
