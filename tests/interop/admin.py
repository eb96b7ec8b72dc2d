"""What a test needs of a server before the engine comes: users, roles, buckets.

What lives here: the calls that the engine does not make, signed by the doubles' own signer. What
must not: a call that is under test.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, urlencode, urlsplit

from engine import Credentials
from engine.testing.sigv4 import sign

REGION = "us-east-1"
# Seconds; nothing asked here takes long.
_TIMEOUT = 20.0


class Refused(Exception):
    """A server did not do what the set-up of a test asks for."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Signed calls to one server by one user."""

    endpoint: str
    credentials: Credentials

    def call(self, method: str, target: str, *, body: bytes = b"", service: str = "s3") -> str:
        """Raises Refused for any answer that is not 2xx."""
        url = f"{self.endpoint}{target}"
        digest = sha256(body).hexdigest()
        given = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        headers = sign(
            method, url, given, digest, self.credentials, REGION, service, datetime.now(UTC)
        )
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise Refused(f"{method} {target}: {answer.status} {text[:500]}")
        return text

    def iam(self, action: str, **parameters: str) -> str:
        """One call of the IAM API."""
        fields = {"Action": action, "Version": "2010-05-08", **parameters}
        # radosgw does not read a plus as a space.
        body = urlencode(fields, quote_via=quote).encode()
        return self.call("POST", "/", body=body, service="iam")

    def add_bucket(self, name: str) -> None:
        self.call("PUT", f"/{name}")

    def add_role(
        self,
        name: str,
        *,
        trust: str,
        allow: Iterable[str],
        condition: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """A role that the principal ``trust`` may assume, and that may do ``allow`` anywhere."""
        may: dict[str, object] = {
            "Effect": "Allow",
            "Principal": {"AWS": [trust]},
            "Action": ["sts:AssumeRole"],
        }
        if condition is not None:
            may["Condition"] = condition
        self.iam("CreateRole", RoleName=name, Path="/", AssumeRolePolicyDocument=policy(may))
        document = policy({"Effect": "Allow", "Action": list(allow), "Resource": ["*"]})
        self.iam("PutRolePolicy", RoleName=name, PolicyName="all", PolicyDocument=document)

    def add_radosgw_user(self, tenant: str, name: str, caps: str = "") -> Credentials:
        """By radosgw's own API (https://docs.ceph.com/en/latest/radosgw/adminops/)."""
        keys = Credentials(
            f"AKIA{tenant[:4]}{name.upper():0<12}", sha256(name.encode()).hexdigest()
        )
        query = {
            "uid": name,
            "tenant": tenant,
            "display-name": name,
            "access-key": keys.access_key_id,
            "secret-key": keys.secret_access_key,
            **({"user-caps": caps} if caps else {}),
        }
        self.call("PUT", f"/admin/user?{urlencode(sorted(query.items()), quote_via=quote)}")
        return keys

    def add_moto_user(self, name: str, allow: Iterable[str]) -> Credentials:
        """A user with an identity policy, without which moto refuses AssumeRole."""
        self.iam("CreateUser", UserName=name)
        document = policy({"Effect": "Allow", "Action": list(allow), "Resource": ["*"]})
        self.iam("PutUserPolicy", UserName=name, PolicyName="all", PolicyDocument=document)
        answer = self.iam("CreateAccessKey", UserName=name)
        return Credentials(field_of(answer, "AccessKeyId"), field_of(answer, "SecretAccessKey"))


def policy(*statements: Mapping[str, object]) -> str:
    """As compact JSON: radosgw takes no other."""
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return json.dumps(document, separators=(",", ":"))


def field_of(xml: str, name: str) -> str:
    """The text of the first element ``name``. Raises Refused where there is none."""
    match = re.search(f"<{name}>([^<]+)</{name}>", xml)
    if match is None:
        raise Refused(f"an answer without {name}")
    return match[1]
