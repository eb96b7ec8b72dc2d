"""What a journal keeps of the command that it is of: the arguments, without secrets.

What must not live here: what the arguments mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.redact import redact

# Agreed between two parties: nobody else's business, and so not kept.
_NOT_KEPT = re.compile(r"--(?:.*-)?external-id")
# User and password of a proxy or an endpoint.
_LOGIN = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^/@\s]*@")


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that may be kept, and the names of the flags that must be given again."""
    kept: list[str] = []
    left_out: list[str] = []
    waiting = list(reversed(arguments))
    flags = True  # until "--"
    while waiting:
        argument = waiting.pop()
        if argument == "--":
            flags = False
        if not flags or not argument.startswith("--"):
            kept.append(argument if _may_be_kept(argument) else redact(argument))
            continue
        name, sign, value = argument.partition("=")
        follows = "" if sign or not waiting or waiting[-1].startswith("--") else waiting[-1]
        if _NOT_KEPT.fullmatch(name) or not _may_be_kept(f"{name}={value or follows}"):
            left_out.append(name)
            if follows:
                waiting.pop()
        else:
            kept.append(argument)
    return kept, left_out


def _may_be_kept(argument: str) -> bool:
    return redact(argument) == argument and not _LOGIN.search(argument)
