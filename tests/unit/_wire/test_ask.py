"""One small request: over one connection, never redirected, and its answer shows no body."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine._wire.ask import SmallAnswer, asking
from engine._wire.endpoint import Origin as Address
from engine.config import Timeouts
from engine.errors import ConnectionFailed, RedirectRefused, UsageError
from engine.threads import ThreadDoor
from tests.unit.origin import answers, hang_up, run_origin


def address(port: int) -> Address:
    return Address("http", "127.0.0.1", port)


async def test_several_requests_go_over_one_connection() -> None:
    async with run_origin() as origin:
        origin.script.extend([answers(200, b"a"), answers(404, b"b")])
        async with asking(address(origin.port), Timeouts(), ThreadDoor()) as ask:
            first = await ask("PUT", "/x", {"a": "b"})
            second = await ask("GET", "/y?z=1", {})
        assert (first.status, first.body, second.status, second.body) == (200, b"a", 404, b"b")
        assert origin.connections == 1
        assert [(r.method, r.target) for r in origin.requests] == [("PUT", "/x"), ("GET", "/y?z=1")]
        assert origin.requests[0].headers["content-length"] == "0"
        assert origin.requests[0].headers["a"] == "b"
        assert origin.requests[0].headers["host"] == f"127.0.0.1:{origin.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_without_telling_the_path(status: int) -> None:
    async with run_origin() as origin, run_origin() as thief:
        origin.script.append(answers(status, location=f"http://127.0.0.1:{thief.port}/"))
        async with asking(address(origin.port), Timeouts(), ThreadDoor()) as ask:
            with pytest.raises(RedirectRefused) as caught:
                await ask("GET", "/secret-path", {"authorization": "secret"})
        assert "secret" not in str(caught.value)
        assert thief.connections == 0


async def test_what_goes_wrong_is_told_by_its_kind() -> None:
    async with run_origin() as origin:
        origin.script.append(hang_up)
        async with asking(address(origin.port), Timeouts(), ThreadDoor()) as ask:
            with pytest.raises(UsageError, match="authorization") as caught:
                await ask("GET", "/", {"authorization": "secret\r\nx: y"})
            assert "secret" not in str(caught.value)
            with pytest.raises(ConnectionFailed):
                await ask("GET", "/", {})
        assert len(origin.requests) == 1, "not repeated"


def test_an_answer_tells_its_date_and_hides_its_body() -> None:
    answer = SmallAnswer(200, {"date": "Tue, 24 Nov 2026 12:00:00 -0000"}, b"hunter2")
    assert answer.date == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert "hunter2" not in repr(answer)
    assert SmallAnswer(200, {}, b"").date is None
    assert SmallAnswer(200, {"date": "soon"}, b"").date is None
