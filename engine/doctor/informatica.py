"""A connection of Informatica's Amazon S3 V2 or Redshift V2 connector, read by its property names.

Names are compared without case, blanks and signs, so the names of the dialog, of an export and of
a script all do (``informatica_names.py``). What must not live here: the form of the file
(``connection_file.py``), what is done with the values.
https://docs.informatica.com/integration-cloud/data-integration-connectors.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from engine.doctor.connection_file import Property, read_properties
from engine.doctor.findings import Finding, warning
from engine.doctor.informatica_names import PASSED_OVER, REFUSED, REGIONS, TITLES, plain
from engine.errors import UsageError
from engine.types import Credentials, S3Url

_CODE = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# The values by which a dialog says that there is none.
_NOTHING = frozenset({"", "none", "null"})


@dataclass(frozen=True, slots=True)
class Connection:
    """What of a connection says how S3 is reached.

    Attributes:
        ec2: Use EC2 Role to Assume Role; None where it is not said.
        duration: Temporary Credential Duration, seconds; None where it is not said.
        database_role_arn: The second role, by which Redshift V2 gets a database login.
        notes: What the engine does otherwise, or does not take.
    """

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    ec2: bool | None = None
    url: S3Url | None = None
    region: str = ""
    endpoint: str = ""
    duration: int | None = None
    profile: str = ""
    profile_file: str = ""
    database_role_arn: str = ""
    notes: tuple[Finding, ...] = ()

    @property
    def keys(self) -> Credentials | None:
        """Access Key and Secret Key, or None."""
        return Credentials(self.access_key, self.secret_key) if self.access_key else None

    @property
    def source(self) -> str:
        """The name of the source of credentials, where it is not the keys."""
        if self.ec2:
            return "ec2"
        return "profile" if self.profile or self.profile_file else "default"

    @property
    def lacks_source(self) -> bool:
        """A role, and nothing to assume it with: no keys, no profile, and EC2 said to be off."""
        named = self.access_key or self.profile or self.profile_file
        return bool(self.role_arn) and self.ec2 is False and not named


def read_connection(text: str) -> Connection:
    """Read a connection file.

    Raises:
        UsageError: Not such a file, or properties that contradict each other.
    """
    connection = Connection()
    notes: list[Finding] = []
    for item in read_properties(text):
        known, value = plain(item.name), item.value.strip()
        if known in _TAKEN:
            if value.casefold() not in _NOTHING:
                connection = _TAKEN[known](connection, value)
        elif known in REFUSED:
            if value.casefold() not in {*_NOTHING, "false"}:
                notes.append(warning("connection", f"{REFUSED[known]} (property {item.name!r})"))
        elif known not in PASSED_OVER:
            notes += _unknown(item)
    _check(connection)
    return replace(connection, notes=tuple(notes))


def _unknown(item: Property) -> Iterator[Finding]:
    """The name stands last: what follows a name like a secret's is taken for the secret."""
    text = f"not a property that is known: {item.name!r}"
    variable = item.name.removeprefix("export ").strip()
    if variable.startswith("AWS_"):
        yield warning(
            "connection",
            text,
            "A variable of the environment is not read from here: set it, and run the doctor",
        )
        return
    close = get_close_matches(plain(item.name), [*_TAKEN, *REFUSED, *PASSED_OVER], n=1)
    if close and close[0] in TITLES:
        yield warning("connection", text, f"Did you mean {TITLES[close[0]]}?")
    elif not item.about:
        yield warning("connection", text)


def _check(connection: Connection) -> None:
    if bool(connection.access_key) != bool(connection.secret_key):
        raise UsageError(
            "the connection has one of Access Key and Secret Key", fix="Give both or none"
        )
    if connection.ec2 and connection.access_key:
        raise UsageError(
            "the connection has keys and Use EC2 Role to Assume Role",
            fix="Take the keys out, or set it to false: it is not clear which of them is meant",
        )
    if connection.ec2 and not connection.role_arn:
        raise UsageError(
            "Use EC2 Role to Assume Role without an IAM Role ARN", fix="Give the role to assume"
        )


Take = Callable[[Connection, str], Connection]


def _into(name: str) -> Take:
    def take(connection: Connection, value: str) -> Connection:
        return replace(connection, **{name: value})  # type: ignore[arg-type]  # all are texts

    return take


def _ec2(connection: Connection, value: str) -> Connection:
    return replace(connection, ec2=value.casefold() in ("true", "yes", "1", "enabled"))


def _folder(connection: Connection, value: str) -> Connection:
    url = value if value.startswith("s3://") else f"s3://{value.strip('/')}/"
    return replace(connection, url=S3Url.parse(url))


def _bucket(connection: Connection, value: str) -> Connection:
    return connection if connection.url else _folder(connection, value)


def _region(connection: Connection, value: str) -> Connection:
    code = value if _CODE.fullmatch(value) else REGIONS.get(plain(value))
    if code is None:
        close = get_close_matches(plain(value), REGIONS, n=1)
        hint = f"Did you mean {REGIONS[close[0]]}?" if close else "Write its code: eu-west-1"
        raise UsageError(f"not a region: {value!r}", fix=hint)
    return replace(connection, region=code)


def _duration(connection: Connection, value: str) -> Connection:
    if not value.isdecimal():
        raise UsageError(f"Temporary Credential Duration is not in seconds: {value!r}")
    return replace(connection, duration=int(value))


_TAKEN: dict[str, Take] = {
    "accesskey": _into("access_key"),
    "accesskeyid": _into("access_key"),
    "credentialprofilefilepath": _into("profile_file"),
    "externalid": _into("external_id"),
    "folderpath": _folder,
    "iamrolearn": _into("role_arn"),
    "profilename": _into("profile"),
    "redshiftiamrolearn": _into("database_role_arn"),
    "regionname": _region,
    "restendpoint": _into("endpoint"),
    "s3bucketname": _bucket,
    "s3iamrolearn": _into("role_arn"),
    "secretaccesskey": _into("secret_key"),
    "secretkey": _into("secret_key"),
    "temporarycredentialduration": _duration,
    "useec2roletoassumerole": _ec2,
}
