"""What an error answer says of the credentials: the table of the lease rules, row by row."""

from __future__ import annotations

from typing import final

import pytest

from engine.errors import AccessDenied, S3Error
from engine.planes.lease_rules import is_near_expiry, judge
from engine.protocols import Lease
from engine.retry import Verdict, classify
from engine.types import Credentials

SESSION = Credentials("ASIA" + "X" * 16, "secret", "token")
USER = Credentials("AKIA" + "X" * 16, "secret")


@final
class WatchedLease(Lease):
    """Lives ``left`` s more, is ``old`` s old; ``renews`` is what a denial leads to."""

    def __init__(self, left: float = 600, old: float = 100, renews: bool = False) -> None:
        self.left, self.old, self.renews = left, old, renews
        self.asked: list[str] = []

    async def ready(self) -> Credentials:
        return SESSION

    async def at_least(self, seconds: float) -> Credentials:
        return SESSION

    def remaining(self, credentials: Credentials) -> float:
        return self.left

    def age(self, credentials: Credentials) -> float:
        return self.old

    def report_expired(self, credentials: Credentials) -> None:
        self.asked.append("expired")

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        self.asked.append("worked")

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        self.asked.append("unknown key" if unknown_key else "denied")
        return self.renews


def error(code: str, status: int = 400) -> S3Error:
    kind = AccessDenied if code == "AccessDenied" else S3Error
    return kind(f"put failed with {code}", s3_code=code, status=status)


@pytest.mark.parametrize(
    "code",
    ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidToken",
     "TokenRefreshRequired"],
)  # fmt: skip
async def test_a_code_that_names_expiry_is_reported_whatever_our_clock_says(code: str) -> None:
    lease, refused = WatchedLease(left=600), error(code)
    await judge(lease, SESSION, refused)
    assert lease.asked == ["expired"]
    assert classify(refused) is Verdict.REFRESH


async def test_a_denial_at_the_end_of_our_own_clock_is_expiry() -> None:
    lease, refused = WatchedLease(left=1.5), error("AccessDenied", 403)
    await judge(lease, SESSION, refused)
    assert lease.asked == ["expired"]
    assert classify(refused) is Verdict.REFRESH


@pytest.mark.parametrize(("renews", "verdict"), [(True, Verdict.REFRESH), (False, Verdict.FAIL)])
async def test_a_denial_far_from_the_end_is_asked_about(renews: bool, verdict: Verdict) -> None:
    lease, refused = WatchedLease(left=600, renews=renews), error("AccessDenied", 403)
    await judge(lease, SESSION, refused)
    assert lease.asked == ["denied"]
    assert classify(refused) is verdict


async def test_a_set_that_is_not_the_current_one_is_not_renewed_for_its_end() -> None:
    """Its life is over by our clock: the request is made again with the one that followed."""
    lease, refused = WatchedLease(left=0), error("AccessDenied", 403)
    await judge(lease, SESSION, refused)
    assert classify(refused) is Verdict.REFRESH


@pytest.mark.parametrize(
    ("keys", "old", "renews", "asked", "verdict"),
    [
        (SESSION, 3.0, False, [], Verdict.RETRY),  # not known everywhere yet
        (SESSION, 100.0, True, ["unknown key"], Verdict.REFRESH),
        (SESSION, 100.0, False, ["unknown key"], Verdict.FAIL),
        (USER, 3.0, True, ["unknown key"], Verdict.REFRESH),  # rotated
        (USER, 3.0, False, ["unknown key"], Verdict.FAIL),
    ],
)
async def test_an_unknown_key_is_young_or_rotated(
    keys: Credentials, old: float, renews: bool, asked: list[str], verdict: Verdict
) -> None:
    lease, refused = WatchedLease(old=old, renews=renews), error("InvalidAccessKeyId", 403)
    await judge(lease, keys, refused)
    assert lease.asked == asked
    assert classify(refused) is verdict


@pytest.mark.parametrize("code", ["SlowDown", "NoSuchKey", "400", "RequestTimeTooSkewed"])
async def test_other_errors_say_nothing_of_the_lease(code: str) -> None:
    lease = WatchedLease(left=1)
    refused = error(code, 404 if code == "NoSuchKey" else 400)
    await judge(lease, SESSION, refused)
    assert lease.asked == []
    assert refused.again == ""


@pytest.mark.parametrize(("left", "near"), [(0, True), (29, True), (31, False), (600, False)])
def test_near_its_end_a_bare_400_means_expired(left: float, near: bool) -> None:
    assert is_near_expiry(WatchedLease(left=left), SESSION) is near
