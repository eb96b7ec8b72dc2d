"""The whole error tree. Every error that leaves the package is one of these.

::

    EngineError
    |-- UsageError                 what was asked cannot be done; nothing was sent       exit 2
    |   `-- WrongLoop              an Engine used in a second loop, after a fork, or under trio
    |-- JournalError               what a run keeps of itself cannot be read or written  exit 2
    |   |-- RunInUse               another process works on the run
    |   |-- JournalDamaged         not a journal, or one that is damaged
    |   `-- JournalVersion         made by a version whose journals this one does not read
    |-- CredentialsError           no usable credentials                                 exit 3
    |   |-- AssumeRoleDenied       STS said no: trust policy, identity policy, external id
    |   |-- RoleInvalid            STS refused the request itself (duration, policy size)
    |   |-- SourceExpired          the credentials that assume the role are over
    |   |-- SourceUnavailable      the source of credentials does not answer just now
    |   |-- SourceMissing          the source of credentials is not set up here
    |   `-- CredentialsExpired     the lease ended and could not be renewed              exit 4
    |-- TransferError              one object could not be moved                         exit 1
    |   |-- S3Error                S3 answered with an error code
    |   |   |-- AccessDenied                                                             exit 3
    |   |   |-- NotFound           no such bucket, key, version or upload
    |   |   |-- ObjectChanged      another object than the one that was named, or none any more
    |   |   `-- ObjectArchived     to be restored before it can be read
    |   |-- ObjectExists           to be written where nothing is, and something is there
    |   |-- ConnectionFailed       no answer, or half of one; the network's fault
    |   |   |-- AnswerTooSlow      bytes of an answer, for minutes, and no end
    |   |   `-- NotConnected       no connection was to be had, so nothing was sent
    |   |       `-- ProxyRefused   the proxy does not let us through
    |   |-- ProtocolError          an answer that HTTP or S3 does not allow
    |   |   `-- BadListing         a page of a listing that cannot be one
    |   |-- RedirectRefused        an answer that points at another host; never followed
    |   |-- ChecksumMismatch       the bytes are not the bytes that were meant
    |   |-- ClientEncrypted        its bytes were encrypted before they came to S3
    |   |-- SourceChanged          a local file changed while it was read
    |   |-- UnsafeKey              a key that would leave the target folder
    |   |-- DiskFull               no room, no quota, or read only                         exit 4
    |   `-- NameTaken              two objects that would become one file, or a file and a folder
    `-- LoadError                  Redshift did not take the load                        exit 1
        |-- LoadRefused            seen before BEGIN; nothing was sent to Redshift       exit 2
        |-- DatabaseError          the database answered with an error
        |   `-- LoginRefused       wrong user or password                                exit 3
        |-- CopyFailed             COPY refused rows or could not read; rolled back
        |-- CountMismatch          COPY loaded other files or rows than staged; rolled back
        `-- CommitUnknown          the answer to COMMIT was lost; never retried by itself  exit 4

What lives here: classes and the facts they carry. What must not: a branch on message text.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar, Literal


class EngineError(Exception):
    """Base of all errors of the package.

    Args:
        headline: What happened, to which object, in one sentence without a full stop.
        fix: What to do next; may be empty where nothing can be done.
        facts: Further facts by name, printed one a line (``bucket``, ``request_id``, ...).

    Attributes:
        code: Stable short code, printed as ``error[CODE]``.
        retryable: Whether the same call may succeed when made again.
        advice: What to do next where the place that raises knows nothing better.
        most_attempts: Tries after which a call that fails so is given up, where they are fewer than
            usual.
        exit_code: The exit status of the command when this error ends it.
    """

    code: ClassVar[str] = "E000"
    retryable: ClassVar[bool] = False
    advice: ClassVar[str] = ""
    most_attempts: int | None = None
    exit_code: ClassVar[int] = 1

    def __init__(self, headline: str, *, fix: str = "", **facts: object) -> None:
        super().__init__(headline)
        self.headline = headline
        self.fix = fix or self.advice
        self.facts: Mapping[str, object] = {k: v for k, v in facts.items() if v not in (None, "")}

    def __str__(self) -> str:
        lines = [f"{name.replace('_', ' ')}: {value}" for name, value in self.facts.items()]
        text = f"{self.headline} ({', '.join(lines)})" if lines else self.headline
        return f"{text}. {self.fix}" if self.fix else text


class UsageError(EngineError):
    """What was asked cannot be done; found before anything was sent."""

    code = "U001"
    exit_code = 2


class WrongLoop(UsageError):
    """An object was used outside the event loop, process or async library that opened it."""

    code = "U002"


class JournalError(EngineError):
    """What a run keeps of itself, to be gone on with, cannot be read or written."""

    code = "R500"
    exit_code = 2


class RunInUse(JournalError):
    """Another process works on the run."""

    code = "R501"


class JournalDamaged(JournalError):
    """The file is no journal, or a damaged one. It is left as it is."""

    code = "R502"


class JournalVersion(JournalError):
    """The journal was made by a version whose journals this one does not read."""

    code = "R503"


class CredentialsError(EngineError):
    """No usable credentials."""

    code = "C100"
    exit_code = 3


class AssumeRoleDenied(CredentialsError):
    """STS refused AssumeRole (AccessDenied)."""

    code = "C103"


class RoleInvalid(CredentialsError):
    """STS found the AssumeRole request itself invalid (ValidationError and its kin)."""

    code = "C104"


class SourceExpired(CredentialsError):
    """The credentials that assume the role have expired."""

    code = "C102"


class SourceUnavailable(CredentialsError):
    """The source of credentials does not answer, or has none to give."""

    code = "C105"
    retryable = True


class SourceMissing(CredentialsError):
    """The source of credentials that was asked for is not set up here."""

    code = "C106"


class CredentialsExpired(CredentialsError):
    """The lease ended and could not be renewed."""

    code = "C101"
    exit_code = 4


class TransferError(EngineError):
    """One object could not be moved."""

    code = "T100"


class S3Error(TransferError):
    """S3 answered with an error.

    Attributes:
        s3_code: The code of the error document (``SlowDown``), or of the status where the
            answer had no body.
        status: The HTTP status.
        retry_after: Seconds that the server asked to wait, or None.
        server_time_offset: Server clock minus ours in seconds, or None.
        again: What was learned from the answer, so that the same request may succeed when it is
            made again at once: ``renewed`` where a newer set of credentials is there to ask with,
            ``region`` where the bucket's region is known now, ``plain`` where the server wants no
            ``Expect``. ``young`` where the set was issued a moment ago and may not be known
            everywhere. Else empty.
    """

    code = "T110"
    advice = (
        "What the code means: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"
    )
    again: Literal["", "renewed", "region", "plain", "young"] = ""

    def __init__(
        self,
        headline: str,
        *,
        s3_code: str,
        status: int,
        retry_after: float | None = None,
        server_time_offset: float | None = None,
        fix: str = "",
        **facts: object,
    ) -> None:
        super().__init__(headline, fix=fix, code=s3_code, status=status, **facts)
        self.s3_code = s3_code
        self.status = status
        self.retry_after = retry_after
        self.server_time_offset = server_time_offset


class AccessDenied(S3Error):
    """S3 answered AccessDenied."""

    code = "T111"
    exit_code = 3


class NotFound(S3Error):
    """No such bucket, key, version or upload."""

    code = "T112"


class ObjectChanged(S3Error):
    """Not the object that was named by its ETag: overwritten while it was read, or before it was
    to be replaced; or there is none any more."""

    code = "T113"
    advice = "Run it again when nobody else writes the object"


class ObjectArchived(S3Error):
    """The object is in an archive (Glacier, Deep Archive): it can be read once it is restored.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
    """

    code = "T115"
    advice = "Restore it first (RestoreObject)"


class ObjectExists(TransferError):
    """An object, or a file, is there already and was not to be replaced (``if_none_match``)."""

    code = "T114"
    advice = "Nothing was replaced: choose another name, or let it be replaced"


class ConnectionFailed(TransferError):
    """No answer, or half of one."""

    code = "T120"
    retryable = True
    advice = "Check the network, the proxy and the endpoint, then run it again"


class AnswerTooSlow(ConnectionFailed):
    """An answer that goes on and does not end within its minutes."""

    code = "T126"
    most_attempts = 1  # it took all the time there is


class NotConnected(ConnectionFailed):
    """No connection was to be had: nothing of the request was sent."""

    code = "T124"


class ProxyRefused(NotConnected):
    """The proxy wants other credentials, or does not let this request through."""

    code = "T123"
    retryable = False


class ProtocolError(TransferError):
    """An answer that HTTP or S3 does not allow."""

    code = "T121"
    retryable = True
    advice = "Check the endpoint and the proxy: what answers there does not answer as S3 does"


class BadListing(ProtocolError):
    """A page of a listing that cannot be one: not of what was asked for, or not as S3 lists, or
    with no way to the next. An empty listing in its place would be a lie."""

    code = "T125"
    advice = "Check the endpoint: what answers there does not list as S3 does"
    # Who answers so does it again: the right answer must come soon, or the run must end.
    most_attempts = 4


class RedirectRefused(TransferError):
    """An answer that points at another host. Redirects are never followed."""

    code = "T122"
    advice = "Check the endpoint URL and the region"


class ChecksumMismatch(TransferError):
    """The bytes are not the bytes that were meant."""

    code = "T130"
    retryable = True
    advice = "Run it again; where it comes back, look at this machine's memory, disk and network"


class ClientEncrypted(TransferError):
    """A client encrypted the object before it came to S3: its bytes are not the file's."""

    code = "T133"
    advice = "Read it by the client that encrypted it"


class SourceChanged(TransferError):
    """A local file changed while it was read."""

    code = "T131"
    advice = "Run it again when nobody writes the file"


class UnsafeKey(TransferError):
    """A key whose file would lie outside the target folder."""

    code = "T132"
    advice = "Copy this object alone, to a name of your choice"


class DiskFull(TransferError):
    """The local file system takes nothing more: no room, no quota left, or read only. A run that
    meets it again and again stops, and can be gone on with."""

    code = "T140"
    exit_code = 4


class NameTaken(TransferError):
    """Two objects of a run would become one file, or one a file where the other needs a folder."""

    code = "T134"


class LoadError(EngineError):
    """Redshift did not take the load."""

    code = "L300"


class LoadRefused(LoadError):
    """Found before BEGIN; nothing was sent to Redshift."""

    code = "L301"
    exit_code = 2


class DatabaseError(LoadError):
    """The database answered with an error.

    Attributes:
        sqlstate: Five characters, or "" where the connection failed before an answer.
        lost: Whether the connection was lost instead of an error answered.
    """

    code = "L310"

    def __init__(
        self,
        headline: str,
        *,
        sqlstate: str = "",
        lost: bool = False,
        fix: str = "",
        **facts: object,
    ) -> None:
        super().__init__(headline, fix=fix, sqlstate=sqlstate, **facts)
        self.sqlstate = sqlstate
        self.lost = lost


class LoginRefused(DatabaseError):
    """The database does not know the user, or the password is wrong."""

    code = "L313"
    exit_code = 3


class CopyFailed(LoadError):
    """COPY refused rows or could not read its files; the transaction was rolled back.

    Attributes:
        rejected: The refused rows as the load history has them (``RejectedRow``).
        query_id: Redshift's query id of the COPY, or None.
    """

    code = "L311"

    def __init__(
        self,
        headline: str,
        *,
        rejected: tuple[object, ...] = (),
        query_id: int | None = None,
        fix: str = "",
        **facts: object,
    ) -> None:
        super().__init__(headline, fix=fix, query_id=query_id, **facts)
        self.rejected = rejected
        self.query_id = query_id


class CountMismatch(LoadError):
    """COPY loaded other files or rows than were staged; the transaction was rolled back."""

    code = "L312"


class CommitUnknown(LoadError):
    """The answer to COMMIT was lost: committed or not is unknown. Never retried by itself."""

    code = "L320"
    exit_code = 4


def another(error: CredentialsError) -> CredentialsError:
    """A copy of ``error``, for one more who waits: each adds its own traceback and notes. The
    error itself where its class, somebody else's, wants other arguments."""
    try:
        return copy.copy(error)
    except TypeError:
        return error
