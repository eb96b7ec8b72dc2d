"""Asks another program for something: no shell, bounded in time and output.

What must not live here: what the output means (``providers/process.py``, ``providers/saml.py``).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from os.path import basename

import anyio
import anyio.abc

from engine.errors import CredentialsError, UsageError
from engine.redact import redact

# Programs that ask an identity provider take seconds; AWS's SDK for Go gives them a minute too.
MAX_SECONDS = 60.0
# Keys are about 2 KiB of JSON, a SAML assertion at most 100,000 characters.
MAX_OUTPUT = 256 * 1024
# Programs that ask programs: one helper that wraps another is usual, a circle never ends.
MAX_DEPTH = 4
_DEPTH = "S3ENGINE_ASKED_PROGRAMS"
# What looks like a secret key or a session token, whatever stands before it.
_SECRET_LOOK = re.compile(
    r"(?<![\w/+])(?=[\w/+]*[a-z])(?=[\w/+]*[A-Z])(?=[\w/+]*\d)[A-Za-z0-9/+]{40}(?![\w/+=])"
    r"|(?:IQoJ|FwoG|FQoG|AQoD)[\w/+=-]{12,}"
)
# The last lines of what it wrote on stderr say what went wrong.
_TAIL = 400


def split_command(text: str, origin: str) -> tuple[str, ...]:
    """The words of a command line, by the rules of a POSIX shell.

    Raises:
        UsageError: A quote that does not close, or no word at all.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"the command of {origin} cannot be split: {error}") from None
    if not words:
        raise UsageError(f"the command of {origin} is empty")
    return words


async def ask_program(words: Sequence[str], *, seconds: float = MAX_SECONDS) -> bytes:
    """Run a program without input; returns what it wrote on stdout. A cancelled caller kills it.

    Raises:
        CredentialsError: It cannot be started, ended with an error or not in time, or writes too
            much. Not retryable: a program that asks its user something must not do so again and
            again.
    """
    name = basename(words[0])  # arguments may be secrets
    told = os.environ.get(_DEPTH, "")
    depth = int(told) if told.isdecimal() else 0
    if depth >= MAX_DEPTH:
        raise CredentialsError(
            f"{name} is asked for credentials by a program that was asked for credentials itself, "
            f"{depth} times over",
            fix="A profile's credential_process asks for that same profile: name another there",
        )
    try:
        process = await anyio.open_process(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, _DEPTH: str(depth + 1)},
        )
    except (OSError, ValueError) as error:
        raise CredentialsError(
            f"{name} cannot be run: {getattr(error, 'strerror', None) or 'not a command'}",
            fix="Is it there and executable? It is run without a shell, so ~ and | mean nothing",
        ) from None
    output, errors = bytearray(), bytearray()
    try:
        with anyio.fail_after(seconds):
            async with process, anyio.create_task_group() as tasks:
                tasks.start_soon(_take, process.stderr, errors)
                await _take(process.stdout, output)
                await process.wait()
    except TimeoutError:
        raise CredentialsError(f"{name} did not end within {seconds:g} s, and was killed") from None
    if process.returncode != 0:
        raise CredentialsError(
            f"{name} ended with status {process.returncode}", stderr=_last_words(errors)
        )
    if len(output) > MAX_OUTPUT:
        raise CredentialsError(f"{name} wrote more than {MAX_OUTPUT} bytes")
    return bytes(output)


async def _take(stream: anyio.abc.ByteReceiveStream | None, into: bytearray) -> None:
    """Keep the first ``MAX_OUTPUT`` bytes and one more; read the rest over."""
    assert stream is not None
    async for piece in stream:
        into += piece[: MAX_OUTPUT + 1 - len(into)]


def _last_words(errors: bytearray) -> str:
    """The end of stderr on one line, without secrets and without control characters."""
    text = _SECRET_LOOK.sub("***", redact(errors.decode("utf-8", "replace")))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _TAIL else "..." + line[-_TAIL:]
