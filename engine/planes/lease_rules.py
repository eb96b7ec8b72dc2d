"""What an error answer of S3 says of the credentials that signed the request.

Our own clock decides first: stores say the same thing by different names (ExpiredToken, a bare
400 to HEAD, AccessDenied), and a code that names expiry may come before its time. What must not
live here: whether to repeat (``engine.retry``), when to renew (``engine.credentials``).
"""

from __future__ import annotations

from engine.errors import AccessDenied, S3Error
from engine.protocols import Lease
from engine.retry import EXPIRED_CODES
from engine.types import Credentials

# Near its end a bare 400 to HEAD means "expired": S3 puts the code into a body, which an answer
# to HEAD does not have. Seconds.
NEAR_EXPIRY = 30.0
# A denial so near the end is the end, told by a store that has no word for it; the server's
# clock is known to a second or two. Seconds.
AT_EXPIRY = 2.0
# IAM is eventually consistent: a key may be unknown to S3 for some seconds after its issue.
PROPAGATION = 15.0


def is_near_expiry(lease: Lease, credentials: Credentials) -> bool:
    """Whether a bare 400 to HEAD means that ``credentials`` have expired."""
    return lease.remaining(credentials) < NEAR_EXPIRY


async def judge(lease: Lease, credentials: Credentials, error: S3Error) -> None:
    """Report what ``error`` says of ``credentials``, and mark the error where it is theirs.

    After a denial on a set that worked this waits for one early renewal, at most.
    """
    code = error.s3_code
    if code in EXPIRED_CODES:
        lease.report_expired(credentials)
    elif code == "InvalidAccessKeyId":
        if credentials.session_token and lease.age(credentials) < PROPAGATION:
            error.again = "young"
        elif await lease.renewed_after_denial(credentials, unknown_key=True):
            error.again = "renewed"
    elif isinstance(error, AccessDenied):
        if lease.remaining(credentials) < AT_EXPIRY:
            lease.report_expired(credentials)
            error.again = "renewed"
        elif await lease.renewed_after_denial(credentials):
            error.again = "renewed"
