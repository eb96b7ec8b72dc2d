"""What people and programs read: errors, progress, JSON lines, logs.

stdout is data, stderr is for people.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError
from engine.events import (
    BucketElsewhere,
    BytesMoved,
    ClockCorrected,
    DownloadKept,
    Event,
    FileSkipped,
    LeaseExpired,
    LeaseRenewalFailed,
    LeaseRenewed,
    LeaseServedStale,
    LoadStep,
    ObjectDone,
    ObjectFailed,
    ObjectKnown,
    PartDone,
    Retried,
    StartedOver,
    TakenUp,
    UploadKept,
    UploadLeft,
    WalkDone,
)
from engine.redact import redact
from engine.types import GiB, KiB, MiB

if TYPE_CHECKING:
    from engine.cli.live import LiveLine

_LOG = logging.getLogger("engine")
# Seconds between two progress lines where stderr is not a terminal, and between two redraws
# where it is.
LINE_EVERY = 10.0
REDRAW_EVERY = 0.25
# A request that is made for the fourth time is worth a word.
RETRIES_BEFORE_WORDS = 3
# Failed objects that are named one by one.
MAX_FAILURE_LINES = 25


def print_error(error: EngineError) -> None:
    """``error[CODE]: what``, a fact a line, and what to do next. No traceback."""
    click.echo(redact(f"error[{error.code}]: {error.headline}"), err=True)
    for name, value in error.facts.items():
        click.echo(redact(f"  {name.replace('_', ' ') + ':':<12} {value}"), err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(redact(f"  note:        {note}"), err=True)
    if error.fix:
        click.echo(redact(f"  fix:         {error.fix}"), err=True)


def show_traceback(error: BaseException) -> None:
    """Where it happened, masked: an error of a library may quote what was sent."""
    import traceback  # hardly any run has one

    click.echo(redact("".join(traceback.format_exception(error))), err=True)


def mask_tracebacks() -> None:
    """Have what Python itself prints of errors that nobody catches go through the mask. Hooks of
    others stay."""

    def show(what: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
        if what.exc_value is not None:
            show_traceback(what.exc_value)

    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = lambda kind, error, trace: show_traceback(error)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = show
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = show


def size_text(size: float) -> str:
    """Bytes for people: ``1.5 MiB``."""
    for unit, name in ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


class _RedactingFilter(logging.Filter):
    """The last net: no record leaves with a secret that the patterns know."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_info = None  # a traceback may hold values
        return True


def set_up_logging(verbosity: int) -> None:
    """``-v`` info, ``-vv`` debug of the engine, ``-vvv`` debug of what lies below as well.

    botocore's and aiohttp's debug logs print keys and session tokens, so they stay at INFO
    however much is asked for.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(_RedactingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 3 else logging.WARNING)
    logging.getLogger("engine").setLevel(levels[min(verbosity, 3)])
    for name in ("botocore", "aiobotocore", "boto3", "aioboto3", "aiohttp", "urllib3", "asyncpg"):
        logging.getLogger(name).setLevel(logging.INFO if verbosity >= 3 else logging.WARNING)


@dataclass
class Progress:
    """Turns events into progress for people, or into JSON lines for programs.

    Args:
        run_id: Printed with each line.
        as_json: One versioned event a line on stdout; nothing on stderr but errors.
        skips: Codes of errors that are no failure in this run.
        limit: Bytes a second that the run keeps to; None for no limit.

    Attributes:
        known: Of the objects, those that an earlier process of the run had moved.
        earlier: Of the bytes, those that earlier processes had moved.
        left_out: Files and folders that are not to be moved.
    """

    run_id: str
    as_json: bool = False
    quiet: bool = False
    skips: frozenset[str] = frozenset()
    limit: int | None = None
    objects: int = 0
    failed: int = 0
    skipped: int = 0
    moved: int = 0
    retries: int = 0
    renewals: int = 0
    known: int = 0
    earlier: int = 0
    left_out: int = 0
    total: WalkDone | None = None
    started: float = field(default_factory=time.monotonic)
    _shown: float = 0.0
    _live: LiveLine | None = None

    def __call__(self, event: Event) -> None:
        self._count(event)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s", event)
        if self.as_json:
            self._print_json(event)
            return
        if isinstance(event, ObjectFailed):
            if event.code not in self.skips:
                self._failure(event)
        elif isinstance(event, Retried):
            if event.attempt >= RETRIES_BEFORE_WORDS and self.retries <= MAX_FAILURE_LINES:
                self._line(f"{event.operation}: {event.error}, again in {event.delay:.1f} s")
        elif isinstance(event, LeaseRenewed) and event.generation > 1:
            ends = f"{event.expires_at:%H:%M:%S}Z" if event.expires_at else "never"
            self._line(f"credentials renewed ({event.source}), end {ends}", detail=True)
        elif isinstance(event, LeaseRenewalFailed):
            if event.retry_in is not None:  # else the error that ends the run says it
                self._line(f"renewal failed ({event.error}), again in {event.retry_in:.1f} s")
        elif isinstance(event, LeaseServedStale):
            self._line(f"renewal is late; the session lives {event.remaining:.0f} s more")
        elif isinstance(event, LeaseExpired):
            why = "a server called it expired" if event.reported else "it was not renewed in time"
            self._line(f"session over: {why}; waiting for the next one", detail=event.reported)
        elif isinstance(event, UploadLeft):
            which = f"under upload id {event.upload_id}" if event.upload_id else "(if at all)"
            self._line(f"not aborted: parts of {event.url} stay at S3 {which}: {event.reason}")
        elif isinstance(event, BucketElsewhere):
            self._elsewhere(event)
        elif isinstance(event, TakenUp | StartedOver | UploadKept | DownloadKept):
            self._half_way(event)
        elif isinstance(event, FileSkipped):
            self._left_out(event)
        elif isinstance(event, LoadStep):
            self._line(f"{event.step}: {event.detail}", detail=True)
        self._tick()

    def _count(self, event: Event) -> None:
        if isinstance(event, BytesMoved):
            self.moved += event.size
        elif isinstance(event, ObjectDone):
            self.objects += 1
        elif isinstance(event, ObjectKnown):
            self.objects += 1
            self.known += 1
            self.moved += event.size
            self.earlier += event.size
        elif isinstance(event, TakenUp):
            self.earlier += event.size
        elif isinstance(event, WalkDone):
            self.total = event
        elif isinstance(event, ObjectFailed):
            self.skipped += event.code in self.skips
            self.failed += event.code not in self.skips
        elif isinstance(event, Retried):
            self.retries += 1
        elif isinstance(event, LeaseRenewed):
            self.renewals += event.generation > 1

    def state(self) -> str:
        """The summary of a run that is under way: how far of how much."""
        if self.total is None:
            return self.summary()
        done = self.objects + self.failed + self.skipped
        size = f", {size_text(self.moved)}"
        if self.total.size:
            share = min(self.moved / self.total.size, 1)
            size += f" of {size_text(self.total.size)} ({share:.0%})"
        return f"{self.summary()}; {done} of {self.total.objects}{size}"

    def summary(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-6)
        skipped = f"skipped {self.skipped}, " if self.skipped else ""
        if self.earlier:
            skipped = f"resumed {self.known} and {size_text(self.earlier)}, {skipped}"
        moved = self.moved - self.earlier
        limit = f" of {self.limit / MiB:.1f}" if self.limit is not None else ""
        return (
            f"run {self.run_id}: {self.objects} objects, {size_text(moved)} in "
            f"{seconds:.1f} s ({moved / MiB / seconds:.1f}{limit} MiB/s), {skipped}"
            f"failed {self.failed}, retries {self.retries}, renewals {self.renewals}"
        )

    def close(self) -> None:
        """Take the moving line away. To be called on every way out."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self) -> None:
        """The last line: what was done in all."""
        self.close()
        if not self.as_json and not self.quiet:
            click.echo(self.summary(), err=True)

    def _failure(self, event: ObjectFailed) -> None:
        """The first failures one by one; a thousand of one kind would hide all else."""
        if self.failed == MAX_FAILURE_LINES + 1:
            self._line("more failures are only counted; --json names them all")
        if self.failed > MAX_FAILURE_LINES:
            return
        ends = [event.path, str(event.url)]
        source, target = reversed(ends) if event.operation == "download" else ends
        self._line(f"failed {source} -> {target}: {event.error}")

    def _left_out(self, event: FileSkipped) -> None:
        self.left_out += 1
        if self.left_out == MAX_FAILURE_LINES + 1:
            self._line("more was left out; --json names all of it", detail=True)
        elif self.left_out <= MAX_FAILURE_LINES:
            self._line(f"left out: {event.path}: {event.reason}", detail=True)

    def _half_way(self, event: TakenUp | StartedOver | UploadKept | DownloadKept) -> None:
        if isinstance(event, TakenUp):
            size = size_text(event.size)
            text = f"{event.url}: {event.parts} of {event.of} parts are there already ({size})"
            self._line(text, detail=True)
        elif isinstance(event, StartedOver):
            self._line(f"started over: {event.url}: {event.reason}")
        else:
            self._line(f"kept half-way: {event.url}: {event.reason}", detail=True)

    def _elsewhere(self, event: BucketElsewhere) -> None:
        if not event.asked_from:
            return  # nobody asked for the other region
        self._line(
            f"warning[B201]: bucket {event.bucket} is in {event.region}, you asked for "
            f"{event.asked} ({event.asked_from}). Using {event.region}.\n"
            f"  keep it: --region {event.region}    be strict: --region-mismatch error"
        )

    def _line(self, text: str, *, detail: bool = False) -> None:
        if self.quiet and detail:
            return
        if self._live is not None:
            self._live.print(redact(text))
        else:
            click.echo(redact(text), err=True)

    def _tick(self) -> None:
        if self.quiet or not (self.objects or self.failed or self.moved):
            return
        now = time.monotonic()
        if sys.stderr.isatty():
            if self._live is None:
                from engine.cli.live import LiveLine

                self._live = LiveLine()
            if now - self._shown >= REDRAW_EVERY:
                self._shown = now
                self._live.show(self.state())
        elif now - (self._shown or self.started) >= LINE_EVERY:
            self._shown = now
            click.echo(self.state(), err=True)

    def _print_json(self, event: Event) -> None:
        row: dict[str, object] = {"v": 1, "run": self.run_id}
        if isinstance(event, ObjectDone):
            row |= {
                "event": "object",
                "op": event.operation,
                "url": str(event.url),
                "path": event.path,
                "bytes": event.size,
                "parts": event.parts,
                "seconds": round(event.seconds, 6),
                "status": "done",
            }
        elif isinstance(event, ObjectFailed):
            row |= {
                "event": "object",
                "op": event.operation,
                "url": str(event.url),
                "path": event.path,
                "status": "skipped" if event.code in self.skips else "failed",
                "code": event.code,
                "error": redact(event.error),
            }
        elif isinstance(event, LeaseRenewed):
            ends = event.expires_at.isoformat() if event.expires_at else None
            row |= {"event": "lease", "source": event.source, "expires_at": ends}
        elif isinstance(event, BucketElsewhere):
            row |= {
                "event": "bucket_elsewhere",
                "bucket": event.bucket,
                "region": event.region,
                "asked": event.asked,
                "asked_from": event.asked_from,
            }
        elif isinstance(event, ClockCorrected):
            row |= {"event": "clock_corrected", "seconds": round(event.seconds, 3)}
        elif isinstance(event, UploadLeft | UploadKept):
            name = "upload_left" if isinstance(event, UploadLeft) else "upload_kept"
            row |= {"event": name, "url": str(event.url), "upload_id": event.upload_id}
        elif isinstance(event, DownloadKept):
            row |= {"event": "download_kept", "url": str(event.url), "path": event.temporary}
        elif isinstance(event, StartedOver):
            row |= {"event": "started_over", "url": str(event.url), "reason": event.reason}
        elif isinstance(event, TakenUp):
            row |= {
                "event": "taken_up",
                "url": str(event.url),
                "parts": event.parts,
                "of": event.of,
                "bytes": event.size,
            }
        elif isinstance(event, ObjectKnown):
            row |= {
                "event": "object",
                "op": event.operation,
                "url": str(event.url),
                "path": event.path,
                "bytes": event.size,
                "status": "known",
            }
        elif isinstance(event, FileSkipped):
            row |= {"event": "left_out", "path": event.path, "reason": event.reason}
        elif isinstance(event, WalkDone):
            row |= {"event": "total", "objects": event.objects, "bytes": event.size}
        elif isinstance(event, LoadStep):
            row |= {"event": "load_step", "load": event.load_id, "step": event.step}
        elif isinstance(event, BytesMoved | PartDone | Retried | LeaseRenewalFailed):
            return
        print_json(row)


def print_json(row: dict[str, object]) -> None:
    """One line of data on stdout."""
    click.echo(json.dumps(row, ensure_ascii=True))
