"""What an answer of S3 means for the bucket, and what to change where. PURE.

What must not live here: a request (``probe.py``, ``read_probe.py``).
"""

from __future__ import annotations

from engine.doctor.findings import Finding, failed, failed_with, ok, skipped
from engine.errors import AccessDenied, EngineError, NotFound, RedirectRefused, S3Error
from engine.types import S3Url

# Codes and statuses of "this store has no such thing".
_NOT_HERE = frozenset({"NotImplemented", "MethodNotAllowed"})
_NOT_HERE_STATUS = frozenset({405, 501})


def unusable(bucket: str, region: str, error: EngineError | None) -> Finding | None:
    """What the first answer says of the bucket itself; None where it can be worked with."""
    if error is None or isinstance(error, AccessDenied):
        return None
    there = error.facts.get("bucket_region")
    if there and there != region:
        return failed(
            "bucket",
            f"{bucket} is in {there}, you asked for {region}",
            f"--region {there} (or AWS_REGION={there})",
            exit_code=1,
        )
    if isinstance(error, NotFound):
        return failed("bucket", f"{bucket}: {error.headline}", error.fix, exit_code=1)
    if isinstance(error, S3Error) and not isinstance(error, RedirectRefused):
        return None
    return failed_with("bucket", error)


def list_denied(below: S3Url, error: AccessDenied) -> Finding:
    """Nothing may be listed."""
    return failed(
        "list",
        f"s3:ListBucket is missing on arn:aws:s3:::{below.bucket}",
        *fixes(below, "s3:ListBucket"),
        detail=(
            *facts(error),
            "Without it S3 answers 403, not 404, for a key that is not there",
        ),
        missing=("s3:ListBucket",),
    )


def outcome(below: S3Url, check: str, error: EngineError | None, action: str, done: str) -> Finding:
    """What a request that needs one action came to."""
    if error is None:
        return ok(check, done)
    if isinstance(error, AccessDenied):
        return failed(
            check,
            f"{action} is missing on {objects_of(below)}",
            *fixes(below, action),
            detail=facts(error),
            missing=(action,),
        )
    return other(check, error)


def other(check: str, error: EngineError, *detail: str) -> Finding:
    """A store that lacks the call, or a failure in its own words."""
    if isinstance(error, S3Error) and (
        error.s3_code in _NOT_HERE or error.status in _NOT_HERE_STATUS
    ):
        return skipped(check, f"this store has no such call ({error.s3_code})")
    return failed_with(check, error, *detail)


def objects_of(below: S3Url) -> str:
    """The ARN of all objects below the prefix."""
    return f"arn:aws:s3:::{below.bucket}/{below.key}*"


def fixes(below: S3Url, *actions: str) -> tuple[str, ...]:
    """Where the actions are to be allowed."""
    lines = [
        f"In the identity policy of the role: allow {', '.join(actions)}",
        f"Where bucket {below.bucket} is of another account than the role: in its bucket "
        "policy too",
    ]
    keys = [
        needed
        for action, needed in (
            ("s3:PutObject", "kms:GenerateDataKey, kms:Decrypt"),
            ("s3:GetObject", "kms:Decrypt"),
        )
        if action in actions
    ]
    if keys:
        lines.append(f"Where it encrypts by a KMS key: {keys[0]} on the key")
    return tuple(lines)


def facts(error: S3Error) -> tuple[str, ...]:
    """What S3 said, on one line."""
    request_id = error.facts.get("request_id")
    said = f"aws: {error.s3_code} ({error.status})"
    return (f"{said}, request id {request_id}" if request_id else said,)
