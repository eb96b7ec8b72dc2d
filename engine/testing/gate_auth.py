"""Who sent this request? Signature, clock, token and lifetime, in AWS's order.

What lives here: the check of the Authorization header for S3 and for STS, which word their
refusals differently. What must not: what the caller may do once it is known.
"""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from engine.testing import sigv4
from engine.testing.gate_errors import AwsError, BareError
from engine.testing.gate_iam import Accounts, KeyRecord

MAX_SKEW_SECONDS = 900.0  # S3 allows 15 minutes


def authenticate_s3(
    request: web.BaseRequest, accounts: Accounts, region: str | None, now: datetime
) -> KeyRecord:
    """The key that signed an S3 request; whether it has ended is not looked at.

    Raises:
        AwsError: It is unsigned, wrongly signed, or too late.
    """
    header = request.headers.get("Authorization")
    if header is None:
        raise AwsError("AccessDenied", "Anonymous access is forbidden")
    authorization = _parse(header, "s3", region)
    record = accounts.key(authorization.access_key_id)
    if record is None:
        raise AwsError("InvalidAccessKeyId", AWSAccessKeyId=authorization.access_key_id)
    timestamp = request.headers.get("X-Amz-Date", "")
    _check_clock(timestamp, authorization.day, now)
    unsigned = _unsigned_headers(request, authorization)
    if unsigned:
        raise AwsError(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(unsigned),
        )
    payload_hash = request.headers.get("X-Amz-Content-Sha256", "")
    if not payload_hash:
        raise AwsError("InvalidRequest", "Missing required header: x-amz-content-sha256")
    _check_signature(request, authorization, record, payload_hash, timestamp)
    if request.headers.get("X-Amz-Security-Token") != record.session_token:
        raise AwsError("InvalidToken")
    return record


def refuse_ended_s3(record: KeyRecord, now: datetime, expired_as: str) -> None:
    """Refuse a session that has ended.

    Args:
        record: Who signed.
        now: The gate's clock.
        expired_as: The error code to do it with, or empty for a bare 400: AWS says ExpiredToken,
            other stores AccessDenied or nothing.

    Raises:
        AwsError: It has ended.
    """
    if record.expires_at is None or now < record.expires_at:
        return
    raise AwsError(expired_as) if expired_as else BareError("ExpiredToken", status=400)


def authenticate_sts(
    request: web.BaseRequest,
    payload_hash: str,
    accounts: Accounts,
    region: str | None,
    now: datetime,
) -> KeyRecord:
    """The key that signed an STS request; whether it has ended is not looked at.

    Args:
        request: As it came.
        payload_hash: The SHA-256 of its body.
        accounts: The keys.
        region: The only Region whose signatures are accepted; None accepts every one.
        now: The gate's clock.

    Raises:
        AwsError: As for S3, in STS's words.
    """
    header = request.headers.get("Authorization")
    if header is None:
        raise AwsError("MissingAuthenticationToken")
    try:
        authorization = _parse(header, "sts", region)
        timestamp = request.headers.get("X-Amz-Date", "")
        record = accounts.key(authorization.access_key_id)
        if record is None:
            raise AwsError("InvalidClientTokenId")
        _check_clock(timestamp, authorization.day, now)
        _check_signature(request, authorization, record, payload_hash, timestamp)
    except AwsError as error:
        if error.code == "RequestTimeTooSkewed":
            raise AwsError(
                "SignatureDoesNotMatch", "Signature expired or not yet current"
            ) from None
        if error.code == "AuthorizationHeaderMalformed":
            raise AwsError("SignatureDoesNotMatch", error.message) from None
        raise
    if request.headers.get("X-Amz-Security-Token") != record.session_token:
        raise AwsError("InvalidClientTokenId")
    return record


def refuse_ended_sts(record: KeyRecord, now: datetime) -> None:
    """Refuse a session that has ended, in STS's words.

    Raises:
        AwsError: It has ended.
    """
    if record.expires_at is not None and now >= record.expires_at:
        # The model says 400; STS itself was seen to answer 403.
        raise AwsError(
            "ExpiredToken", "The security token included in the request is expired", status=403
        )


def _parse(header: str, service: str, region: str | None) -> sigv4.Authorization:
    try:
        authorization = sigv4.parse_authorization(header)
    except ValueError as error:
        raise AwsError("AuthorizationHeaderMalformed", str(error)) from None
    if authorization.service != service:
        raise AwsError(
            "AuthorizationHeaderMalformed",
            f"incorrect service {authorization.service!r}; expecting {service!r}",
        )
    if region is not None and authorization.region != region:
        raise AwsError(
            "AuthorizationHeaderMalformed",
            f"the region {authorization.region!r} is wrong; expecting {region!r}",
            Region=region,
        )
    return authorization


def _check_clock(timestamp: str, day: str, now: datetime) -> None:
    try:
        signed_at = sigv4.parse_timestamp(timestamp)
    except ValueError:
        raise AwsError(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        ) from None
    if not timestamp.startswith(day):
        raise AwsError("AuthorizationHeaderMalformed", "invalid credential date")
    if abs((now - signed_at).total_seconds()) > MAX_SKEW_SECONDS:
        raise AwsError(
            "RequestTimeTooSkewed",
            RequestTime=timestamp,
            ServerTime=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            MaxAllowedSkewMilliseconds="900000",
        )


def _unsigned_headers(request: web.BaseRequest, authorization: sigv4.Authorization) -> list[str]:
    signed = set(authorization.signed_headers)
    must = {n.lower() for n in request.headers if n.lower().startswith("x-amz-")} | {"host"}
    return sorted(must - signed)


def _check_signature(
    request: web.BaseRequest,
    authorization: sigv4.Authorization,
    record: KeyRecord,
    payload_hash: str,
    timestamp: str,
) -> None:
    expected = sigv4.expected_signature(
        authorization,
        request.method,
        request.raw_path,
        request.headers.items(),
        payload_hash,
        record.secret_access_key,
        timestamp,
    )
    if not sigv4.same_signature(expected, authorization.signature):
        raise AwsError("SignatureDoesNotMatch", AWSAccessKeyId=record.access_key_id)
