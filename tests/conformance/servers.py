"""The servers that every plane must get the same answers from.

What lives here: an address, keys and a bucket for each, and what each is known not to do. What
must not: a test.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from engine.testing.aws import AwsDouble
from engine.testing.moto import MotoProcess
from engine.types import Credentials
from tests.interop.admin import REGION, Admin, Refused
from tests.interop.radosgw import Radosgw


@dataclass(frozen=True, slots=True)
class Server:
    """One S3.

    Attributes:
        keeps_sums: It stores our checksums and says them back.
        says_sum_at_complete: Its answer to CompleteMultipartUpload has the checksum.
        empty_complete: Its answer to CompleteMultipartUpload has an empty ETag.
        retags: A copy can have other tags than its source.
        lists_sums: ListParts has the checksums of parts.
        tells_initiated: ListMultipartUploads says who began an upload and when.
        ca_bundle: File of the certificate to trust, where it speaks TLS.
    """

    endpoint: str
    credentials: Credentials
    bucket: str = ""
    keeps_sums: bool = True
    says_sum_at_complete: bool = True
    empty_complete: bool = False
    retags: bool = True
    lists_sums: bool = True
    tells_initiated: bool = True
    ca_bundle: str | None = None
    region: str = REGION


@contextmanager
def tls_double(folder: Path) -> Iterator[tuple[AwsDouble, str]]:
    """The gate behind TLS, and the file of its authority."""
    authority, bundle = trustme.CA(), folder / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with AwsDouble(ssl_context=context) as aws:
        yield aws, str(bundle)


def server_of(aws: AwsDouble, bucket: str, ca_bundle: str | None = None) -> Server:
    """The gate as a server of this suite."""
    keys = Credentials(aws.admin.access_key_id, aws.admin.secret_access_key)
    aws.gate.create_bucket(bucket, aws.account)
    return Server(aws.endpoint, keys, bucket, ca_bundle=ca_bundle, region=aws.region)


@contextmanager
def moto_in_auth_mode() -> Iterator[Server]:
    """moto that checks signatures and policies, after the three calls that make its one user.
    Its ListParts has no checksums; its ListMultipartUploads has no pages, no order, and one
    initiator and one time for all."""
    with MotoProcess({"INITIAL_NO_AUTH_ACTION_COUNT": "3"}) as process:
        endpoint = f"http://127.0.0.1:{process.port}"
        admin = Admin(endpoint, Credentials("AKIAINTEROPADMIN0000", "not checked yet"))
        user = admin.add_moto_user("conformance", ["s3:*"])
        with pytest.raises(Refused, match="403"):
            admin.add_bucket("second")  # this key was never one: from here on moto checks
        yield Server(
            endpoint, user, says_sum_at_complete=False, lists_sums=False, tells_initiated=False
        )


def radosgw_server(radosgw: Radosgw, *, tls: bool) -> Server:
    """Ceph's gateway: it ignores checksums, and leaves the ETag of Complete empty; it does
    not listen to what is said of the tags of a copy."""
    owner = radosgw.owner
    keys = Credentials(owner.access_key_id, owner.secret_access_key)
    return Server(
        radosgw.tls_endpoint if tls else radosgw.endpoint,
        keys,
        keeps_sums=False,
        empty_complete=True,
        retags=False,
        lists_sums=False,
        ca_bundle=radosgw.ca_bundle if tls else None,
    )
