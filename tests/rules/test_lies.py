"""Every verb against every lie: healed when the truth follows, an error by its name when not.

Time is virtual: stalls cost nothing, and how long a user would wait is known.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from random import Random

import pytest

from engine.cli.output import print_error
from engine.clock import LoopClock
from engine.config import Endpoints, RetryPolicy
from engine.errors import (
    AnswerTooSlow,
    ConnectionFailed,
    EngineError,
    ProtocolError,
    RedirectRefused,
    S3Error,
)
from engine.events import silent
from engine.planes.wire import WirePlane
from engine.planes.wire_control import WireControlPlane
from engine.retry import Retrier
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor
from engine.transfer.sinks import MemorySink
from tests.rules.conftest import Wire
from tests.rules.lies import BODIES, DOCUMENTS, HEADS, VERBS, Lie, Verb
from tests.unit.origin import Origin, answers, run_origin
from tests.unit.planes.test_wire import URL, StaticLease

# Virtual seconds: of one try that fails at once, with all its repetitions; of a listing; of tries
# that stall; of answers that never end.
AT_ONCE, LISTING, STALLED, DRIPPING, ENDLESS = 25.0, 5.0, 110.0, 260.0, 601.0
POLICY = RetryPolicy()


def lies_for(name: str, verb: Verb) -> Iterator[tuple[str, Lie, type[EngineError]]]:
    """What is told of this verb, and the error that it is to be."""
    for what, lie in HEADS.items():
        if (name, what) in _ALLOWED:
            continue
        yield what, lie, RedirectRefused if what == "a redirect" else lie.kind
    if name == "head":
        yield from _given(verb.lies)
        return
    if verb.reads == "document":
        yield from _given(BODIES)
        for what, lie in DOCUMENTS.items():
            if (name, what) not in _ALLOWED:
                yield what, lie, verb.kind if lie.kind is ProtocolError else lie.kind
    elif verb.reads == "bytes":
        for what in ("a body that stalls", "a body too short"):
            yield what, BODIES[what], ProtocolError
    yield from _given(verb.lies)


def _given(lies: Mapping[str, Lie]) -> Iterator[tuple[str, Lie, type[EngineError]]]:
    for what, lie in lies.items():
        yield what, lie, lie.kind


_ALLOWED = {
    # Ceph says nothing where there are no tags.
    ("tags", "nothing at all"),
    ("tags", "no content"),
    # No answer to HEAD has a document.
    ("head", "an error without its document"),
}
# S3 sends blanks while it works, for ten minutes at most.
_ENDLESS = ("a body that stalls", "chunks without an end", "blanks for ever")
_PATIENT = ("complete", "copy", "copy part")


async def told(name: str, what: str, lie: Lie, kind: type[EngineError], s3: Wire) -> Iterator[str]:
    """What is wrong with what came of one lie."""
    found: list[str] = []
    verb, clock = VERBS[name], LoopClock()
    retrier = Retrier(POLICY, random=Random(1), emit=silent)
    endless = name in _PATIENT and what in _ENDLESS
    if lie.heals and not endless:
        s3.origin.requests.clear()
        s3.origin.script.extend([lie.script, verb.good])
        try:
            await retrier.run(name, URL, lambda: verb.call(s3))
        except EngineError as error:
            found.append(f"{what}: not healed: {error!r}")
        # A kept connection that ends without an answer is replaced for nothing.
        if len(s3.origin.requests) != 2 + (what == "nothing" and len(s3.origin.requests) == 3):
            found.append(f"{what}: healed in {len(s3.origin.requests)} requests")
        s3.origin.script.clear()
    s3.origin.requests.clear()
    s3.origin.script.extend([lie.script] * 40)
    began = clock.monotonic()
    try:
        await retrier.run(name, URL, lambda: verb.call(s3))
    except EngineError as error:
        found += _judge(what, lie, kind, error, clock.monotonic() - began, s3.origin)
    else:
        found.append(f"{what}: taken for an answer")
    s3.origin.script.clear()
    return iter(found)


def _judge(
    what: str, lie: Lie, kind: type[EngineError], error: EngineError, took: float, origin: Origin
) -> Iterator[str]:
    if not isinstance(error, kind):
        yield f"{what}: {type(error).__name__} instead of {kind.__name__}: {error}"
    limit = LISTING if kind.__name__ == "BadListing" else AT_ONCE
    if isinstance(error, ConnectionFailed) or what == "an error without its document":
        limit = DRIPPING if what == "blanks for ever" else STALLED
    if isinstance(error, AnswerTooSlow):
        limit = ENDLESS
    if took > limit:
        yield f"{what}: took {took:.0f} s, {len(origin.requests)} requests"
    made = len(origin.requests)
    free = int(what == "nothing")
    if made > (lie.tries or POLICY.max_attempts) + free:
        yield f"{what}: {made} requests"
    if error.facts.get("attempts") not in (made, made - free):
        yield f"{what}: says {error.facts.get('attempts')} attempts of {made}"
    yield from _unclear(what, error)


def _unclear(what: str, error: EngineError) -> Iterator[str]:
    """What the command's words for it lack."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        print_error(error)
    first, *lines = said.getvalue().splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    wanted = {"attempts", "fix"} | ({"code", "status"} if isinstance(error, S3Error) else set())
    if not first.startswith(f"error[{error.code}]: ") or "s3://bucket" not in first:
        yield f"{what}: does not name the object: {first}"
    if lacking := sorted(name for name in wanted if not facts.get(name)):
        yield f"{what}: does not say {lacking}: {said.getvalue()}"
    if "Traceback" in said.getvalue() or len(said.getvalue()) > 2_000:
        yield f"{what}: too many words: {said.getvalue()[:2_000]}"


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Wire]:
    async with run_origin() as origin:
        threads = ThreadDoor()
        endpoints = Endpoints(s3=f"http://127.0.0.1:{origin.port}")
        lease, clock = StaticLease(), LoopClock()
        plane = WirePlane(endpoints, lease, clock=clock, threads=threads, user_agent="x")
        control = WireControlPlane(
            endpoints, lease, clock=clock, threads=threads, user_agent="x", beside=plane
        )
        try:
            yield Wire("http", origin, plane, control, lease)
        finally:
            await plane.aclose()
            threads.close()


@pytest.mark.parametrize("name", VERBS)
def test_every_lie_is_healed_or_named(name: str) -> None:
    async def main() -> list[str]:
        found: list[str] = []
        async with opened() as s3:
            for what, lie, kind in lies_for(name, VERBS[name]):
                found += await told(name, what, lie, kind, s3)
        return found

    found = run_virtual(main)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["put", "get", "list", "create", "copy", "head"])
def test_what_is_wrong_with_an_answer_names_its_request_id(name: str) -> None:
    """The store's owner finds it by that."""
    wrong = answers(200, b"<html/>", x_amz_request_id="REQUEST7")

    async def main() -> EngineError:
        async with opened() as s3:
            s3.origin.script.append(wrong)
            with pytest.raises(ProtocolError) as caught:
                await VERBS[name].call(s3)
            return caught.value

    assert run_virtual(main).facts["request_id"] == "REQUEST7"


@pytest.mark.parametrize("ids", ["of their own", "one for all"])
def test_an_answer_that_comes_twice_is_not_the_next_one(ids: str) -> None:
    """HTTP/1.1 tells answers apart by their order alone. S3's have ids; some stores' do not."""

    async def main() -> list[bytes]:
        got = []
        async with run_origin() as origin:
            threads = ThreadDoor()
            endpoints = Endpoints(s3=f"http://127.0.0.1:{origin.port}")
            clock = LoopClock()
            plane = WirePlane(
                endpoints, StaticLease(), clock=clock, threads=threads, user_agent="x"
            )
            numbers = ["A", "B", "B", "C"] if ids == "of their own" else ["A"] * 4
            bodies = [b"one", b"two", b"two", b"new"]
            origin.script.extend(
                answers(200, body, ETag='"e"', x_amz_request_id=number)
                for number, body in zip(numbers, bodies, strict=True)
            )
            retrier = Retrier(POLICY, random=Random(1), emit=silent)
            for _ in range(3):
                sink = MemorySink(3)
                await retrier.run(
                    "get object",
                    URL,
                    lambda sink=sink: plane.get_range(  # type: ignore[misc]
                        URL, sink, 0, range=None, etag=None, algorithm=None
                    ),
                )
                got.append(bytes(sink.data))
            await plane.aclose()
            threads.close()
        return got

    expected = [b"one", b"two", b"new" if ids == "of their own" else b"two"]
    assert run_virtual(main) == expected
