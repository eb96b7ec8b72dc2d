"""Which proxy stands before which host."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.proxies import Proxies, Proxy

SECRET = "PASSWORD"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example", "http://proxy.example:80"),
        ("https://proxy.example/", "https://proxy.example:443"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        (f"http://user:{SECRET}@proxy.example:1", "http://proxy.example:1"),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(text: str, shown: str) -> None:
    proxy = Proxy.parse(text)
    assert str(proxy) == shown
    assert SECRET not in repr(proxy) and "Basic" not in repr(proxy)


def test_credentials_are_percent_decoded() -> None:
    assert Proxy.parse("http://Aladdin:open%20sesame@p").authorization == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # the example of RFC 7617
    )
    assert Proxy.parse("http://p").authorization == ""


@pytest.mark.parametrize(
    "text",
    [
        f"socks5://user:{SECRET}@host:1",
        f"http://user:{SECRET}@host:99999",
        f"http://user:{SECRET}@",
        f"http://user:{SECRET}@host/path",
        f"http://user:{SECRET}@host?x",
        f"http://user:{SECRET}@[::1",
        f"http://user:{SECRET}@a b",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Proxy.parse(text)
    assert SECRET not in str(caught.value)


def test_the_environment_and_the_argument() -> None:
    read = Proxies.read
    assert read({}).http is read({}).https is None
    both = {"HTTPS_PROXY": "http://big:1", "https_proxy": "http://small:2"}
    assert str(read(both).https) == "http://small:2"
    assert read(both).http is None
    assert str(read({"ALL_PROXY": "http://all:3"}).http) == "http://all:3"
    assert str(read({"HTTP_PROXY": "http://plain:4"}).http) == "http://plain:4"
    # Inside a CGI program a client's header "Proxy" arrives under this name.
    assert read({"HTTP_PROXY": "http://evil:4", "REQUEST_METHOD": "GET"}).http is None
    assert read(both, "none") == Proxies()
    given = read({**both, "NO_PROXY": "a, .b"}, "http://arg:5")
    assert (str(given.http), str(given.https), given.bypass) == (
        "http://arg:5",
        "http://arg:5",
        ("a", ".b"),
    )


@pytest.mark.parametrize(
    ("pattern", "host", "direct"),
    [
        ("*", "anything.example", True),
        ("example.com", "example.com", True),
        ("example.com", "S3.Example.COM.", True),
        (".example.com", "s3.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "s3.example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil", False),
        ("example.com:443", "example.com", True),
        ("example.com:80", "example.com", False),
        ("other.com,example.com", "example.com", True),
        ("other.com example.com", "example.com", True),
        ("", "example.com", False),
        (",", "example.com", False),
        (".", "example.com", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1:443", "192.0.2.1", True),
        ("192.0.2.1:80", "192.0.2.1", False),
        ("0.2.1", "192.0.2.1", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "10.example.com", False),
        ("fd00::1", "fd00::1", True),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("[fd00::1]:80", "fd00::1", False),
        ("fd00::/8", "fd12::1", True),
        ("", "127.0.0.1", True),
        ("", "localhost", True),
        ("", "::1", True),
        ("localhost", "192.0.2.1", False),
    ],
)
def test_who_is_asked_directly(pattern: str, host: str, direct: bool) -> None:
    proxies = Proxies.read({"https_proxy": "http://p:1", "no_proxy": pattern})
    assert (proxies.before(host, 443, secure=True) is None) is direct
    assert proxies.before("plain.example", 80, secure=False) is None
