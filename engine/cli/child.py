"""A child process that is no more than a command typed at the shell, but for its credentials.

What lives here: its start, the signals that it gets, its end. What must not: what it sees
(``child_environment.py``).

Theory of operation
The process forks at once, before it has threads, loops or sockets, because a fork beside threads
may leave a lock held for ever in the child. The child waits at a pipe for its environment, which
is sent when the first credentials are there, and then becomes the command; where the pipe ends
without one it vanishes, so a role that cannot be assumed starts nothing. It stays in our process
group and has our terminal: what is typed there (Ctrl-C, Ctrl-Z) reaches both of us by itself. On
Linux the kernel ends it with SIGTERM when we die in a way that cannot be handled (SIGKILL).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NoReturn, Self

import anyio

from engine.errors import UsageError
from engine.threads import ThreadDoor

NOT_FOUND = 127
"""Exit code of a command that does not exist, as the shells have it."""
NOT_EXECUTABLE = 126

# Seconds that a child has between SIGTERM and SIGKILL, where it must end because we do.
GRACE = 5.0

# SIGWINCH, SIGTSTP and SIGCONT come to the whole group from the terminal.
_FORWARDED = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_TYPED = ("SIGINT", "SIGQUIT")
# Which of prctl's options sends a signal when the parent dies (linux/prctl.h).
_PR_SET_PDEATHSIG = 1


class CommandMissing(UsageError):
    """The command cannot be started.

    Attributes:
        status: What a shell's exit code would be.
    """

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"cannot run {name}: {os.strerror(number)}", fix="Check its name and PATH")
        self.status = NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE


class Child:
    """A forked process that waits to become ``line``. A context manager: left before ``run``, it
    ends the process that waits."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line = list(line)
        environment, self._environment = os.pipe()
        self._fault, fault = os.pipe()
        self._released = False
        self._reaped = False
        self._over = anyio.Event()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._environment)
            os.close(self._fault)
            _become(self._line, environment, fault, parent)
        os.close(environment)
        os.close(fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._released:
            os.close(self._environment)  # without an environment it vanishes
            os.close(self._fault)
        elif not self._reaped:  # nobody waited for its end: no way out may leave it behind
            self._send(signal.SIGKILL)
        if not self._reaped:
            self._reap()

    async def run(self, environment: Mapping[str, str]) -> int:
        """Start the command and wait for its end. Returns its exit code, 128 + n for signal n.

        Raises:
            CommandMissing: It cannot be started.
        """
        door = ThreadDoor(1)
        try:
            with anyio.open_signal_receiver(*_forwarded()) as received:
                await door.run(self._release, environment)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._forward, received)
                    tasks.start_soon(self._end_with_us)
                    try:
                        # Not reaped yet, so that no signal meets another process of this id.
                        await door.run(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                    finally:
                        self._over.set()
                    tasks.cancel_scope.cancel()
                return self._reap()
        finally:
            door.close()

    def _release(self, environment: Mapping[str, str]) -> None:
        """Send the environment; comes back when the child has become the command, or cannot."""
        self._released = True
        with os.fdopen(self._environment, "wb") as pipe, suppress(BrokenPipeError):
            pipe.write(json.dumps(dict(environment)).encode())
        with os.fdopen(self._fault, "rb") as pipe:
            fault = pipe.read()
        if fault:
            raise CommandMissing(self._line[0], int(fault))

    async def _forward(self, received: AsyncIterator[signal.Signals]) -> None:
        async for number in received:
            if number.name in _TYPED and _at_terminal():
                continue  # the terminal has sent it to the child too
            self._send(number)

    async def _end_with_us(self) -> None:
        """Where this task is cancelled while the child lives, the child has to end too."""
        try:
            await anyio.sleep_forever()
        finally:
            if not self._over.is_set():
                self._send(signal.SIGTERM)
                with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE):
                    await self._over.wait()
            if not self._over.is_set():
                self._send(signal.SIGKILL)

    def _reap(self) -> int:
        self._reaped = True
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code if code >= 0 else 128 - code

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _become(line: list[str], environment: int, fault: int, parent: int) -> NoReturn:
    """In the child: wait for the environment, then be the command. Never comes back."""
    try:
        # What Python has set up for itself is not for the command; what was ignored stays so.
        for name in ("SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        _end_with_parent(parent)
        with os.fdopen(environment, "rb") as pipe:
            text = pipe.read()
        if text:
            os.execvpe(line[0], line, json.loads(text))
    except OSError as error:
        os.write(fault, str(error.errno or 0).encode())
    finally:
        os._exit(NOT_FOUND)


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os._exit(NOT_FOUND)


def _forwarded() -> list[signal.Signals]:
    """Signals to pass on; what we were told to ignore (nohup) the child ignores too."""
    numbers = [signal.Signals[name] for name in _FORWARDED]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _at_terminal() -> bool:
    """Whether we are in the foreground of a terminal, where signals are typed."""
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
