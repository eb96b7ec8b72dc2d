"""``jdbc:redshift:`` URLs, read as Redshift's JDBC driver reads them. PURE.

Grammar: the driver's ``Driver.java`` and
https://docs.aws.amazon.com/redshift/latest/mgmt/jdbc20-obtain-url.html
What lives here: text to frozen values. What must not: sockets, defaults from the environment,
and any message that quotes the properties, because ``PWD`` is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_plus

from engine.errors import UsageError

DEFAULT_PORT = 5439
PREFIX = "jdbc:redshift:"

TlsMode = Literal["plain", "verify-ca", "verify-full"]

_URL = re.compile(
    r"(?P<iam>iam:)?//(?P<host>[^:/?;]*)(?::(?P<port>[^/?;]*))?"
    r"(?P<slash>/(?P<database>[^?;]*))?(?P<mark>[?;])?(?P<properties>.*)",
    re.DOTALL,
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")
_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# The driver's own patterns leave one dot unescaped and let anything follow; here both ends hold.
_CLUSTER = re.compile(
    r"([^.]+)\.[^.]+\.([^.]+)\.redshift(?:-dev)?\.amazonaws\.com(?:\.cn)?", re.IGNORECASE
)
_WORKGROUP = re.compile(
    r"([^.]+)\.[^.]+\.([^.]+)\.redshift-serverless(?:-dev)?\.amazonaws\.com(?:\.cn)?",
    re.IGNORECASE,
)
_OLD_SERVERLESS = "redshift-serverless-"

_FORM = "Write it as jdbc:redshift://host:5439/database, or jdbc:redshift:iam://cluster:region/db"
# Two spellings of one thing; both at once are as ambiguous as one of them twice.
_ALIASES = {"uid": "user", "pwd": "password"}


@dataclass(frozen=True, slots=True, repr=False)
class JdbcUrl:
    """Where a Redshift database is and how it is reached.

    Attributes:
        host: Host name; for ``iam://cluster:region/db`` the cluster id or workgroup, which has
            to be looked up before anything can connect.
        port: 1..65535, 5439 where the URL has none.
        database: Name of the database.
        iam: Whether the password has to be got from IAM (GetClusterCredentials).
        cluster_id: The provisioned cluster, where the URL tells.
        workgroup: The serverless workgroup, where the URL tells.
        region: The AWS Region, where the URL tells.
        properties: All properties by lower-case name, decoded; ``uid`` and ``pwd`` stand under
            ``user`` and ``password``. Holds the password: never print it.
    """

    host: str
    port: int = DEFAULT_PORT
    database: str = ""
    iam: bool = False
    cluster_id: str | None = None
    workgroup: str | None = None
    region: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _tls_mode(self.properties)

    @classmethod
    def parse(cls, text: str | JdbcUrl) -> JdbcUrl:
        """Read a ``jdbc:redshift:`` URL.

        Raises:
            UsageError: Not such a URL, a property twice, several hosts, an unverified TLS mode.
                The message never quotes the URL or its properties.
        """
        if isinstance(text, JdbcUrl):
            return text
        if not text.startswith(PREFIX):
            raise UsageError("the database is not a jdbc:redshift: URL", fix=_FORM)
        found = _URL.fullmatch(text[len(PREFIX) :])
        if found is None:
            raise UsageError("the jdbc:redshift: URL has no //host", fix=_FORM)
        properties = _properties(found["mark"], found["properties"])
        host = _host(found["host"])
        database = _decoded(found["database"] or "", "database name")
        if not database or "\0" in database:
            raise UsageError("the jdbc:redshift: URL names no database", fix=_FORM)
        if found["iam"]:
            return _iam_url(host, found["port"], database, properties)
        port = _port(found["port"])
        return cls(host, port, database, False, *_names(host, properties), properties)

    @property
    def user(self) -> str | None:
        """The property UID or user."""
        return self.properties.get("user")

    @property
    def password(self) -> str | None:
        """The property PWD or password. A secret."""
        return self.properties.get("password")

    @property
    def tls(self) -> TlsMode:
        """``plain`` only where the URL says ssl=false; else a verified mode."""
        return _tls_mode(self.properties)

    def __str__(self) -> str:
        """The URL without its properties, safe to print."""
        kind = "iam:" if self.iam else ""
        return f"{PREFIX}{kind}//{self.host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        names = ",".join(sorted(self.properties))
        return f"JdbcUrl({self}, tls={self.tls}, properties={names or 'none'})"


def _properties(mark: str | None, text: str) -> dict[str, str]:
    """``a=b;c=d`` or ``a=b&c=d`` as a mapping by lower-case name."""
    if not text:
        return {}
    if mark is None:
        raise UsageError("the jdbc:redshift: URL has text after the host", fix=_FORM)
    if mark == ";" and "?" in text:
        # The driver would take all before the `?` as the database name.
        raise UsageError(
            "the properties of the jdbc:redshift: URL hold a bare '?'", fix="Write it as %3F"
        )
    properties: dict[str, str] = {}
    for item in re.split("[;&]", text):
        if not item:
            continue
        raw, equals, value = item.partition("=")
        if not equals or not _PROPERTY.fullmatch(raw):
            raise UsageError(
                "a property of the jdbc:redshift: URL is not name=value",
                fix="Encode ; + { } [ ] & = ? and blanks in values, as %3B for ;",
            )
        name = _ALIASES.get(raw.lower(), raw.lower())
        if name in properties:
            raise UsageError(f"the jdbc:redshift: URL has the property {raw} twice")
        properties[name] = _decoded(value, f"property {raw}")
    return properties


def _decoded(text: str, what: str) -> str:
    if _BAD_PERCENT.search(text):
        raise UsageError(f"the {what} of the jdbc:redshift: URL has a % that encodes nothing")
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        # The cause holds the bytes, which may be a password's.
        pass
    raise UsageError(f"the {what} of the jdbc:redshift: URL is not UTF-8")


def _host(text: str) -> str:
    if "," in text:
        raise UsageError(
            "the jdbc:redshift: URL lists several hosts", fix="Name one host; a load has one target"
        )
    if not _HOST.fullmatch(text):
        raise UsageError("the jdbc:redshift: URL has no usable host name", fix=_FORM)
    return text


def _port(text: str | None) -> int:
    if text is None:
        return DEFAULT_PORT
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise UsageError("the port of the jdbc:redshift: URL is not 1..65535", fix=_FORM)
    return int(text)


def _iam_url(host: str, port: str | None, database: str, properties: dict[str, str]) -> JdbcUrl:
    """The IAM form, where the place of the port may hold a Region and the host a cluster id."""
    if port is None or _PORT.fullmatch(port):
        names = _names(host, properties)
        return JdbcUrl(host, _port(port), database, True, *names, properties)
    if not _REGION.fullmatch(port):
        raise UsageError("after the host stands neither a port nor a Region", fix=_FORM)
    if host.startswith(_OLD_SERVERLESS):
        workgroup = host[len(_OLD_SERVERLESS) :]
        return JdbcUrl(host, DEFAULT_PORT, database, True, None, workgroup, port, properties)
    return JdbcUrl(host, DEFAULT_PORT, database, True, host, None, port, properties)


def _names(host: str, properties: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Cluster id, workgroup and Region: a property wins, for hosts under a custom domain."""
    cluster, workgroup, region = None, None, None
    if found := _CLUSTER.fullmatch(host):
        cluster, region = found[1], found[2]
    elif found := _WORKGROUP.fullmatch(host):
        workgroup, region = found[1], found[2]
    return properties.get("clusterid", cluster), workgroup, properties.get("region", region)


def _tls_mode(properties: Mapping[str, str]) -> TlsMode:
    ssl = properties.get("ssl", "true").lower()
    mode = properties.get("sslmode", "").lower()
    if ssl not in ("true", "false"):
        raise UsageError("the property ssl is neither true nor false")
    if ssl == "false":
        if mode not in ("", "disable"):
            raise UsageError("ssl=false and a verified sslmode contradict each other")
        return "plain"
    if mode in ("", "verify-full"):
        return "verify-full"
    if mode == "verify-ca":
        return "verify-ca"
    raise UsageError(
        "the sslmode of the jdbc:redshift: URL does not verify the server",
        fix="Use verify-full or verify-ca; ssl=false where the network itself is trusted",
    )
