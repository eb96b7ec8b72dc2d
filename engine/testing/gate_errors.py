"""Errors as AWS answers them: code, status, and the two XML shapes of S3 and STS.

What lives here: the exception by which any file of the gate ends a request, and its rendering.
What must not: a decision about when a request is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

# Status and text of each code; https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_KNOWN: Mapping[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "BadDigest": (400, "The checksum you specified did not match what we received."),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "ExpiredToken": (400, "The provided token has expired."),
    "ExpiredTokenException": (
        400,
        "The web identity token that was passed is expired or is not valid.",
    ),
    "IDPCommunicationError": (
        400,
        "The identity provider could not be reached to verify the token.",
    ),
    "IDPRejectedClaim": (403, "The identity provider reported that authentication failed."),
    "IncompleteBody": (400, "The request body terminated unexpectedly"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "InvalidAccessKeyId": (
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "InvalidIdentityToken": (400, "The token that was passed could not be validated."),
    "InvalidPart": (400, "One or more of the specified parts could not be found."),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
    "InvalidRequest": (400, "Invalid request."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "MalformedPolicyDocument": (400, "The policy document is malformed."),
    "MalformedXML": (400, "The XML you provided was not well-formed."),
    "MissingAuthenticationToken": (403, "Request is missing Authentication Token"),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The specified multipart upload does not exist."),
    "NotImplemented": (501, "A header you provided implies functionality not implemented"),
    "PackedPolicyTooLarge": (400, "The total packed size of the session policies is too large."),
    "PreconditionFailed": (
        412,
        "At least one of the pre-conditions you specified did not hold",
    ),
    "RegionDisabledException": (403, "STS is not activated in this region for this account."),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
    ),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "Throttling": (400, "Rate exceeded"),
    "ValidationError": (400, "The input fails to satisfy the constraints."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}


class AwsError(Exception):
    """Ends a request with an error as AWS words it.

    Args:
        code: Such as ``NoSuchUpload``.
        message: AWS's usual text of the code where left out.
        status: The HTTP status; the usual one of the code where left out.
        headers: Further headers of the answer.
        fields: Further elements of the error document, by name.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> None:
        usual_status, usual_text = _KNOWN.get(code, (400, code))
        super().__init__(code)
        self.code = code
        self.message = message or usual_text
        self.status = usual_status if status is None else status
        self.headers = dict(headers or {})
        self.fields = fields


class BareError(AwsError):
    """An error that the client sees only the status of, whatever the verb."""


def s3_document(error: AwsError, resource: str, request_id: str) -> bytes:
    """The body of an S3 error."""
    fields = {
        "Code": error.code,
        "Message": error.message,
        **error.fields,
        "Resource": resource,
        "RequestId": request_id,
        "HostId": "gate",
    }
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
    return text.encode(errors="replace")


def sts_document(error: AwsError, request_id: str) -> bytes:
    """The body of an STS error."""
    kind = "Sender" if error.status < 500 else "Receiver"
    text = (
        f'<ErrorResponse xmlns="{STS_NAMESPACE}">\n  <Error>\n    <Type>{kind}</Type>\n'
        f"    <Code>{escape(error.code)}</Code>\n"
        f"    <Message>{escape(error.message)}</Message>\n  </Error>\n"
        f"  <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n"
    )
    return text.encode(errors="replace")
