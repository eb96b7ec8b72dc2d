"""The one retry layer: verdicts, budgets, and how long it waits; on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import pytest

from engine.config import RetryPolicy
from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    CredentialsExpired,
    EngineError,
    NotFound,
    RedirectRefused,
    S3Error,
    SourceUnavailable,
    UsageError,
)
from engine.events import Retried
from engine.retry import MAX_REFRESHES, Retrier, Verdict, classify
from engine.testing.clock import run_virtual


def s3(code: str, status: int = 400, **more: Any) -> S3Error:
    return S3Error(code, s3_code=code, status=status, **more)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (s3("SlowDown", 503), Verdict.RETRY),
        (s3("RequestTimeout"), Verdict.RETRY),
        (s3("BadDigest"), Verdict.RETRY),
        (s3("Whatever", 500), Verdict.RETRY),
        (s3("ExpiredToken"), Verdict.REFRESH),
        (s3("InvalidToken"), Verdict.REFRESH),
        (s3("EntityTooSmall"), Verdict.FAIL),
        (AccessDenied("x", s3_code="AccessDenied", status=403), Verdict.FAIL),
        (NotFound("x", s3_code="NoSuchKey", status=404), Verdict.FAIL),
        (RedirectRefused("x"), Verdict.FAIL),
        (ConnectionFailed("x"), Verdict.RETRY),
        (ChecksumMismatch("x"), Verdict.RETRY),
        (SourceUnavailable("x"), Verdict.FAIL),  # the broker repeats
        (CredentialsExpired("x"), Verdict.FAIL),
        (UsageError("x"), Verdict.FAIL),
        (ValueError("x"), Verdict.FAIL),
    ],
)
def test_verdicts(error: Exception, verdict: Verdict) -> None:
    assert classify(error) is verdict


def run(
    policy: RetryPolicy, fails: Callable[[int], Exception | None]
) -> tuple[int, float, list[Retried], Exception | None]:
    """Calls made, seconds passed, what was told, and the error at the end."""
    told: list[Any] = []
    calls = 0
    ended: Exception | None = None

    async def call() -> str:
        nonlocal calls
        calls += 1
        error = fails(calls)
        if error is not None:
            raise error
        return "done"

    async def main() -> float:
        nonlocal ended
        retrier = Retrier(policy, random=Random(5), emit=told.append)
        try:
            result, attempts = await retrier.run("get object", None, call)
            assert (result, attempts) == ("done", calls)
        except EngineError as error:
            ended = error
        return anyio.current_time()

    seconds = run_virtual(main)
    return calls, seconds, told, ended


def test_it_goes_on_until_the_attempts_are_used_up() -> None:
    calls, seconds, told, error = run(RetryPolicy(max_attempts=4), lambda n: s3("SlowDown", 503))
    assert calls == 4
    assert isinstance(error, S3Error) and error.s3_code == "SlowDown"
    assert error.facts["attempts"] == 4 and "attempts: 4" in str(error)
    assert [event.attempt for event in told] == [1, 2, 3]
    assert 0 < seconds < 0.2 + 0.4 + 0.8


def test_retry_after_is_obeyed() -> None:
    calls, seconds, _, error = run(
        RetryPolicy(), lambda n: s3("SlowDown", 503, retry_after=4.0) if n == 1 else None
    )
    assert (calls, error) == (2, None)
    assert 4.0 <= seconds < 4.3


def test_a_final_error_is_not_repeated() -> None:
    assert run(RetryPolicy(), lambda n: s3("EntityTooSmall"))[0] == 1


def test_an_expired_lease_costs_no_attempt_but_not_for_ever() -> None:
    calls, seconds, _, error = run(
        RetryPolicy(max_attempts=2),
        lambda n: s3("ExpiredToken") if n <= 2 else s3("SlowDown", 503) if n == 3 else None,
    )
    assert (calls, error) == (4, None)
    calls, seconds, _, error = run(RetryPolicy(), lambda n: s3("ExpiredToken"))
    assert calls == MAX_REFRESHES + 1
    assert seconds == 0


def test_the_shared_budget_ends_a_storm() -> None:
    async def main() -> int:
        retrier = Retrier(
            RetryPolicy(max_attempts=8, budget=50), random=Random(5), emit=lambda event: None
        )
        calls = 0

        async def call() -> None:
            nonlocal calls
            calls += 1
            raise s3("InternalError", 500)

        async def request() -> None:
            with pytest.raises(S3Error):
                await retrier.run("put object", None, call)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(request)
        return calls

    assert run_virtual(main) == 20 + 10


def test_one_refusal_in_five_is_not_given_up() -> None:
    """For ever: ten thousand requests, and no more than 1.3 times as many."""

    async def main() -> int:
        random, calls = Random(11), 0
        retrier = Retrier(RetryPolicy(), random=random, emit=lambda event: None)

        async def call() -> None:
            nonlocal calls
            calls += 1
            if random.random() < 0.2:
                raise s3("SlowDown", 503)

        async def worker() -> None:
            for _ in range(200):
                await retrier.run("put object", None, call)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(worker)
        return calls

    assert 10_000 < run_virtual(main) < 13_000


async def test_a_young_key_does_not_use_up_the_budget_of_all() -> None:
    """IAM takes seconds to tell everybody; 64 workers ask meanwhile."""
    budget = RetryPolicy(base_delay=0.0, max_delay=0.0, budget=5, max_attempts=2)
    retrier = Retrier(budget, random=Random(1), emit=lambda event: None)
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls < 200:
            error = S3Error("x", s3_code="InvalidAccessKeyId", status=403)
            error.again = "young"
            raise error
        return "known by now"

    assert (await retrier.run("put object", None, call))[0] == "known by now"
