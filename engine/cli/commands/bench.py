"""``s3engine bench``: measure transfers to a bucket of the user's, beside other tools."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from engine.cli.options import (
    GroupedCommand,
    Size,
    engine_options,
    network_of,
    option,
    output_options,
    transfer_options,
)
from engine.cli.output import print_json, size_text
from engine.cli.session import Session
from engine.errors import UsageError
from engine.events import BucketElsewhere, Event
from engine.types import MiB, S3Url

if TYPE_CHECKING:
    from engine.bench.bench import Cost, JobResult, Measured, Plan
    from engine.bench.workload import Workload

_EPILOG = """\b
Examples:
  s3engine bench s3://bucket/tmp/
  s3engine bench s3://bucket/tmp/ --against aws-cli,s5cmd --size 256MiB --count 40 --rounds 7
  s3engine bench s3://bucket/tmp/ --workload upload-256KiB-10_000x.run.json --report b.html
"""
_JOBS = ("upload", "download", "list")
_ROUNDS = 5
# What an s3engine that is measured is told, where it was told to us.
_PASSED_ON = (
    "multipart_threshold",
    "multipart_download_threshold",
    "part_size",
    "max_concurrency",
    "max_memory",
    "max_bandwidth",
    "checksum",
)


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("prefix")
@option(
    "--against",
    default="",
    metavar="TOOL,...",
    help="aws-cli, s5cmd, boto3, obstore. What is not installed is named and left out.",
)
@option("--size", type=Size(), default=64 * MiB, show_default="64MiB", help="Of one object.")
@option(
    "--count", type=click.IntRange(min=1), default=16, show_default=True, help="How many objects."
)
@option(
    "--rounds",
    type=click.IntRange(min=1),
    help=f"Runs of each tool. Default: {_ROUNDS}, or what the workload says.",
)
@option(
    "--jobs",
    default=",".join(_JOBS),
    show_default=True,
    metavar="JOB,...",
    help="Which to measure.",
)
@option(
    "--workload",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of the format of aws-crt-s3-benchmarks, instead of size, count and jobs.",
)
@option(
    "--ceiling/--no-ceiling",
    default=True,
    show_default=True,
    help="Measure what bare sockets can move, too.",
)
@option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where files are written. Default: TMPDIR.",
)
@option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="The page; the figures go beside it as .json. Default: bench/<time>.html.",
)
@option("--yes", "-y", is_flag=True, help="Do not ask; needed where there is no terminal.")
@engine_options
@transfer_options
@output_options
@click.pass_context
def command(ctx: click.Context, /, prefix: str, **flags: Any) -> None:
    """Measure uploads, downloads and listings below PREFIX, which must be empty.

    Tools take turns, each run in a fresh process: throughput, CPU, peak memory, as medians with
    their range. No winner is named where ranges overlap. Everything that was written is deleted.
    """  # fmt: skip
    from engine.bench.bench import Bench, cost

    url, workload = S3Url.parse(prefix), _workload(flags)
    elsewhere: dict[str, str] = {}

    def hear(event: Event) -> None:
        if isinstance(event, BucketElsewhere):
            elsewhere[event.bucket] = event.region

    session = Session({**flags, "quiet": True, "as_json": False}, hear)
    paper = _Paper(flags, session.engine.run_id)
    with tempfile.TemporaryDirectory(prefix="s3engine-bench-", dir=flags["folder"]) as folder:
        plan = _plan(ctx, url, workload, Path(folder).resolve(), paper)
        plan = replace(plan, elsewhere=elsewhere)
        _agree(cost(plan), plan, flags)
        bench = Bench(session.engine, plan, tell=paper.told, say=paper.say)
        results = session.run(bench.run)
    paper.finish(results)
    if any(result.failed for result in results):
        ctx.exit(1)


def _names(text: str, flag: str, known: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(f"{flag}: {name!r} is not known", fix=f"Known: {', '.join(known)}")
    return names


def _workload(flags: dict[str, Any]) -> Workload:
    from engine.bench import workload

    if flags["workload"] is not None:
        return workload.read(flags["workload"])
    verbs: list[Any] = _names(flags["jobs"], "--jobs", _JOBS)
    if not verbs:
        raise UsageError("no job is left", fix=f"Known: {', '.join(_JOBS)}")
    if flags["size"] < 1:
        raise UsageError(f"objects of {flags['size']} bytes", fix="Give another --size")
    return workload.standard(verbs, flags["size"], flags["count"], _ROUNDS)


def _plan(ctx: click.Context, url: S3Url, workload: Workload, folder: Path, paper: _Paper) -> Plan:
    """What will be done, and under which conditions."""
    from click.core import ParameterSource

    from engine.bench.bench import Plan, look_for
    from engine.bench.tools import OURS, PEERS, our_checksum
    from engine.settings import endpoints_from

    flags, found = ctx.params, []
    for work in workload.works:
        if work.checksum is not None:
            our_checksum(work.checksum)  # refused here: nothing has been sent yet
    for name in (OURS, *_names(flags["against"], "--against", PEERS)):
        tool = look_for(name)
        if tool is None:
            paper.missing[name] = "not installed, or it does not start"
            paper.say(f"{name} is left out: {paper.missing[name]}")
        else:
            found.append(tool)
    network = network_of(flags)
    endpoints = endpoints_from(
        os.environ,
        region=flags["region"],
        s3=flags["endpoint_url"],
        ca_bundle=flags["ca_bundle"],
        profile=flags["profile"],
        **network,
    )
    if endpoints.ca_bundle:
        endpoints = structs.replace(endpoints, ca_bundle=os.path.abspath(endpoints.ca_bundle))
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    given = [n for n in _PASSED_ON if ctx.get_parameter_source(n) not in default]
    options = {name: flags[name] for name in given}
    rounds = flags["rounds"] or workload.rounds
    plan = Plan(
        url,
        workload,
        rounds,
        found,
        folder,
        endpoints,
        options,
        flags["ceiling"],
        _variables(network),
        {n: v for n, v in network.items() if v is not None and n != "proxy"},
    )
    paper.conditions = _conditions(plan, flags)
    return plan


def _variables(network: Mapping[str, Any]) -> dict[str, str]:
    """The way to the services for the tools: ours by its flags' variables, others by the proxy's.
    A proxy's address may hold a password, which no command line shows."""
    given = {name: value for name, value in network.items() if value is not None}
    found = {f"S3ENGINE_{name.upper()}": str(value).lower() for name, value in given.items()}
    if proxy := given.get("proxy"):
        found["S3ENGINE_PROXY"] = proxy
        if proxy != "none":
            found |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
    return found


def _conditions(plan: Plan, flags: Mapping[str, Any]) -> dict[str, Any]:
    from engine.bench import machine
    from engine.version import VERSION

    endpoint = plan.endpoints.s3
    tls = endpoint is None or endpoint.startswith("https")
    checksum = flags["checksum"] if not plan.workload.works[0].checksum else "as the workload says"
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "s3engine": VERSION,
        "machine": machine.machine(),
        "system": machine.system(),
        "load before": machine.load(),
        "python": machine.python(),
        "uvloop": machine.installed("uvloop") or "not installed",
        "endpoint": endpoint or f"AWS, {plan.endpoints.region}",
        "prefix": str(plan.prefix),
        "TLS": "on" if tls else "off",
        "checksum of s3engine": checksum,
        "options of s3engine": ", ".join(f"{k}={v}" for k, v in plan.options.items()) or "defaults",
        "files on": machine.file_system(plan.folder),
        "rounds": f"{plan.rounds}, interleaved",
        "workload": plan.workload.comment or "generated",
        "versions": {found.name: found.version for found in plan.found},
        "verifies": {found.name: found.tool.verifies for found in plan.found},
        "measured": "whole processes, start-up included; CPU of user and system with children; "
        "peak RSS of the main process",
    }


def _agree(asked: Cost, plan: Plan, flags: Mapping[str, Any]) -> None:
    """Say what it will move, and ask. Raises UsageError where nobody can be asked."""
    words = (
        f"this will upload about {size_text(asked.up)} and download {size_text(asked.down)} "
        f"in {asked.requests:,} requests below {plan.prefix}"
    )
    click.echo(words, err=True)
    click.echo(
        "  S3 bills requests, and bytes that leave its region; a versioned bucket keeps a version "
        "of each upload",
        err=True,
    )
    if flags["yes"]:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree to that", fix="Say --yes to start it")
    if not click.confirm("go on?", err=True):
        raise UsageError("not started")


class _Paper:
    """What is said while it runs, and written at the end."""

    def __init__(self, flags: Mapping[str, Any], run_id: str) -> None:
        self.conditions: dict[str, Any] = {}
        self.missing: dict[str, str] = {}
        self._flags = flags
        self._run_id = run_id

    def say(self, words: str) -> None:
        """Something that happened."""
        if not self._flags["quiet"]:
            click.echo(words, err=True)

    def told(self, result: JobResult, run: Measured) -> None:
        """A run is done."""
        from engine.bench.report import run_fields, title

        rate = run.rate / result.work.scale
        self.say(
            f"{title(result.work)}, round {run.round + 1}: {run.tool} {rate:,.1f} "
            f"{result.work.unit}, CPU {run.usage.cpu:.2f} s"
        )
        if self._flags["as_json"]:
            where = {"verb": result.work.verb, "tool": run.tool}
            self._line("bench_run", {**where, **run_fields(run)})

    def finish(self, results: Sequence[JobResult]) -> None:
        """Tables, or a line of JSON; then the files."""
        import json

        from engine.bench import report

        document = report.as_document(self.conditions, results, self.missing)
        if self._flags["as_json"]:
            self._line("bench_result", {k: v for k, v in document.items() if k != "v"})
        else:
            self._tables(results)
        page = self._flags["report"] or Path("bench") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.html"
        page = page.with_suffix(".html") if page.suffix == ".json" else page
        page.parent.mkdir(parents=True, exist_ok=True)
        figures = page.with_suffix(".json")
        figures.write_text(json.dumps(document, indent=1) + "\n")
        page.write_text(report.page(self.conditions, results, self.missing))
        self.say(f"wrote {page} (plots, full conditions) and {figures}")

    def _tables(self, results: Sequence[JobResult]) -> None:
        from engine.bench import report

        facts = self.conditions
        names = ("machine", "endpoint", "python", "uvloop", "TLS", "checksum of s3engine")
        click.echo("  ".join(f"{name}: {facts[name]}" for name in names[:2]))
        click.echo("  ".join(f"{name}: {facts[name]}" for name in names[2:]))
        for result in results:
            click.echo("\n" + report.table(result, facts["versions"]))
        click.echo(report.EXPLAINED)

    def _line(self, event: str, fields: Mapping[str, Any]) -> None:
        print_json({"v": 1, "event": event, "run": self._run_id, **fields})
