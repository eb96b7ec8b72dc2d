"""The one retry layer: what to do with an error, how long to wait, when to stop.

Planes try once; every repetition of a request is decided here, through tenacity, with one
budget that all requests of an engine share. What must not live here: a request.

Rules of this file:
- ``classify`` reads classes and codes, never message text.
- A back-off holds no slot and no buffer: the caller passes a call that takes both itself.
- An expired lease does not count as an attempt more than once a generation.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, TypeVar

import anyio

from engine.config import RetryPolicy
from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    CredentialsError,
    EngineError,
    ObjectChanged,
    ProtocolError,
    RedirectRefused,
    S3Error,
)
from engine.events import Emit, Retried
from engine.types import S3Url

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")


class Verdict(enum.Enum):
    """What to do with a failed request. REFRESH is again at once, with what was learned."""

    RETRY = "retry"
    REFRESH = "refresh"
    FAIL = "fail"


# Codes that say "these credentials are over" (reference D.11).
EXPIRED_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidToken",
        "TokenRefreshRequired",
    }
)
THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
# Transient and throttling codes of botocore's standard mode, and S3's own. RequestTimeout is a
# 400: our half-dead socket, not our mistake.
RETRY_CODES = THROTTLING_CODES | {
    "BadDigest",
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "XAmzContentSHA256Mismatch",
}
# Errors that say what became of a request; the others were found without one.
_OF_REQUESTS = (S3Error, ConnectionFailed, ProtocolError, RedirectRefused, ChecksumMismatch)
_RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# Seconds of obedience to Retry-After; a server that asks for more has to say so again.
MAX_RETRY_AFTER = 60.0
# Renewals that one request may ask for. A server that calls every new lease expired has a
# clock or a policy problem that more renewals do not solve.
MAX_REFRESHES = 3
# What a repeated request takes from the shared budget; what a success gives back, at the first time
# and later (AWS's standard mode: a later one gives back what its last repetition took). So a store
# that refuses one request of five, for ever, is not given up.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_RETRY_COST = 5
_SUCCESS_REFUND = 1
# What was refused for there being too many waits for its turn (``engine.transfer.throttle``), and
# floods nobody.
_THROTTLED_COST = 1


def asks_for_less(error: BaseException | None) -> bool:
    """Whether S3 means that there were too many requests."""
    return isinstance(error, S3Error) and (
        error.s3_code in THROTTLING_CODES or error.status in (429, 503)
    )


def classify(error: BaseException) -> Verdict:
    """What to do after ``error``: make the request again, renew first, or give up."""
    if isinstance(error, S3Error):
        if error.s3_code in EXPIRED_CODES or error.again in ("renewed", "region", "plain"):
            return Verdict.REFRESH
        if error.again == "young":
            return Verdict.RETRY
        if isinstance(error, ObjectChanged | AccessDenied):
            return Verdict.FAIL
        if error.s3_code in RETRY_CODES or error.status in _RETRY_STATUS:
            return Verdict.RETRY
        return Verdict.FAIL
    if isinstance(error, RedirectRefused | CredentialsError):
        return Verdict.FAIL  # the broker has waited and tried as long as that can help
    if isinstance(error, EngineError) and error.retryable:
        return Verdict.RETRY
    return Verdict.FAIL


def classify_direct(error: BaseException) -> Verdict:
    """``classify`` for calls with no broker between them and the source of credentials."""
    if isinstance(error, CredentialsError):
        return Verdict.RETRY if error.retryable else Verdict.FAIL
    return classify(error)


class RetryBudget:
    """Tokens for repeated requests, shared by all requests of one engine."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens = size

    def take(self, cost: int = _RETRY_COST) -> bool:
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def succeeded(self, *, again: bool = False) -> None:
        refund = _RETRY_COST if again else _SUCCESS_REFUND
        self._tokens = min(self._size, self._tokens + refund)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens}/{self._size}>"


class Retrier:
    """Makes calls again as one policy and one budget allow.

    Args:
        random: Where the jitter comes from; passed so that a simulation can repeat it.
        emit: Told about every repetition.
        verdict: What to do after an error.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        random: Random,
        emit: Emit,
        verdict: Callable[[BaseException], Verdict] = classify,
    ) -> None:
        self._verdict = verdict
        self._policy = policy
        self._random = random
        self._emit = emit
        self._budget = RetryBudget(policy.budget)

    async def run(
        self, operation: str, url: S3Url | None, call: Callable[[], Awaitable[T]]
    ) -> tuple[T, int]:
        """``(await call(), attempts)``.

        Raises:
            EngineError: The last error, when it is final, when the attempts or the shared
                budget are used up.
        """
        try:
            result = await call()
        except Exception as error:
            if self._verdict(error) is Verdict.FAIL:
                count_attempts(error, 1)
                raise
            failed = error
        else:
            self._budget.succeeded()
            return result, 1
        return await self._again(operation, url, call, failed)

    async def _again(
        self,
        operation: str,
        url: S3Url | None,
        call: Callable[[], Awaitable[T]],
        failed: Exception,
    ) -> tuple[T, int]:
        """The tries after the first. tenacity costs as much as a signature, so it sees only calls
        that have failed once; it is told of that failure as its first attempt."""
        import tenacity  # most runs fail never

        first = [failed]
        tries = 1
        try:
            async for attempt in tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception(
                    lambda error: self._verdict(error) is not Verdict.FAIL
                ),
                stop=_Attempts(self._policy.max_attempts, self._budget),
                wait=self._wait,
                sleep=anyio.sleep,
                before_sleep=lambda state: self._tell(operation, url, state),
                reraise=True,
            ):
                with attempt:
                    if first:
                        raise first.pop()
                    tries += 1
                    result = await call()
        except Exception as error:
            count_attempts(error, tries)
            raise
        self._budget.succeeded(again=True)
        return result, attempt.retry_state.attempt_number

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = _error_of(state)
        if classify(error) is Verdict.REFRESH:
            return 0.0  # the next try waits for the renewal itself, inside lease.ready()
        ceiling = min(
            self._policy.max_delay,
            self._policy.base_delay * float(2 ** min(state.attempt_number, 16)),
        )
        delay = self._random.uniform(0, ceiling)
        asked = error.retry_after if isinstance(error, S3Error) else None
        return delay if asked is None else min(asked, MAX_RETRY_AFTER) + delay

    def _tell(self, operation: str, url: S3Url | None, state: tenacity.RetryCallState) -> None:
        delay = state.next_action.sleep if state.next_action else 0.0
        error = _error_of(state)
        text = error.s3_code if isinstance(error, S3Error) else type(error).__name__
        self._emit(Retried(operation, url, state.attempt_number, delay, text))

    def __repr__(self) -> str:
        return f"<Retrier {self._budget!r}>"


def count_attempts(error: BaseException, attempts: int) -> None:
    """Have an error of a request say how often it was made."""
    if isinstance(error, _OF_REQUESTS):
        error.facts = {**error.facts, "attempts": attempts}


def attempts_of(error: BaseException) -> int:
    """How often the request was made that ended with ``error``."""
    told = error.facts.get("attempts") if isinstance(error, EngineError) else None
    return told if isinstance(told, int) else 1


class _Attempts:
    """Stops after ``max_attempts``, renewals aside, or when the shared budget is empty."""

    def __init__(self, max_attempts: int, budget: RetryBudget) -> None:
        self._left = max_attempts - 1
        self._refreshes = MAX_REFRESHES
        self._budget = budget

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        if getattr(_error_of(retry_state), "again", "") == "young":
            return False  # ends by itself when the set is not young any more
        if classify(_error_of(retry_state)) is Verdict.REFRESH:
            self._refreshes -= 1
            return self._refreshes < 0
        self._left -= 1
        most = getattr(_error_of(retry_state), "most_attempts", None)
        if most is not None and retry_state.attempt_number >= most:
            return True
        cost = _THROTTLED_COST if asks_for_less(_error_of(retry_state)) else _RETRY_COST
        return self._left < 0 or not self._budget.take(cost)


def _error_of(state: tenacity.RetryCallState) -> BaseException:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert error is not None
    return error
