"""Movers: threads of their own that serve many spans at once, as an event loop does.

What lives here: whose turn it is, and how a span is handed over and taken back. What must not: how
bytes move (``spans.py``), HTTP.

Rules of this file
- The loop's side appends orders and wakes the thread; it never waits for it. Only the thread
  touches the selector, the tools and a span's steps.
- ``over`` is the last thing that the thread writes to a span. Whoever gave it its descriptors
  must not close them before, so a span that is cancelled is taken back and waited for.

Why threads: a file on a slow disk blocks whoever writes it, and the loop must stay free. Why not
one a span: a network of many slow connections has more spans than threads are worth, and they
would fight for the interpreter lock. A mover wakes up once for half a MiB and asks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import final

from engine._wire.spans import Span, Tools
from engine.threads import ThreadDoor

# One core moves 2 GB/s. Up, one a core is worth it: on two cores the second mover took a fifth off
# the time, and no CPU. Down, more than half of the cores take from each other, and from the loop,
# what they win: a sixth more CPU for the same time.
_CORES = os.cpu_count() or 1
MAX_SENDERS, MAX_RECEIVERS = max(1, min(4, _CORES)), max(1, min(4, _CORES // 2))


@final
class Movers:
    """The movers of one plane; each is started when all others are at work.

    Args:
        threads: Starts them, and tells a virtual loop that they are at work.
        tools: What each of them works with; made once a thread.
    """

    def __init__(self, threads: ThreadDoor, tools: Callable[[], Tools] = Tools) -> None:
        self._threads = threads
        self._tools = tools
        self._movers: list[_Mover] = []
        self._closed = False
        for number in range(MAX_SENDERS):
            threads.watch(partial(self._at_work, number))

    def start(self, span: Span, descriptor: int, wake: Callable[[], None]) -> None:
        """Move ``span`` over a copy of the socket ``descriptor``; ``wake`` is called in the loop
        when it is over."""
        sends = bool(span.events & selectors.EVENT_WRITE)
        mover = self._next(MAX_SENDERS if sends else MAX_RECEIVERS)
        span.open(descriptor)
        self._threads.began()
        loop = asyncio.get_running_loop()

        def over() -> None:
            self._threads.ended()
            mover.spans -= 1
            wake()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(over)

        mover.start(span, tell)

    def drop(self, span: Span) -> None:
        """Nobody wants it any more; ``wake`` is called when the mover has let go of it, which is
        after the step that it is in: a millisecond on most disks."""
        for mover in self._movers:
            mover.drop(span)

    def close(self) -> None:
        """End the threads. Spans under way break off."""
        self._closed = True
        for mover in self._movers:
            mover.close()

    def _at_work(self, number: int) -> float:
        """Seconds that this one was at work so far."""
        return self._movers[number].at_work() if number < len(self._movers) else 0.0

    def _next(self, most: int) -> _Mover:
        """The first of ``most`` that has nothing to do, or the one that has least."""
        if self._closed:
            raise RuntimeError("the movers are closed")
        movers = self._movers[:most]
        if idle := next((mover for mover in movers if not mover.spans), None):
            return idle
        if len(movers) < most:
            mover = _Mover(self._tools())
            self._movers.append(mover)
            self._threads.dedicate(f"s3engine-mover-{len(self._movers)}", mover.work)
            return mover
        return min(movers, key=lambda mover: mover.spans)

    def __repr__(self) -> str:
        return f"<Movers {[mover.spans for mover in self._movers]}>"


@final
class _Mover:
    """One thread. ``spans`` is the loop's count of what it has to do."""

    def __init__(self, tools: Tools) -> None:
        self.spans = 0
        self._tools = tools
        self._orders: deque[Callable[[], None]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._under_way: dict[Span, Callable[[], None]] = {}
        self._running = True
        # Until now, and since when; the second is None while it waits for a socket.
        self._worked: tuple[float, float | None] = (0.0, None)

    # In the loop.

    def at_work(self) -> float:
        worked, since = self._worked
        return worked if since is None else worked + time.monotonic() - since

    def start(self, span: Span, tell: Callable[[], None]) -> None:
        self.spans += 1
        self._order(lambda: self._begin(span, tell))

    def drop(self, span: Span) -> None:
        self._order(lambda: self._finish(span))

    def close(self) -> None:
        self._order(self._stop)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with contextlib.suppress(OSError):  # full: it will hear; closed: it has ended
            self._bell.send(b"\0")

    # In the thread.

    def work(self) -> None:
        self._selector.register(self._ear, selectors.EVENT_READ)
        try:
            while self._running:
                for key, ready in self._wait():
                    if key.data is None:
                        self._listen()
                    elif key.data in self._under_way:
                        self._step(key.data, ready)
        finally:
            for span in list(self._under_way):
                self._finish(span)
            self._tools.close()
            self._tools.turns.close()
            self._selector.close()
            self._bell.close()
            self._ear.close()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        """For something to do. A disk, or a CPU, that it waits for elsewhere is work: one more
        request would wait for it, too."""
        self._worked = (self.at_work(), None)
        ready = self._selector.select()
        self._worked = (self._worked[0], time.monotonic())
        return ready

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)
        while self._orders:
            self._orders.popleft()()

    def _stop(self) -> None:
        self._running = False

    def _begin(self, span: Span, tell: Callable[[], None]) -> None:
        self._under_way[span] = tell
        try:
            span.begin(self._tools)
            self._selector.register(span.socket, span.events, span)
        except Exception as error:
            span.broke(error)
        self._look(span)

    def _step(self, span: Span, ready: int) -> None:
        span.ready = ready
        try:
            span.step(self._tools)
        except Exception as error:
            span.broke(error)
        self._look(span)

    def _look(self, span: Span) -> None:
        if span.error is not None or span.ended or span.heard or not span.left:
            self._finish(span)

    def _finish(self, span: Span) -> None:
        """Also what was dropped; the second time it does nothing."""
        tell = self._under_way.pop(span, None)
        if tell is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(span.socket)
        span.end()
        span.close()
        span.over = True
        tell()
