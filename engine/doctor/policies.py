"""Ready policy documents for both accounts. PURE.

They hold what the engine needs and no more, so that they can be sent to whoever owns the account.
External ids never stand in them: a placeholder does.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-user_externalid.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.credentials import RoleSpec
from engine.types import S3Url

VERSION = "2012-10-17"
EXTERNAL_ID_PLACEHOLDER = "REPLACE-BY-THE-EXTERNAL-ID"
_WORDS = re.compile(r"[A-Za-z0-9]+")
# A pasted document takes the place of the whole present one.
KEEP_CONDITIONS = (
    "keep what the present policy has besides: other statements, and conditions on MFA, source "
    "address, tags or organisation"
)
UNKNOWN_CALLER = "arn:aws:iam::REPLACE-BY-ACCOUNT:user/REPLACE-BY-USER"

# What the engine calls, on a bucket and on objects below a prefix. ListMultipartUploadParts and
# AbortMultipartUpload leave nothing behind after a failure.
BUCKET_ACTIONS = ("s3:ListBucket",)
MORE_BUCKET_ACTIONS = ("s3:GetBucketLocation", "s3:ListBucketMultipartUploads")
OBJECT_ACTIONS = (
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)


def assume_actions(role: RoleSpec) -> str | list[str]:
    """What must be allowed on both sides for this AssumeRole."""
    actions = ["sts:AssumeRole"]
    if role.tags:
        actions.append("sts:TagSession")
    if role.source_identity:
        actions.append("sts:SetSourceIdentity")
    return actions if len(actions) > 1 else actions[0]


def trust_policy(principal: str, role: RoleSpec, *, external_id: bool) -> dict[str, object]:
    """The trust policy of ``role`` that lets ``principal`` assume it.

    Where the caller shows an MFA code, it is asked for:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_configure-api-require.html

    Args:
        external_id: Whether the caller has to show one.
    """
    statement: dict[str, object] = {
        "Sid": "LetTheCallerAssumeThisRole",
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": assume_actions(role),
    }
    conditions: dict[str, object] = external_id_condition() if external_id else {}
    if role.serial_number:
        conditions["Bool"] = {"aws:MultiFactorAuthPresent": "true"}
    if conditions:
        statement["Condition"] = conditions
    return {"Version": VERSION, "Statement": [statement]}


def external_id_condition() -> dict[str, object]:
    """The condition that closes the confused deputy's door."""
    return {"StringEquals": {"sts:ExternalId": EXTERNAL_ID_PLACEHOLDER}}


def caller_policy(role: RoleSpec) -> dict[str, object]:
    """The identity policy of the caller."""
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Sid": "Assume"
                + "".join(word.capitalize() for word in _WORDS.findall(role.role.name)),
                "Effect": "Allow",
                "Action": assume_actions(role),
                "Resource": role.arn,
            }
        ],
    }


def transfer_policy(
    url: S3Url, partition: str = "aws", *, read_only: bool = False
) -> dict[str, object]:
    """The identity policy of the role: exactly what the engine does below ``url``.

    Args:
        read_only: It lists and downloads only.
    """
    bucket = f"arn:{partition}:s3:::{url.bucket}"
    prefix = folder(url).key
    listing: dict[str, object] = {
        "Sid": "ListBelowThePrefix",
        "Effect": "Allow",
        "Action": list(BUCKET_ACTIONS),
        "Resource": bucket,
    }
    if prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
    more: Mapping[str, object] = {
        "Sid": "FindTheBucket" if read_only else "FindTheBucketAndForgottenUploads",
        "Effect": "Allow",
        "Action": list(MORE_BUCKET_ACTIONS[:1] if read_only else MORE_BUCKET_ACTIONS),
        "Resource": bucket,
    }
    objects: Mapping[str, object] = {
        "Sid": "ReadObjects" if read_only else "MoveObjects",
        "Effect": "Allow",
        "Action": ["s3:GetObject"] if read_only else list(OBJECT_ACTIONS),
        "Resource": f"{bucket}/{prefix}*",
    }
    return {"Version": VERSION, "Statement": [listing, more, objects]}


def folder(url: S3Url) -> S3Url:
    """``url`` as a prefix that ends with a slash, or the bucket itself."""
    return S3Url(url.bucket, url.key if not url.key or url.key.endswith("/") else f"{url.key}/")
