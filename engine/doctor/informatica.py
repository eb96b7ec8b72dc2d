"""A connection of Informatica's Amazon S3 V2 or Redshift V2 connector, read by its property names.

The file is a JSON object (``{"IAM Role ARN": "arn:..."}``) or lines of ``name = value``. Names are
compared without case, blanks and signs, so the names of the dialog, of an export and of a script
all do. What must not live here: what is done with the values.
https://docs.informatica.com/integration-cloud/data-integration-connectors.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from engine.doctor.findings import Finding, warning
from engine.errors import UsageError
from engine.types import Credentials, S3Url

MAX_FILE = 1024 * 1024
_SIGNS = re.compile(r"[^a-z0-9]")
_CODE = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_LINE = re.compile(r"\s*([^=:#!\s][^=:]*?)\s*[=:]\s*(.*?)\s*")
# The values by which a dialog says that there is none.
_NOTHING = frozenset({"", "none", "null"})
# As the connectors' list names them. https://docs.aws.amazon.com/general/latest/gr/s3.html
_REGIONS = {
    "africacapetown": "af-south-1",
    "asiapacifichongkong": "ap-east-1",
    "asiapacifichyderabad": "ap-south-2",
    "asiapacificjakarta": "ap-southeast-3",
    "asiapacificmelbourne": "ap-southeast-4",
    "asiapacificmumbai": "ap-south-1",
    "asiapacificosaka": "ap-northeast-3",
    "asiapacificosakalocal": "ap-northeast-3",
    "asiapacificseoul": "ap-northeast-2",
    "asiapacificsingapore": "ap-southeast-1",
    "asiapacificsydney": "ap-southeast-2",
    "asiapacifictokyo": "ap-northeast-1",
    "awsgovcloudus": "us-gov-west-1",
    "awsgovclouduseast": "us-gov-east-1",
    "awsgovclouduswest": "us-gov-west-1",
    "canadacentral": "ca-central-1",
    "chinabeijing": "cn-north-1",
    "chinaningxia": "cn-northwest-1",
    "eufrankfurt": "eu-central-1",
    "euireland": "eu-west-1",
    "eulondon": "eu-west-2",
    "eumilan": "eu-south-1",
    "euparis": "eu-west-3",
    "euspain": "eu-south-2",
    "eustockholm": "eu-north-1",
    "euzurich": "eu-central-2",
    "europespain": "eu-south-2",
    "europezurich": "eu-central-2",
    "israeltelaviv": "il-central-1",
    "middleeastbahrain": "me-south-1",
    "middleeastuae": "me-central-1",
    "southamericasaopaulo": "sa-east-1",
    "useastnvirginia": "us-east-1",
    "useastohio": "us-east-2",
    "uswestncalifornia": "us-west-1",
    "uswestoregon": "us-west-2",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """What of a connection says how S3 is reached.

    Attributes:
        ec2: Use EC2 Role to Assume Role.
        duration: Temporary Credential Duration, seconds; None where it is not said.
        database_role_arn: The second role, by which Redshift V2 gets a database login.
        notes: What the engine does otherwise, or does not take.
    """

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    ec2: bool = False
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


def read_connection(text: str) -> Connection:
    """Read a connection file.

    Raises:
        UsageError: Not such a file, or properties that contradict each other.
    """
    connection = Connection()
    notes: list[Finding] = []
    for name, value in _properties(text).items():
        plain = _plain(name)
        if plain in _TAKEN:
            if value.strip().casefold() not in _NOTHING:
                connection = _TAKEN[plain](connection, value.strip())
        elif plain in _REFUSED:
            if value.strip().casefold() not in {*_NOTHING, "false"}:
                notes.append(warning("connection", f"{name}: {_REFUSED[plain]}"))
        elif plain not in _PASSED_OVER:
            close = get_close_matches(plain, [*_TAKEN, *_REFUSED, *_PASSED_OVER], n=1)
            hint = (f"Did you mean {_TITLES.get(close[0], close[0])}?",) if close else ()
            notes.append(warning("connection", f"{name}: not a property that is known", *hint))
    _check(connection)
    return replace(connection, notes=tuple(notes))


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


def _properties(text: str) -> dict[str, str]:
    if len(text) > MAX_FILE:
        raise UsageError(f"the connection file has more than {MAX_FILE} characters")
    if text.lstrip().startswith("{"):
        return _from_json(text)
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in "#!":
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            # The line is not shown: it may be half of a secret.
            raise UsageError(f"line {number} of the connection file is not name = value")
        found[match[1]] = match[2]
    return found


def _from_json(text: str) -> dict[str, str]:
    try:
        document = json.loads(text)
    except ValueError as error:
        place = f"line {getattr(error, 'lineno', 0)} column {getattr(error, 'colno', 0)}"
        raise UsageError(f"the connection file is not JSON: {place}") from None
    found: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):  # an export nests the properties under one name
            found |= {str(key): _text(inner) for key, inner in value.items()}
        else:
            found[str(name)] = _text(value)
    return found


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(name: str) -> str:
    return _SIGNS.sub("", name.casefold())


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
    code = value if _CODE.fullmatch(value) else _REGIONS.get(_plain(value))
    if code is None:
        close = get_close_matches(_plain(value), _REGIONS, n=1)
        hint = f"Did you mean {_REGIONS[close[0]]}?" if close else "Write its code: eu-west-1"
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
_TITLES = {
    "accesskey": "Access Key",
    "accesskeyid": "Access Key ID",
    "credentialprofilefilepath": "Credential Profile File Path",
    "externalid": "External Id",
    "folderpath": "Folder Path",
    "iamrolearn": "IAM Role ARN",
    "profilename": "Profile Name",
    "redshiftiamrolearn": "Redshift IAM Role ARN",
    "regionname": "Region Name",
    "restendpoint": "REST Endpoint",
    "s3bucketname": "S3 Bucket Name",
    "s3iamrolearn": "S3 IAM Role ARN",
    "secretaccesskey": "Secret Access Key",
    "secretkey": "Secret Key",
    "temporarycredentialduration": "Temporary Credential Duration",
    "useec2roletoassumerole": "Use EC2 Role to Assume Role",
}
_REFUSED = {
    "mastersymmetrickey": "client-side encryption is not done here, and AWS ended it for COPY and "
    "UNLOAD (30 April 2026); use SSE-KMS",
    "federatedssoidp": "single sign-on is not a property here: give a source by --source",
    "redshiftaccesskeyid": "keys of their own for the database are not read; see --copy-role",
    "redshiftsecretaccesskey": "keys of their own for the database are not read; see --copy-role",
}
# Known, and of no weight for how S3 is reached.
_PASSED_OVER = frozenset(
    {
        "clusteridentifier",
        "clusterregion",
        "connectionname",
        "customermasterkeyid",
        "databasename",
        "description",
        "endpointdnsnameforamazons3",
        "endpointdnsnameforawskms",
        "endpointdnsnameforawssts",
        "federateduser",
        "federatedusername",
        "federateduserpassword",
        "idpssourl",
        "jdbcurl",
        "multipartdownloadthreshold",
        "otherauthenticationtype",
        "password",
        "rolearn",
        "runtimeenvironment",
        "s3accounttype",
        "s3vpcendpointtype",
        "samlidentityproviderarn",
        "schema",
        "tracinglevel",
        "type",
        "useec2role",
        "username",
    }
)
