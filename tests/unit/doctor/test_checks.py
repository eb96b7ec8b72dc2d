"""What is said of an endpoint, a clock and a length of time, and how findings add up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.config import Endpoints
from engine.credentials.providers.static import StaticProvider
from engine.doctor import Finding, Setup, Status, Told, Verdict, open_tools
from engine.doctor.checks import check_clock, check_endpoint, duration_text
from engine.doctor.findings import failed, failed_with, ok, skipped, warning
from engine.doctor.reach import Answer
from engine.doctor.regions import is_opt_in, partition_of, sts_url
from engine.doctor.tools import Tools
from engine.errors import ConnectionFailed, CredentialsError
from engine.settings import GLOBAL_STS
from engine.types import Credentials

FINE = ok("source", "")
HERE = Answer(403, 0.3)
KEYS = StaticProvider(Credentials("AKIAIOSFODNN7EXAMPLE", "s"))


@asynccontextmanager
async def tools(region: str, sts: str | None = None) -> AsyncIterator[Tools]:
    async with open_tools(Setup(Endpoints(region=region, sts=sts), KEYS)) as made:
        yield made


@pytest.mark.parametrize(
    ("region", "sts", "status", "words"),
    [
        ("eu-west-1", None, Status.OK, "STS of eu-west-1 (https://sts.eu-west-1.amazonaws.com)"),
        ("cn-north-1", None, Status.OK, "https://sts.cn-north-1.amazonaws.com.cn"),
        ("af-south-1", None, Status.OK, "STS of af-south-1"),
        ("eu-west-1", GLOBAL_STS, Status.WARNING, "the global STS"),
        ("af-south-1", GLOBAL_STS, Status.WARNING, "af-south-1 is an opt-in region"),
        ("xx-new-9", GLOBAL_STS, Status.WARNING, "xx-new-9 is an opt-in region"),
        ("eu-west-1", "http://127.0.0.1:9000", Status.OK, "signed for eu-west-1"),
    ],
)
async def test_an_endpoint_is_regional_global_or_a_store_s_own(
    region: str, sts: str | None, status: Status, words: str
) -> None:
    """Version 1 tokens of the global STS are not valid in opt-in regions."""
    async with tools(region, sts) as made:
        found = check_endpoint(made, HERE)
    assert (found.check, found.status) == ("endpoint", status)
    assert words in found.text
    if status is Status.WARNING:
        assert any(f"sts.{region}" in fix or f"STS of {region}" in fix for fix in found.fix)


async def test_an_endpoint_that_is_not_there_fails_and_its_clock_is_not_known() -> None:
    gone = ConnectionFailed("could not connect")
    async with tools("eu-west-1") as made:
        found = check_endpoint(made, gone)
    assert (found.status, found.exit_code) == (Status.FAILED, 1)
    assert "https://sts.eu-west-1.amazonaws.com" in found.text and found.fix
    assert check_clock(gone, FINE).status is Status.SKIPPED
    assert check_clock(Answer(200, None), FINE).status is Status.SKIPPED


@pytest.mark.parametrize(
    ("offset", "status", "words"),
    [
        (0.0, Status.OK, "less than 2 s off"),
        (-1.9, Status.OK, "less than 2 s off"),
        (59.9, Status.OK, "60 s behind the server's"),
        (61.0, Status.WARNING, "61 s behind the server's"),
        (-299.0, Status.WARNING, "299 s ahead of the server's"),
        (301.0, Status.WARNING, "301 s behind the server's"),
        (-7200.0, Status.WARNING, "7200 s ahead of the server's"),
    ],
)
def test_a_clock_warns_from_a_minute_and_how_far_off_it_is_does_not_matter(
    offset: float, status: Status, words: str
) -> None:
    """The engine signs by the server's time; a key that is refused for itself changes nothing."""
    wrong_key = failed_with("source", CredentialsError("no", aws="SignatureDoesNotMatch (403)"))
    for source in (FINE, wrong_key):
        found = check_clock(Answer(403, offset), source)
        assert (found.status, found.text) == (status, words)
        if status is Status.WARNING:
            assert "engine corrects it" in found.detail[0] and "Set the clock" in found.fix[0]


def test_a_clock_fails_where_a_call_was_refused_for_it() -> None:
    skewed = failed_with("source", CredentialsError("no", aws="RequestTimeTooSkewed (403)"))
    assert check_clock(Answer(403, 400.0), skewed).status is Status.FAILED
    assert check_clock(Answer(403, 1.0), skewed).status is Status.OK


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (900, "15 min"), (3600, "1 h"), (5400, "1 h 30 min"), (43200, "12 h")],
)
def test_a_length_of_time_is_written_as_it_is_said(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_regions_since_2019_are_opt_in() -> None:
    assert [
        r for r in ("us-east-1", "eu-north-1", "cn-north-1", "us-gov-west-1") if is_opt_in(r)
    ] == []
    assert all(is_opt_in(r) for r in ("af-south-1", "ap-east-1", "me-south-1", "il-central-1"))
    assert [partition_of(r) for r in ("cn-north-1", "us-gov-east-1", "eu-west-1")] == [
        "aws-cn",
        "aws-us-gov",
        "aws",
    ]
    assert sts_url(Endpoints(sts="http://x")) == "http://x"


def test_the_verdict_is_the_gravest_finding_and_warnings_are_none() -> None:
    told: list[Told] = []
    verdict = Verdict(told.append)
    assert verdict.exit_code == 0
    for finding in (ok("a", ""), warning("b", ""), skipped("c", "")):
        verdict.tell(finding)
    assert (verdict.exit_code, verdict.warnings, verdict.checked) == (0, 1, 2)
    verdict.tell(failed("clock", "", exit_code=1))
    assert verdict.exit_code == 1
    verdict.tell(failed("write", "", missing=("s3:PutObject",)))
    verdict.tell(Finding("x", Status.FAILED, ""))
    assert (verdict.exit_code, verdict.failed, len(told)) == (3, 3, 6)
    assert list(verdict.missing) == ["s3:PutObject"]
