"""After which errors another process can go on with what was begun, and after which nobody can; how
much of an object may be under way when a process dies.

What must not live here: how an upload or a download is taken up (``resume_upload.py``,
``resume_download.py``).
"""

from __future__ import annotations

from collections.abc import Callable

from engine import disk
from engine.errors import (
    ConnectionFailed,
    CredentialsError,
    DiskFull,
    EngineError,
    ProtocolError,
    S3Error,
)
from engine.retry import Verdict, classify
from engine.transfer.context import TransferContext
from engine.transfer.parts import PartPlan

# Of an object that goes in so many parts that it is more than the first ones: what was under way at
# a death is moved again.
MOST_AGAIN = 0.08

# What is worth another try within a request, and says of a whole upload that its bytes are wrong.
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})


def outlives(error: BaseException) -> bool:
    """Whether what ended with ``error`` is worth keeping: a later process, with credentials and a
    network that work, and room on the disk, may finish it."""
    if not isinstance(error, Exception):
        return True  # stopped from outside
    if isinstance(error, S3Error):
        return classify(error) is not Verdict.FAIL and error.s3_code not in _DAMAGED
    if isinstance(error, OSError):
        return error.errno in disk.TAKES_NOTHING
    return isinstance(error, CredentialsError | ConnectionFailed | ProtocolError | DiskFull)


def reason_of(error: BaseException) -> str:
    """Why something was kept, in a few words."""
    if isinstance(error, OSError):
        return error.strerror or "the disk failed"
    return error.headline if isinstance(error, EngineError) else "stopped"


def one_more(
    context: TransferContext, plan: PartPlan, *, here: bool = True
) -> Callable[[int], bool]:
    """Whether one more part than so many may be under way: as more moves more, and where a journal
    is kept, as far as not more than ``MOST_AGAIN`` of the object can be lost.

    Args:
        here: The bytes come by this machine. A part that S3 copies itself costs a death seconds and
            no byte, whatever its size.
    """
    most = max(context.config.parts_at_first, int(MOST_AGAIN * len(plan.parts)))
    if context.journal is None or not here:
        most = len(plan.parts)
    size = plan.part_size if here else 0

    def asked(under_way: int) -> bool:
        return under_way < most and context.limiter.one_more_part(under_way, size)

    return asked
