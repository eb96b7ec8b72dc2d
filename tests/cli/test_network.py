"""What a user sees of the way to S3: another region, a proxy, an address that cannot be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Cli
from tests.unit.proxy import HttpProxy, run_proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    """A proxy in a thread of its own."""
    ready: list[HttpProxy] = []
    started, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with run_proxy() as found:
            ready.append(found)
            started.set()
            while not over.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(10)
    try:
        yield ready[0]
    finally:
        over.set()
        thread.join()


def test_another_region_is_said_once_and_can_be_an_error(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.file(f"t/{name}")
    asked = ("--region", "eu-west-1")
    followed, strict, listed = cli.run_each(
        ("cp", "t/", cli.url("t/"), *asked),
        ("cp", "t/", cli.url("u/"), *asked, "--region-mismatch", "error"),
        ("cp", "t/", cli.url("v/"), *asked, "--json"),
    )
    warning = (
        f"warning[B201]: bucket {cli.bucket} is in us-east-1, you asked for eu-west-1 (--region). "
        "Using us-east-1.\n  keep it: --region us-east-1    be strict: --region-mismatch error\n"
    )
    assert followed.check(0).err.count(warning) == followed.err.count("warning[") == 1
    assert cli.keys("t/") == ["t/a", "t/b", "t/c"]
    strict.check_error(1, "T110")
    assert "--region us-east-1, or --region-mismatch follow" in strict.err
    assert cli.keys("u/") == []
    (told,) = [row for row in listed.check(0).events() if row["event"] == "bucket_elsewhere"]
    assert (told["bucket"], told["region"], told["asked"], told["asked_from"]) == (
        cli.bucket,
        "us-east-1",
        "eu-west-1",
        "--region",
    )


def test_everything_goes_through_the_proxy_and_its_password_stays_secret(
    cli: Cli, proxy: HttpProxy
) -> None:
    place = cli.aws.endpoint.removeprefix("http://")
    proxy.hosts[place] = int(place.rpartition(":")[2])
    proxy.authorization = "Basic dXNlcjpTRUNSRVRTRUNSRVQ="  # user:SECRETSECRET
    role = cli.role_with("writer")
    cli.file("a", b"x" * 100_000)
    given = {"S3ENGINE_PROXY": f"http://user:SECRETSECRET@127.0.0.1:{proxy.port}"}
    done = cli.run("cp", "a", cli.url("a"), "--role-arn", role, "-vvv", env=given).check(0)
    assert cli.keys() == ["a"]
    assert len(proxy.asked) >= 2, "STS and S3"
    wrong = {"S3ENGINE_PROXY": f"http://user:SECRETSECRET2@127.0.0.1:{proxy.port}"}
    refused = cli.run("cp", "a", cli.url("b"), "-vvv", env=wrong).check_error(1, "T123")
    assert "(407)" in refused.err and "  fix: " in refused.err
    for text in (done.text, refused.text):
        assert "SECRETSECRET" not in text and "U0VDUkVU" not in text and "dXNlcjp" not in text
    count = len(proxy.asked)
    cli.run("cp", "a", cli.url("c"), "--proxy", "none", env=given).check(0)
    # Loopback is this machine: the environment's proxies are for others.
    cli.run("cp", "a", cli.url("d"), env={"HTTP_PROXY": given["S3ENGINE_PROXY"]}).check(0)
    assert len(proxy.asked) == count


def test_what_cannot_be_is_said_before_anything_is_sent(cli: Cli) -> None:
    cli.file("a")
    lines: list[tuple[object, ...]] = [
        (cli.url("a"), "--proxy", "socks5://user:SECRETSECRET@host"),
        (cli.url("a"), "--fips"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x/a",),
        (cli.url("a"), "--addressing-style", "virtual"),
    ]
    words = ("HTTP proxies only", "AWS's own", "-s3alias", "--addressing-style path")
    runs = cli.run_each(*(("cp", "a", *line) for line in lines))
    for done, said, code in zip(runs, words, (2, 2, 2, 1), strict=True):
        assert said in done.check(code).err
        assert "SECRETSECRET" not in done.text
    assert cli.keys() == []
