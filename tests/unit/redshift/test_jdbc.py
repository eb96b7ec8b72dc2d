"""jdbc:redshift: URLs: the driver's forms, refusals, and no secret in anything printed."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.redshift.jdbc import JdbcUrl

CLUSTER = "wh.abc123xyz789.eu-west-1.redshift.amazonaws.com"
WORKGROUP = "wg.111122223333.us-east-2.redshift-serverless.amazonaws.com"


def test_plain_cluster_url() -> None:
    url = JdbcUrl.parse(f"jdbc:redshift://{CLUSTER}:5440/dev?UID=loader;PWD=p%3Bw%2B1")
    assert (url.host, url.port, url.database, url.iam) == (CLUSTER, 5440, "dev", False)
    assert (url.cluster_id, url.workgroup, url.region) == ("wh", None, "eu-west-1")
    assert (url.user, url.password, url.tls) == ("loader", "p;w+1", "verify-full")
    assert str(url) == f"jdbc:redshift://{CLUSTER}:5440/dev"
    assert "p;w" not in repr(url) and "p%3B" not in repr(url)


def test_serverless_host_and_default_port() -> None:
    url = JdbcUrl.parse(f"jdbc:redshift://{WORKGROUP}/dev;user=a&password=b")
    assert (url.cluster_id, url.workgroup, url.region) == (None, "wg", "us-east-2")
    assert (url.port, url.user, url.password) == (5439, "a", "b")


@pytest.mark.parametrize(
    ("text", "cluster", "workgroup", "region"),
    [
        ("jdbc:redshift:iam://wh:eu-west-1/dev", "wh", None, "eu-west-1"),
        ("jdbc:redshift:iam://redshift-serverless-wg:us-east-1/dev", None, "wg", "us-east-1"),
        (f"jdbc:redshift:iam://{CLUSTER}/dev", "wh", None, "eu-west-1"),
        (f"jdbc:redshift:iam://{CLUSTER}:5439/dev?Region=us-west-2", "wh", None, "us-west-2"),
        ("jdbc:redshift:iam://db.acme.example/dev?ClusterID=wh&Region=eu-west-1", "wh", None,
         "eu-west-1"),
    ],
)  # fmt: skip
def test_iam_forms(text: str, cluster: str | None, workgroup: str | None, region: str) -> None:
    url = JdbcUrl.parse(text)
    assert url.iam
    assert (url.cluster_id, url.workgroup, url.region) == (cluster, workgroup, region)
    assert JdbcUrl.parse(url) is url


@pytest.mark.parametrize(
    ("properties", "tls"),
    [
        ("", "verify-full"),
        ("?ssl=true", "verify-full"),
        ("?sslmode=verify-ca", "verify-ca"),
        ("?ssl=FALSE", "plain"),
        ("?ssl=false&sslmode=disable", "plain"),
    ],
)
def test_tls(properties: str, tls: str) -> None:
    assert JdbcUrl.parse("jdbc:redshift://h/db" + properties).tls == tls


@pytest.mark.parametrize(
    "text",
    [
        "postgres://loader:hunter2@h/db",
        "jdbc:postgresql://h/db",
        "jdbc:redshift:h/db",
        "jdbc:redshift://h",
        "jdbc:redshift://h/",
        "jdbc:redshift:///db",
        "jdbc:redshift://h:0/db",
        "jdbc:redshift://h:65536/db",
        "jdbc:redshift://h:eu-west-1/db",
        "jdbc:redshift://a,b/db",
        "jdbc:redshift://loader:hunter2@h/db",
        "jdbc:redshift:iam://loader:hunter2@h/db",
        "jdbc:redshift://h/db?PWD=hunter2;password=hunter2",
        "jdbc:redshift://h/db?pwd=hunter2;PWD=hunter2",
        "jdbc:redshift://h/db?PWD=hunter2;nonsense",
        "jdbc:redshift://h/db?PWD=hunter2%zz",
        "jdbc:redshift://h/db?PWD=hunter2%ff",
        "jdbc:redshift://h/db;PWD=hunter2?x=y",
        "jdbc:redshift://h/db?PWD=hunter2;sslmode=require",
        "jdbc:redshift://h/db?PWD=hunter2;sslmode=disable",
        "jdbc:redshift://h/db?PWD=hunter2;ssl=false;sslmode=verify-full",
        "jdbc:redshift://h/db?PWD=hunter2;ssl=maybe",
    ],
)
def test_refused_without_quoting_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        JdbcUrl.parse(text)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r} {error.__dict__}"
        error = error.__context__


_VALUE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    database=_VALUE.filter(lambda text: "\0" not in text),
    port=st.integers(1, 65535),
    password=_VALUE,
    separator=st.sampled_from(";&"),
    mark=st.sampled_from("?;"),
)
def test_round_trip(database: str, port: int, password: str, separator: str, mark: str) -> None:
    text = (
        f"jdbc:redshift://db.example:{port}/{quote(database, safe='')}{mark}"
        f"UID=me{separator}PWD={quote(password, safe='')}"
    )
    url = JdbcUrl.parse(text)
    assert (url.database, url.port, url.user, url.password) == (database, port, "me", password)
    if len(password) > 4 and password not in database:
        assert password not in repr(url)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(tail: str) -> None:
    try:
        JdbcUrl.parse("jdbc:redshift:" + tail)
    except UsageError:
        pass
