"""Error documents: what is kept, what is refused, what is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._wire.xml import MAX_ERROR_BYTES, parse_error
from engine.errors import ProtocolError


def test_an_s3_error() -> None:
    document = parse_error(
        b'<?xml version="1.0"?><Error><Code>AuthorizationHeaderMalformed</Code>'
        b"<Message>The region 'a' is\n wrong</Message><Region>eu-west-1</Region>"
        b"<RequestId>R1</RequestId><HostId>h</HostId></Error>"
    )
    assert document.code == "AuthorizationHeaderMalformed"
    assert document.message == "The region 'a' is wrong"
    assert document.request_id == "R1"
    assert document.facts == {"region": "eu-west-1"}


def test_an_sts_error() -> None:
    document = parse_error(
        b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        b"<Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>"
        b"<RequestId>R2</RequestId></ErrorResponse>"
    )
    assert (document.code, document.message, document.request_id) == ("AccessDenied", "no", "R2")


def test_tokens_and_signing_texts_are_never_kept() -> None:
    document = parse_error(
        b"<Error><Code>ExpiredToken</Code><Message>m</Message><Token-0>SECRET</Token-0>"
        b"<AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>SECRET</StringToSign>"
        b"<CanonicalRequest>SECRET</CanonicalRequest></Error>"
    )
    assert "SECRET" not in repr(document)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Bad Gateway</body></html>",
        b"<Error><Code>x</Error>",
        b"<Error>" + b" " * MAX_ERROR_BYTES + b"</Error>",
        b"<Error>" + b"<a>" * 20 + b"</a>" * 20 + b"</Error>",
        b'<!DOCTYPE Error [<!ENTITY a "b">]><Error><Code>&a;</Code></Error>',
        b'<!DOCTYPE Error SYSTEM "http://x/y.dtd"><Error><Code>c</Code></Error>',
        b"<Error><Code>&undefined;</Code></Error>",
    ],
)
def test_what_is_no_error_document_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_error(body)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_error(body)
