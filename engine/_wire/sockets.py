"""Looks past the transport at its socket. Neither blocks; both change nothing but the queue.

What must not live here: anything that a transport can do by itself.
"""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
from collections.abc import Callable

try:
    import fcntl
    import termios

    _TIOCOUTQ: int | None = getattr(termios, "TIOCOUTQ", None)
except ImportError:  # Windows
    _TIOCOUTQ = None


def listener(transport: asyncio.Transport) -> Callable[[], bool]:
    """Says whenever it is asked whether there is something to read: a byte or an EOF that the
    loop has not seen yet."""
    handle = transport.get_extra_info("socket")
    if handle is None or not hasattr(select, "poll"):
        return bool
    poll = select.poll()
    poll.register(handle.fileno(), select.POLLIN)
    ask = poll.poll
    return lambda: bool(ask(0))


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has not sent yet, or that the peer has not acknowledged; 0 where the
    system does not say."""
    handle = transport.get_extra_info("socket")
    if handle is None or _TIOCOUTQ is None or handle.fileno() < 0:
        return 0
    count = array.array("i", [0])
    try:
        fcntl.ioctl(handle.fileno(), _TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]


def read_left_over(transport: asyncio.Transport, view: memoryview) -> int:
    """Read what the kernel still holds of a plain connection that is being closed.

    A failed write makes a transport close without a last read. A server that answers early and
    then resets would not be heard, and its answer says why (403, 503).
    """
    handle = transport.get_extra_info("socket")
    if handle is None or handle.fileno() < 0:
        return 0
    done = 0
    try:
        # A copy of the descriptor: the transport's own belongs to the transport.
        with socket.socket(fileno=os.dup(handle.fileno())) as copy:
            while done < len(view):
                got = copy.recv_into(view[done:], 0, socket.MSG_DONTWAIT)
                if got == 0:
                    break
                done += got
    except OSError:
        pass  # nothing more there, or the reset itself
    return done
