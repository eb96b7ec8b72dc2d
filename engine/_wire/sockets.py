"""Two looks past the transport at its socket. Neither blocks; both change nothing but the queue.

What must not live here: anything that a transport can do by itself.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket


def is_silent(transport: asyncio.Transport) -> bool:
    """Whether there is nothing to read: no byte and no EOF that the loop has not seen yet."""
    handle = transport.get_extra_info("socket")
    if handle is None or not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(handle.fileno(), select.POLLIN)
    return not poll.poll(0)


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
