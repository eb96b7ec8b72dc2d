"""Files on their way into a TLS connection, one step at a time, as ``spans`` does over a plain one.

What lives here: the steps, and what a transport must do to lend its TLS to a mover. What must not:
waiting, choosing whose turn it is, HTTP, records that come in (``tls.py``).

One core reads a unit of the file, enciphers it and gives it to the kernel while it is in its cache.
By rings (``rings.py``) two cores touch every byte, and wake each other up for each piece: a tenth
more CPU and time.

Rules of this file
- OpenSSL's objects are not safe for two threads at once: while a span is under way nobody else
  touches what was lent. So nothing is read meanwhile, and a socket that has something to read ends
  the span: an early answer, an alert, a ticket or new keys. The loop reads it, and lends again if
  it was none of the first two.
- To write never takes from the incoming BIO (it does so in a handshake only), so that one may be
  shared by the connections of a loop; the outgoing one may not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, final

from engine._wire.spans import STEP, FileOut, Tools
from engine.types import KiB

# Of a record's plaintext (RFC 8446, 5.1).
RECORD = 16 * KiB
# What is read, enciphered and sent at once, and at most kept where the socket takes no more: with
# OpenSSL's own copy 230 KiB a connection, where a ring has 1 MiB. It is one call of OpenSSL, which
# lets go of the interpreter lock once. Measured: 16 KiB a third dearer, 64 a tenth, and from 128 on
# a tenth too: so much memory is asked of the system each time.
UNIT = 6 * RECORD
# Where turns are scarce a unit costs two or three waits, so that 10,000 small and four huge objects
# together took 1.17 to 1.24 times what they take alone. With this it is 1.05 to 1.14. It is
# kept where the socket takes no more, as above, and a connection that had one keeps OpenSSL's copy:
# 0.7 MiB.
LARGE_UNIT = 32 * RECORD


class LentTls(NamedTuple):
    """What a mover needs to encipher, and what it has to send before all else."""

    ssl: ssl.SSLObject
    outgoing: ssl.MemoryBIO
    unsent: memoryview


class TlsLender(asyncio.Transport, ABC):
    """A transport that can let a mover encipher and send."""

    @abstractmethod
    def lend(self) -> LentTls | None:
        """From now on nothing is read, written or deciphered; None where that cannot be.

        Only where nothing is left to be sent.
        """

    @abstractmethod
    def take_back(self, unsent: memoryview, heard: Callable[[], None]) -> None:
        """Go on reading; ``heard`` is called when something was read, or nothing more will come.

        ``unsent`` is sent before all else, but not before it must be: to write to a peer that has
        answered and gone would end the connection before its answer is read.
        """


@final
class FileToTls(FileOut):
    """Enciphered.

    Args:
        plain: Bytes of the file, of those that are left, that ``lent.unsent`` is made of.

    Attributes:
        unsent: Enciphered, and not taken by the socket.
        plain: Bytes of the file that it is made of.
    """

    events = selectors.EVENT_READ | selectors.EVENT_WRITE

    def __init__(
        self, lent: LentTls, head: bytes, descriptor: int, offset: int, left: int, plain: int
    ) -> None:
        super().__init__(head, descriptor, offset, left)
        self._ssl, self._outgoing, self.unsent = lent
        self.plain = plain

    @property
    def head(self) -> bytes:
        """What is not enciphered of it, which is all or nothing."""
        return bytes(self._head)

    def step(self, tools: Tools) -> None:
        if self.ready & selectors.EVENT_READ:
            self.heard = True
            return
        with tools.turns, contextlib.suppress(BlockingIOError):
            budget = STEP
            while budget > 0 and self.left and not self.ended:
                if not self.unsent:
                    self._encipher(tools)
                budget -= len(self.unsent)
                self._send()

    def _encipher(self, tools: Tools) -> None:
        scarce = tools.turns.are_scarce
        buffer, unit = (tools.large(LARGE_UNIT), LARGE_UNIT) if scarce else (tools.buffer, UNIT)
        view = buffer[: min(self.left, unit)]
        self.of_socket = False
        got = os.preadv(self.descriptor, [view], self.offset)
        # A file that has become shorter cannot be padded: there is no body to end well.
        self.ended = got == 0
        self.of_socket = True
        for part in (self._head, view[:got]):
            at = 0
            while at < len(part):
                at += self._ssl.write(part[at:])
        self.sent += len(self._head) + got
        self._head = self._head[:0]
        self.offset += got
        self.plain = got
        self.unsent = memoryview(self._outgoing.read())

    def _send(self) -> None:
        while self.unsent:
            gone = self.socket.send(self.unsent)
            self.unsent = self.unsent[gone:]
        self.left -= self.plain
        self.plain = 0
