"""After which errors another process can go on with what was begun, and after which nobody can.

What must not live here: how an upload or a download is taken up (``resume_upload.py``,
``resume_download.py``).
"""

from __future__ import annotations

from engine.errors import ConnectionFailed, CredentialsError, EngineError, ProtocolError, S3Error
from engine.retry import Verdict, classify

# What is worth another try within a request, and says of a whole upload that its bytes are wrong.
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})


def outlives(error: BaseException) -> bool:
    """Whether what ended with ``error`` is worth keeping: a later process, with credentials and a
    network that work, may finish it."""
    if not isinstance(error, Exception):
        return True  # stopped from outside
    if isinstance(error, S3Error):
        return classify(error) is not Verdict.FAIL and error.s3_code not in _DAMAGED
    return isinstance(error, CredentialsError | ConnectionFailed | ProtocolError)


def reason_of(error: BaseException) -> str:
    """Why something was kept, in a few words."""
    return error.headline if isinstance(error, EngineError) else "stopped"
