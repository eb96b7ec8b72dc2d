"""One run of one peer: the files it needs, its process, what the origin saw.

What lives here: the work folders and one measured process. What must not: tables, plans. The
process is started by ``launch``, which is small: a child's peak memory never shows less than its
parent's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fast_origin.build import Programs
from benchmarks.fast_origin.process import Counts, OriginProcess
from benchmarks.files import check_files
from benchmarks.harness import RunFailed
from benchmarks.peers.job import BUCKET, CANNOT, REGION
from benchmarks.peers.plan import LISTED_SIZE, Cell, Step, Work
from benchmarks.report_compare import REQUESTS

ROOT = Path(__file__).parents[2]
ROLE = "arn:aws:iam::123456789012:role/bench"
# A run that hangs is ended; the slowest honest one takes a few minutes.
RUN_SECONDS = 900.0
# Memory of a run beside the file that it writes: the client's own, and its sockets'. Bytes; less
# where little is moved.
_WORKING_MEMORY, _LEAST_MEMORY = 2**30, 2**26
# Of the memory that is free, no more than so much is touched.
_TOUCHED_SHARE = 0.5
_TOUCH = """
import mmap, sys
mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""
_NUMBERS = (
    "connections",
    "in_use_us",
    "bytes_in",
    "bytes_out",
    "bytes_summed",
    "sum_good",
    "whole_good",
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share.

    Attributes:
        folders: ``tmpfs`` and ``disk``: where files are read and written.
    """

    programs: Programs
    origin: OriginProcess
    folders: dict[str, Path]
    scratch: Path


def small_name(number: int) -> str:
    """As the origin names the keys of a listing."""
    return f"{number // 1000:05d}/{number:07d}"


def prepare(bench: Bench, cell: Cell, work: Work) -> Path:
    """The source of an upload, which is also what a download is compared with."""
    if work.verb == "list":
        return bench.scratch
    root = bench.folders[work.medium]
    if work.tree:
        source = root / f"small-{cell.sizes.small}-{cell.sizes.count}"
        if not source.exists():
            names = [small_name(number) for number in range(cell.sizes.count)]
            bench.origin.fetch_many(BUCKET, _key(cell, work, down=True), names, source)
        return source
    source = root / f"big-{cell.sizes.big}"
    if not source.exists():
        for old in root.glob("big-*"):
            old.unlink()
        bench.origin.fetch(BUCKET, _key(cell, work, down=True), source)
        os.sync()  # what is dirty now would be written while the first client is measured
    return source


def _key(cell: Cell, work: Work, *, down: bool) -> str:
    sizes = cell.sizes
    if work.verb == "list":
        return f"s/{LISTED_SIZE}/{sizes.keys}/"
    if work.tree:
        return f"s/{sizes.small}/{sizes.count}/" if down else "up/small/"
    return f"s/{sizes.big}/1/big" if down else "up/big"


def run(bench: Bench, step: Step, work: Work, python: Path, *, content: bool) -> dict[str, Any]:
    """One run to its end; what it wrote is checked and removed.

    Args:
        content: Compare every byte of what was downloaded, else names and sizes.

    Returns:
        What belongs into the results file; ``status`` is ``ok`` or ``cannot``.

    Raises:
        RunFailed: Also where it ended well but the bytes are not right.
    """
    source = prepare(bench, step.cell, work)
    target = bench.folders.get(work.medium, bench.scratch) / "out"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        path = source if work.verb != "down" else target / source.name
        command = step.peer.command(python, _fields(bench, step, work, path))
        if command is None:
            return {"status": "cannot"}
        if work.tree and work.verb == "down":
            path.mkdir()
        warm_memory(step.cell.moved(), written=work.verb == "down")
        before = bench.origin.counts()
        used = _launch(bench, command, _environment(bench, step))
        if used["status"] == CANNOT:
            return {"status": "cannot"}
        seen = _difference(before, bench.origin.counts())
        _check_counts(step.cell, work, seen)
        if work.verb == "down":
            check_files(source, path, content=content)
        return _result(used, seen)
    finally:
        shutil.rmtree(target)
        if work.medium == "disk":
            os.sync()  # the next client is not to pay for this one's writes


def warm_memory(moved: int, *, written: bool) -> None:
    """Touch as much memory as a run that moves so many bytes may need, and free it again.

    A virtual machine gives memory that is free back to its host within seconds (free page
    reporting, as of virtio-balloon), and gets it again page by page, at the expense of whoever
    touches it first. A client would pay for what the one before it had freed: up to four times the
    system time of a download into memory. By a process of its own, which leaves no trace in the
    peak memory of those that are started later.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    working = min(_WORKING_MEMORY, _LEAST_MEMORY + moved)
    size = min(moved * written + working, int(free * _TOUCHED_SHARE))
    subprocess.run([sys.executable, "-I", "-S", "-c", _TOUCH, str(size)], check=True)


def _fields(bench: Bench, step: Step, work: Work, path: Path) -> dict[str, Any]:
    cell = step.cell
    return {
        "verb": work.verb,
        "tree": work.tree,
        "endpoint": bench.origin.endpoint(cell.transport),
        "path": str(path),
        "key": _key(cell, work, down=work.verb == "down"),
        "size": cell.sizes.small if work.tree else cell.sizes.big,
        "count": cell.sizes.keys if work.verb == "list" else cell.sizes.count,
        "checksums": cell.checksums,
        "role": ROLE if cell.auth == "role" and step.peer.assumes else "",
        "ca": bench.origin.ca if cell.transport == "https" else "",
    }


def _environment(bench: Bench, step: Step) -> dict[str, str]:
    """The caller's, without anything that would send a client elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "S3ENGINE_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }
    key, secret, token = "AKIDBENCHMARKONLY", "not-a-secret-of-anybody", ""
    if step.cell.auth == "role" and not step.peer.assumes:
        key, secret, token = bench.origin.assume_role()
    kept |= {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if token:
        kept["AWS_SESSION_TOKEN"] = token
    if step.cell.transport == "https":
        kept |= {"AWS_CA_BUNDLE": bench.origin.ca, "SSL_CERT_FILE": bench.origin.ca}
    return kept


def _launch(bench: Bench, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    report, log = bench.scratch / "usage.json", bench.scratch / "output.txt"
    report.unlink(missing_ok=True)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(bench.programs.launch), str(report), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=ROOT,
            env=environment,
        )
        try:
            process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its child dies with it
            process.wait()
            raise RunFailed(f"not done after {RUN_SECONDS:.0f} s") from None
        except BaseException:
            process.kill()
            process.wait()
            raise
    if not report.exists():
        raise RunFailed(f"not started: {_last_words(log)}")
    used: dict[str, Any] = json.loads(report.read_text())
    if used["status"] not in (0, CANNOT):
        raise RunFailed(f"exit status {used['status']}: {_last_words(log)}")
    return used


def _last_words(log: Path) -> str:
    """The last line that says something: where Python and Go put the error."""
    lines = log.read_text(errors="replace").splitlines()
    said = [line.strip() for line in lines if any(letter.isalpha() for letter in line)]
    return said[-1][:300] if said else "it said nothing"


def _difference(before: Counts, after: Counts) -> Counts:
    numbers = {
        name: value - before[name]
        for name, value in after.items()
        if isinstance(value, int | float)
    }
    return numbers | {"open_uploads": after["open_uploads"], "last_problem": after["last_problem"]}


def _check_counts(cell: Cell, work: Work, seen: Counts) -> None:
    """What the origin saw must be the job, no more and no less."""
    if seen["problems"]:
        raise RunFailed(f"the origin saw: {seen['last_problem']}")
    if seen["sum_bad"] or seen["whole_bad"]:
        raise RunFailed("a checksum that was sent is not that of the bytes")
    if work.verb == "list":
        pages = -(-cell.sizes.keys // 1000)
        if seen["list"] != pages:
            raise RunFailed(f"{seen['list']} pages were asked for instead of {pages}")
        return
    expected = cell.moved()
    moved = seen["bytes_in"] if work.verb == "up" else seen["bytes_out"]
    if moved != expected:
        raise RunFailed(f"moved {moved} bytes instead of {expected}")
    if seen["open_uploads"]:
        raise RunFailed(f"{seen['open_uploads']} multipart uploads were left open")


def _result(used: dict[str, Any], seen: Counts) -> dict[str, Any]:
    return {
        "status": "ok",
        "wall": used["wall"],
        "cpu": round(used["user"] + used["system"], 6),
        "user": used["user"],
        "system": used["system"],
        # Very short runs may end between two looks; the kernel's own figure is then the better.
        "rss": 1024 * (used["hwm_kib"] or used["max_rss_kib"]),
        "max_rss_tree": 1024 * used["max_rss_kib"],
        "origin_cpu": round(seen["user_seconds"] + seen["system_seconds"], 6),
        "origin": {name: seen[name] for name in (*REQUESTS, *_NUMBERS)},
    }
