"""One broker for other threads and loops of the process: no second call, no hang."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import final

import anyio
import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.shared import SharedLease
from engine.errors import AssumeRoleDenied, SourceUnavailable, WrongLoop
from engine.protocols import CredentialProvider
from engine.testing.clock import run_virtual
from engine.types import Credentials

SECRET = "Canary-Secret-Key"


@final
class Source(CredentialProvider):
    """Sets of ``lifetime`` seconds; while ``open`` is clear a call waits."""

    def __init__(self, lifetime: float = 900, error: Exception | None = None) -> None:
        self.lifetime, self.error = lifetime, error
        self.calls = 0
        self.open = threading.Event()
        self.open.set()

    async def fetch(self) -> Credentials:
        self.calls += 1
        while not self.open.is_set():
            await asyncio.sleep(0.005)
        if self.error is not None:
            raise self.error
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return Credentials(
            f"ASIA{self.calls:012}",
            SECRET,
            "token",
            now + timedelta(seconds=self.lifetime),
            issued_at=now,
        )

    def describe(self) -> str:
        return "role test"


class Home:
    """A broker that runs in a loop and thread of its own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loop: asyncio.AbstractEventLoop
        self.shared: SharedLease
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        async with Broker(self.source, clock=LoopClock()) as broker:
            self.broker = broker
            self.loop = asyncio.get_running_loop()
            self.shared = broker.shared()
            self._ready.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def end(self) -> None:
        if self._thread.is_alive():
            self.source.open.set()
            with suppress(RuntimeError):  # it may have ended by itself just now
                self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        assert not self._thread.is_alive()


@contextmanager
def home(source: Source | None = None) -> Iterator[Home]:
    one = Home(source or Source())
    one.start()
    try:
        yield one
    finally:
        one.end()


def test_many_threads_and_loops_cost_one_call() -> None:
    async def in_a_loop(shared: SharedLease) -> list[Credentials]:
        return list(await asyncio.gather(*(shared.ready() for _ in range(50))))

    with home() as one, ThreadPoolExecutor(16) as threads:
        one.source.open.clear()
        gets = [threads.submit(one.shared.get) for _ in range(8)]
        loops = [threads.submit(asyncio.run, in_a_loop(one.shared)) for _ in range(4)]
        one.source.open.set()
        sets = [get.result(10) for get in gets]
        sets += [found for loop in loops for found in loop.result(10)]
        assert {found.access_key_id for found in sets} == {"ASIA000000000001"}
        assert one.source.calls == 1


def test_a_fresh_set_needs_no_hop() -> None:
    """The broker's loop does nothing for a while, and nobody notices."""
    with home() as one:
        one.shared.get(10)
        blocked, go_on = threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            assert go_on.wait(10)

        one.loop.call_soon_threadsafe(block)
        assert blocked.wait(10)
        try:
            assert one.shared.get(0).generation == 1
            assert asyncio.run(one.shared.ready()).generation == 1
        finally:
            go_on.set()


def test_a_waiter_that_gives_up_ends_no_renewal() -> None:
    async def cancelled(shared: SharedLease) -> None:
        with anyio.move_on_after(0.05) as scope:
            await shared.ready()
        assert scope.cancelled_caught

    with home() as one:
        one.source.open.clear()
        with pytest.raises(SourceUnavailable, match=r"no credentials of role test within 0\.05 s"):
            one.shared.get(0.05)
        asyncio.run(cancelled(one.shared))
        assert one.source.calls == 1
        one.source.open.set()
        assert one.shared.get(10).generation == 1
        assert one.source.calls == 1


def test_errors_come_as_they_are() -> None:
    with home(Source(error=AssumeRoleDenied("not you", fix="ask"))) as one:
        with pytest.raises(AssumeRoleDenied, match="not you"):
            one.shared.get()
        with pytest.raises(AssumeRoleDenied, match="not you"):
            asyncio.run(one.shared.ready())


async def test_a_blocking_call_in_the_brokers_own_loop_is_refused_only_if_it_must_wait() -> None:
    async with Broker(Source(), clock=LoopClock()) as broker:
        shared = broker.shared()
        with pytest.raises(WrongLoop, match="its event loop is blocked") as refused:
            shared.get()
        assert "asyncio.to_thread" in refused.value.fix
        assert (await shared.ready()).generation == 1
        assert shared.get().generation == 1
        assert (await asyncio.to_thread(shared.get)).generation == 1


def test_without_a_running_broker_there_is_nothing_to_share() -> None:
    with pytest.raises(WrongLoop, match="not running"):
        Broker(Source(), clock=LoopClock()).shared()


def test_after_the_end_of_the_loop_it_says_so() -> None:
    with home() as one:
        assert one.shared.get(10)
    with pytest.raises(WrongLoop, match="that renews role test has ended"):
        one.shared.get()
    with pytest.raises(WrongLoop, match="that renews role test has ended"):
        asyncio.run(one.shared.ready())


def test_who_waits_when_the_loop_ends_is_told() -> None:
    with home() as one, ThreadPoolExecutor(2) as threads:
        one.source.open.clear()
        waiting = [
            threads.submit(one.shared.get),
            threads.submit(asyncio.run, one.shared.ready()),
        ]
        while one.broker.statistics().waits < 2:
            time.sleep(0.005)
        one.loop.call_soon_threadsafe(one._stop.set)
        for each in waiting:
            with pytest.raises(WrongLoop, match="has ended|not running"):
                each.result(10)


async def test_a_broker_that_ends_before_its_loop_says_so() -> None:
    """Also to who waits at that moment, and for a set that is still good."""
    source = Source()
    broker = Broker(source, clock=LoopClock())
    async with broker:
        shared = broker.shared()
        assert (await shared.ready()).generation == 1
    for ask in (shared.ready(), asyncio.to_thread(shared.get)):
        with pytest.raises(WrongLoop, match="has ended"):
            await ask
    source.open.clear()
    async with Broker(source, clock=LoopClock()) as broker:
        waiting = asyncio.create_task(asyncio.to_thread(broker.shared().get))
        while not broker.statistics().waits:
            await asyncio.sleep(0.001)
    with pytest.raises(WrongLoop, match="not running"):
        await waiting


def test_a_loop_that_stands_still_keeps_nobody() -> None:
    """Stopped and not closed: nothing is cancelled, and nothing will ever answer."""
    loop = asyncio.new_event_loop()
    started, stop = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with Broker(Source(), clock=LoopClock()) as broker:
            shares.append(broker.shared())
            started.set()
            await stop.wait()

    shares: list[SharedLease] = []
    running = loop.create_task(main())
    try:
        loop.run_until_complete(started.wait())
        with pytest.raises(WrongLoop, match="has ended"):
            shares[0].get()
        with pytest.raises(WrongLoop, match="has ended"):
            asyncio.run(shares[0].ready())
        stop.set()
        loop.run_until_complete(running)
    finally:
        loop.close()


def test_on_a_virtual_clock_every_look_is_a_question() -> None:
    """``time.monotonic`` says nothing of a set there."""

    async def main() -> None:
        source = Source()
        async with Broker(source, clock=LoopClock()) as broker:
            shared = broker.shared()
            loop = asyncio.get_running_loop()
            first = await loop.run_in_executor(None, shared.get)
            assert shared.get() is first
            await anyio.sleep(899.5)
            second = await loop.run_in_executor(None, shared.get)
            assert (first.generation, second.generation, source.calls) == (1, 2, 2)

    run_virtual(main)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_after_a_fork_it_says_so_at_once() -> None:
    """Also for a set that is fresh: in the child nobody renews it."""
    async with Broker(Source(), clock=LoopClock()) as broker:
        shared = broker.shared()
        await shared.ready()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:  # the child: say what happens and vanish without a trace
            try:
                for ask in (shared.get, shared.ready().send):
                    try:
                        ask(None)
                    except WrongLoop as error:
                        os.write(write, f"{error.headline}; {error.fix}\n".encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        said = os.read(read, 1000).decode().splitlines()
        os.close(read)
    assert len(said) == 2
    assert all("opened before a fork" in line and "serve" in line for line in said)


async def test_it_shows_no_secret_and_stays_in_its_process() -> None:
    async with Broker(Source(), clock=LoopClock()) as broker:
        shared = broker.shared()
        await shared.ready()
        assert SECRET not in repr(shared) and "ASIA***" in repr(shared)
        with pytest.raises(WrongLoop, match="another process"):
            pickle.dumps(shared)
