"""One run of the command: an engine made from flags, its loop, its signals.

What must not live here: which flags there are (``options.py``), what is printed (``output.py``).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from engine.cli.object_options import options_of_all
from engine.cli.options import network_of, role_from
from engine.cli.output import Progress, set_up_logging
from engine.config import TransferConfig
from engine.errors import CommitUnknown
from engine.events import Emit, Event, silent
from engine.limits import StoreLimits

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.cli.kept_run import Invocation

T = TypeVar("T")

# Of a signal's five seconds the rest is for the end of the process. What a journal has is not
# waited for any longer.
STOP_SECONDS = 4.0


class Session:
    """One run of the command: an engine made from flags, and its progress.

    Args:
        hook: Told every event besides.

    Attributes:
        invocation: The command line, where it keeps a journal.
    """

    def __init__(self, flags: dict[str, Any], hook: Emit = silent) -> None:
        set_up_logging(flags.get("verbose", 0))
        self.progress = Progress(
            run_id="",
            as_json=flags.get("as_json", False),
            quiet=flags.get("quiet", False),
            limit=flags.get("max_bandwidth"),
        )

        def tell(event: Event) -> None:
            self.progress(event)
            hook(event)

        self.invocation: Invocation | None = None
        self.engine = engine_of(flags, tell)
        self.progress.run_id = self.engine.run_id

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work`` with the engine open, on uvloop where it is installed.

        Raises:
            Stopped: SIGINT or SIGTERM came; what was open has been aborted, or is kept.
        """
        try:
            return run_until_signal(self.engine, work, self._late)
        finally:
            self.progress.close()

    def _late(self, number: int) -> None:
        """Nothing more is waited for: the journal has what is open, as after a crash."""
        if self.invocation is not None and self.invocation.go_on:
            self.progress.close()
            status = stopped(number, self.invocation.go_on)
            sys.stdout.flush()
            os._exit(status)


def engine_of(flags: Mapping[str, Any], hook: Emit) -> Engine:
    """The engine that the flags ask for, closed."""
    # What is loaded now lives as long as the process: nothing of it is worth a look by the
    # collector, now or later.
    gc.disable()
    from engine.api import Engine

    gc.freeze()
    gc.enable()
    return Engine(
        _role(flags),
        region=flags["region"],
        endpoint_url=flags["endpoint_url"],
        sts_endpoint_url=flags["sts_endpoint_url"],
        redshift_endpoint_url=flags.get("redshift_endpoint_url"),
        ca_bundle=flags["ca_bundle"],
        **network_of(flags),
        source=flags["source"],
        profile=flags["profile"],
        config=_config(flags),
        options=options_of_all(flags),
        hook=hook,
        refuse_long_chain=flags["refuse_long_chain"],
        data_plane=flags.get("data_plane", "wire"),  # the commands of credentials have none
    )


class Stopped(BaseException):
    """A signal ended the run, after everything open was cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stopped(number: int, go_on: str) -> int:
    """Say what a signal has left; the exit code."""
    if number != signal.SIGPIPE:  # that one is how programs in a pipe end
        what = f"go on with: {go_on}" if go_on else "the same command starts from the beginning"
        click.echo(
            f"stopped ({signal.Signals(number).name}): what was finished stays, nothing "
            f"unfinished is visible; {what}",
            err=True,
        )
    return 128 + number


def run_until_signal(
    manager: Any, work: Callable[[], Awaitable[T]], late: Callable[[int], None] | None = None
) -> T:
    """``work()`` inside the async context ``manager``, on uvloop where it is installed.

    Args:
        late: Called with the signal's number ``STOP_SECONDS`` after it, if all is not over.

    Raises:
        Stopped: SIGINT or SIGTERM came; what was open has been closed.
    """
    import anyio

    options = {"use_uvloop": _has_uvloop()}
    try:
        return anyio.run(_until_signal, manager, work, late, backend_options=options)
    except BrokenPipeError:
        # Nobody reads any more (`s3engine ls ... | head`); click would make it exit 1.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Stopped(signal.SIGPIPE) from None


async def _until_signal(
    engine: Any, work: Callable[[], Awaitable[T]], late: Callable[[int], None] | None = None
) -> T:
    """``work``, cancelled by the first signal; a second one stops at once."""
    import anyio

    results: list[T] = []
    errors: list[Exception] = []
    signals: list[int] = []

    async with anyio.create_task_group() as tasks:
        working = anyio.CancelScope()
        await tasks.start(_watch_signals, signals, working, late)
        try:
            with working:
                async with engine:
                    results.append(await work())
        except Exception as error:
            errors.append(error)  # raised below: the task group would put it into a group
        tasks.cancel_scope.cancel()
    if results:
        return results[0]  # a signal that came too late: all of it is done, and must say so
    # A signal that met the COMMIT must not hide that nobody knows what became of it.
    if errors and (not signals or isinstance(errors[0], CommitUnknown)):
        raise errors[0]
    raise Stopped(signals[0])


async def _watch_signals(
    signals: list[int],
    scope: Any,
    late: Callable[[int], None] | None,
    *,
    task_status: Any,
) -> None:
    import asyncio

    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            if signals:
                _at_once(int(number))
            signals.append(int(number))
            scope.cancel()
            if late is not None:
                asyncio.get_running_loop().call_later(STOP_SECONDS, late, int(number))


def _at_once(number: int) -> NoReturn:
    """A second signal waits for nothing."""
    click.echo("stopped at once: what was open at S3 or on the disk may stay", err=True)
    os._exit(128 + number)


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None


def _config(flags: Mapping[str, Any]) -> TransferConfig:
    names = (
        "multipart_threshold",
        "multipart_download_threshold",
        "part_size",
        "max_concurrency",
        "max_memory",
        "max_bandwidth",
        "checksum",
    )
    given = {name: flags[name] for name in names if name in flags}
    return TransferConfig(**given, limits=StoreLimits.of(flags.get("store_profile", "aws")))


def _role(flags: Mapping[str, Any]) -> Any:
    return role_from(flags, flags["role_arn"], flags["session_duration"])
